"""Where a record comes from: versions of packages, the platform, and the checkout of the code."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..code_hash import distribution_of

CODE_FOLDERS = ("bench", "methods", "datasets")
PACKAGES = ("zsad", "torch", "open_clip_torch", "numpy", "scipy", "scikit-learn", "pillow")


@lru_cache(maxsize=1)
def environment() -> Mapping[str, str]:
    """Package versions, Python, platform and the git commit of the source, for provenance."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    found["commit"] = _git_commit()
    return found


@lru_cache(maxsize=64)
def plug_in(kind: str, name: str) -> Mapping[str, str]:
    """The distribution that brought a method or dataset, and its version; empty for zsad's own."""
    found = distribution_of(kind, name)
    if found is None:
        return {}
    return {"distribution": f"{found.metadata['Name']} {found.version}"}


def _git_commit() -> str:
    """The commit of the checkout this file belongs to, "+changes" if dirty, "" outside of one.

    Dirty is also one with files in the folders of code that git does not know.
    """
    own = Path(__file__).resolve()
    try:
        _git(own.parent, "ls-files", "--error-unmatch", own.name)  # not a checkout around the venv
        commit = _git(own.parent, "rev-parse", "HEAD")
        top = Path(_git(own.parent, "rev-parse", "--show-toplevel"))
        state = _git(own.parent, "status", "--porcelain", "-uno") or _git(
            top, "status", "--porcelain", "--", *CODE_FOLDERS
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return commit + ("+changes" if state else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=5, check=True
    ).stdout.strip()
