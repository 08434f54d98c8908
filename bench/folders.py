"""What is in a folder of a user's data, without what operating systems leave there."""

from __future__ import annotations

import os
from pathlib import Path


def is_debris(name: str) -> bool:
    """Whether a file or folder is hidden, or what macOS leaves in archives."""
    return name.startswith((".", "__MACOSX"))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link to itself is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def folders_in(parent: Path) -> list[Path]:
    """The folders in a folder, sorted by name; none if it cannot be listed."""
    try:
        with os.scandir(parent) as entries:
            names = sorted(e.name for e in entries if is_folder(e) and not is_debris(e.name))
    except OSError:
        return []
    return [parent / name for name in names]
