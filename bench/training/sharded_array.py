"""An array on disk that is cut into shards: each is whole or absent, and mapped into memory.

A shard is written to a temporary name and renamed. It ends with a checksum, which a process
compares when it opens the shard for the first time.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ZsadError
from ..files import whole_file

LOG = logging.getLogger(__name__)

SHARD = 32
"""Rows of a shard, a multiple of every batch size that fills it."""

CHECKSUM_BYTES = 4  # after the array, where np.load does not look
READ_AT_ONCE = 8 << 20  # bytes, while a checksum is computed
ANNOUNCED = 1 << 18  # bytes of a row from which on the disk is told of it beforehand

Version = tuple[str, int, int, int]
_whole: set[Version] = set()  # files whose checksum this process has compared


@dataclass
class ShardedArray:
    """An array [count, *row] on disk."""

    folder: Path
    count: int
    row: tuple[int, ...]
    dtype: np.dtype[Any]
    _open: dict[int, NDArray[Any]] = field(default_factory=dict, repr=False)

    @property
    def shards(self) -> int:
        """Number of shards that the whole array has."""
        return -(-self.count // SHARD)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return int(np.prod(self.row, dtype=np.int64)) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return self.count * self.row_bytes

    def bytes_there(self) -> int:
        """Bytes of the rows whose shards are there; nothing is read, so a broken one counts."""
        there = [shard for shard in range(self.shards) if self._path(shard).exists()]
        return sum(self._rows(shard) for shard in there) * self.row_bytes

    def has(self, shard: int) -> bool:
        """Whether a shard is there, and whole; a broken one is removed."""
        if shard in self._open:
            return True
        path = self._path(shard)
        if not path.exists():
            return False
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            fits = array.shape == (self._rows(shard), *self.row) and array.dtype == self.dtype
            broken = not fits or not _is_whole(path, array)
        except (OSError, ValueError, EOFError):
            broken = True
        if broken:
            LOG.warning("%s is broken and will be computed again", path)
            path.unlink(missing_ok=True)
            return False
        self._open[shard] = array
        return True

    def write(self, shard: int, rows: NDArray[Any]) -> None:
        """Write a shard; it appears whole or not at all.

        Raises:
            ZsadError: a value is too large for the array's kind of numbers.
        """
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(rows, dtype=self.dtype)
        if array.dtype == np.float16 and np.isinf(array).any():
            raise too_large(f"for {self.folder}", float(np.abs(rows).max()))
        with whole_file(self._path(shard)) as file:
            np.save(file, array, allow_pickle=False)
            file.write(_as_bytes(zlib.crc32(array.data)))

    def rows(self, indices: Sequence[int], pinned: bool = False) -> Tensor:
        """Rows in the order of `indices`, [len(indices), *row], as a copy in memory.

        Args:
            indices: of rows.
            pinned: into memory that a GPU reads from while others compute.

        Raises:
            KeyError: a row's shard is not there.
        """
        places = [divmod(int(index), SHARD) for index in indices]
        for index, (shard, _) in zip(indices, places, strict=True):
            if not self.has(shard):
                raise KeyError(f"row {index} of {self.folder}")
        self._announce(places)
        kind = torch.from_numpy(np.empty(0, self.dtype)).dtype
        out = torch.empty((len(places), *self.row), dtype=kind, pin_memory=pinned)
        copies = out.numpy()
        for number, (shard, within) in enumerate(places):
            copies[number] = self._open[shard][within]
        return out

    def _announce(self, places: Iterable[tuple[int, int]]) -> None:
        """Have the disk fetch large rows all together, not page by page as each is touched."""
        if self.row_bytes < ANNOUNCED or not hasattr(os, "posix_fadvise"):
            return
        for shard, within in places:
            start = getattr(self._open[shard], "offset", 0) + within * self.row_bytes
            with self._path(shard).open("rb") as file:
                os.posix_fadvise(file.fileno(), start, self.row_bytes, os.POSIX_FADV_WILLNEED)

    def _rows(self, shard: int) -> int:
        return min(SHARD, self.count - shard * SHARD)

    def _path(self, shard: int) -> Path:
        return self.folder / f"{shard:05d}.npy"


def too_large(what: str, largest: float) -> ZsadError:
    """The error for features that half precision cannot hold."""
    return ZsadError(
        f"features {what} reach {largest:.0f}, and half precision ends at 65504: keep them in full "
        "precision (--feature-precision full)"
    )


def _is_whole(path: Path, array: NDArray[Any]) -> bool:
    """Whether the checksum that follows a file's array is that of its values.

    CRC-32 notices damage, as a flipped bit, and no intent. Files are read once in a process, in
    large pieces, which also leaves them in the page cache.
    """
    found = path.stat()
    version = (str(path), found.st_ino, found.st_size, found.st_mtime_ns)
    if version in _whole:
        return True
    left, checksum = array.nbytes, 0
    with path.open("rb", buffering=0) as file:
        file.seek(getattr(array, "offset", 0))
        while left > 0 and (piece := file.read(min(left, READ_AT_ONCE))):
            checksum = zlib.crc32(piece, checksum)
            left -= len(piece)
        whole = left == 0 and file.read(CHECKSUM_BYTES + 1) == _as_bytes(checksum)
    if whole:
        _whole.add(version)
    return whole


def _as_bytes(checksum: int) -> bytes:
    return checksum.to_bytes(CHECKSUM_BYTES, "little")
