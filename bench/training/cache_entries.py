"""What lies in the feature cache, how much of it, and how it is cleared.

A process that reads features while they are cleared keeps what it has mapped, and computes again
what it has not.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .feature_cache import DEFAULT_BUDGET, KEY, FeatureCache, size_of

DAY = 86400.0
_FOLDER = re.compile(r"(masks-)?[0-9a-f]{32}")


@dataclass(frozen=True)
class CacheEntry:
    """One folder of the feature cache.

    Attributes:
        folder: where it lies.
        kind: "features" or "masks".
        dataset: registry name of the auxiliary dataset; "" where its key is not readable.
        images: how many; 0 where its key is not readable.
        stored: "full" or "fp16"; "" of masks.
        dtype: of its numbers on disk, as "float16"; "bits" of masks, "" where no array is readable.
        arrays: names of the arrays, as tokens-24-from-6.
        nbytes: on disk.
        used: seconds since 1970 when a training or a run asked for it last.
    """

    folder: Path
    kind: str
    dataset: str
    images: int
    stored: str
    dtype: str
    arrays: tuple[str, ...]
    nbytes: int
    used: float

    def days(self, now: float | None = None) -> float:
        """Days since it was used last."""
        return ((time.time() if now is None else now) - self.used) / DAY

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "folder": str(self.folder),
            "kind": self.kind,
            "dataset": self.dataset,
            "images": self.images,
            "stored": self.stored,
            "dtype": self.dtype,
            "arrays": list(self.arrays),
            "bytes": self.nbytes,
            "days_since_use": round(self.days(), 3),
        }


@dataclass(frozen=True)
class CacheState:
    """The feature cache as a whole.

    Attributes:
        root: its folder.
        entries: what lies in it, used last first.
        free: bytes that the disk has left.
        budget: bytes that it may grow to.
    """

    root: Path
    entries: tuple[CacheEntry, ...]
    free: int
    budget: int = DEFAULT_BUDGET

    @property
    def used(self) -> int:
        """Bytes of all entries."""
        return sum(entry.nbytes for entry in self.entries)


def cache_state(cache: FeatureCache | None = None) -> CacheState:
    """What lies in a feature cache; None is the default one."""
    cache = cache or FeatureCache()
    root = cache.root
    folders = list(root.iterdir()) if root.is_dir() else []
    found = [_entry(folder) for folder in folders if _FOLDER.fullmatch(folder.name)]
    entries = tuple(sorted(found, key=lambda entry: entry.used, reverse=True))
    return CacheState(root, entries, cache.free(), cache.budget)


def chosen(
    entries: Iterable[CacheEntry], dataset: str | None = None, older_than: float = 0.0
) -> list[CacheEntry]:
    """Entries of a dataset, or of all, that were not used for so many days."""
    return [
        entry
        for entry in entries
        if entry.days() >= older_than and dataset in (None, entry.dataset)
    ]


def clear(entries: Iterable[CacheEntry]) -> None:
    """Delete entries; one that has vanished already is not an error.

    Raises:
        OSError: an entry cannot be deleted.
    """
    for entry in entries:
        with suppress(FileNotFoundError):
            shutil.rmtree(entry.folder)


def _dtype_of(files: Iterable[Path]) -> str:
    """The dtype that an array's header states; "" where none is readable."""
    for path in files:
        with suppress(OSError, ValueError, EOFError):
            return str(np.load(path, mmap_mode="r", allow_pickle=False).dtype)
    return ""


def _entry(folder: Path) -> CacheEntry:
    key: Any = {}
    with suppress(OSError, ValueError):
        key = json.loads((folder / KEY).read_text(encoding="utf-8"))
    key = key if isinstance(key, dict) else {}
    files = [path for path in folder.rglob("*") if path.is_file()]
    masks = folder.name.startswith("masks-")
    dated = folder / KEY if (folder / KEY).exists() else folder
    used = 0.0
    with suppress(FileNotFoundError):
        used = dated.stat().st_mtime
    return CacheEntry(
        folder,
        "masks" if masks else "features",
        str(key.get("dataset", "")),
        int(key.get("images", 0)),
        str(key.get("stored", "")),
        "bits" if masks else _dtype_of(files),
        tuple(sorted(path.name for path in folder.iterdir() if path.is_dir())),
        sum(map(size_of, files)),
        used,
    )
