"""Looking at folders: images by suffix, subfolders in any case, and what cannot be listed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..bench.errors import DataError, LayoutError
from ..bench.folders import folders_in, is_debris, is_folder

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})


class UnreadableFolder(DataError):
    """A folder is there and cannot be listed."""

    def __init__(self, folder: Path, why: object) -> None:
        super().__init__(f"folder {folder} cannot be listed: {why}")


def list_images(folder: Path) -> list[Path]:
    """Image files of one folder by suffix (any case), sorted by name; nothing is opened.

    Raises:
        UnreadableFolder: the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = [
                e.name
                for e in entries
                if not is_debris(e.name)
                and os.path.splitext(e.name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 (speed)
                and not is_folder(e)
            ]
    except OSError as error:
        raise UnreadableFolder(folder, error.strerror or error) from error
    return [folder / name for name in sorted(names)]


def subfolders(folder: Path | None) -> dict[str, Path]:
    """Folders in a folder, by lower-case name, sorted; hidden ones are left out.

    Raises:
        LayoutError: two names differ only in case, so that they mean the same.
    """
    found: dict[str, Path] = {}
    for path in [] if folder is None else folders_in(folder):
        twin = found.setdefault(path.name.lower(), path)
        if twin != path:
            raise LayoutError(
                f"folders {twin} and {path} differ only in case: rename or remove one of them"
            )
    return found


def unreadable(folder: Path) -> str:
    """Why a folder cannot be listed, "" if it can."""
    try:
        with os.scandir(folder):
            return ""
    except OSError as error:
        return str(error.strerror or error)


def refuse_unreadable(*folders: Path | None) -> None:
    """Raise `UnreadableFolder` for the first that cannot be listed; None stands for no folder.

    `subfolders` finds nothing in such a folder, which would pass for an empty one.
    """
    for folder in folders:
        if folder is not None and (why := unreadable(folder)):
            raise UnreadableFolder(folder, why)


def lacking(parts: Mapping[str, Path | None]) -> str:
    """What is missing where some of a layout's parts are there; "" if all or none are."""
    there = [name for name, path in parts.items() if path is not None]
    absent = [name for name, path in parts.items() if path is None]
    if not there or not absent:
        return ""
    return f"it has {', '.join(there)}, but not {', '.join(absent)}"


def lacking_folders(folder: Path, *sides: Sequence[str]) -> str:
    """`lacking` for subfolders, each known by several names of which the first is told."""
    return lacking({f"folder {names[0]}": child(folder, *names) for names in sides})


def child(folder: Path | None, *names: str) -> Path | None:
    """The first subfolder that has one of the names, in any case."""
    if folder is None:
        return None
    found = subfolders(folder)
    return next((found[name] for name in names if name in found), None)


def descend(folder: Path | None, *names: str) -> Path | None:
    """Follow a path of lower-case folder names, in any case."""
    place = folder
    for name in names:
        place = child(place, name)
    return place


def find_file(folder: Path, *names: str) -> Path | None:
    """The first regular file of a folder that has one of the lower-case names, in any case."""
    try:
        with os.scandir(folder) as entries:
            found = {e.name.lower(): e.name for e in entries if e.is_file()}
    except OSError:
        return None
    return next((folder / found[name] for name in names if name in found), None)


def begins_with(folder: Path, name: str, word: bytes) -> bool:
    """Whether a folder has a file of a lower-case name with a word, in any case, near its start."""
    path = find_file(folder, name)
    if path is None:
        return False
    with path.open("rb") as file:
        return word in file.read(200).lower()


def few(items: Iterable[object], limit: int = 3) -> str:
    """The first items in words, and how many more there are."""
    texts = [str(item) for item in items]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more
