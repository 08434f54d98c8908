"""Many numbers in bounded memory, handed out in sorted pieces."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import ZsadError
from .lookup import release_pages

Values = NDArray[Any]
Places = NDArray[np.intp]

_SMALLEST_BUFFER: Final = 1 << 16
_NONE: Final[Places] = np.empty(0, np.intp)
MAPPED_BYTES: Final = 64 << 20
"""Of a run in a file that are mapped at a time, all of which a search may bring into memory."""
_SPARE: Final[dict[int, list[Values]]] = defaultdict(list)
"""Released buffers by their number of bytes: pages that are there already are twice as fast."""


@contextmanager
def spares_given_back() -> Iterator[None]:
    """Give back, at the end of a `with`, the memory that waits for the next runs."""
    try:
        yield
    finally:
        _SPARE.clear()


class SortedRuns:
    """Pixels as sorted runs: one in memory, the older ones in a temporary file.

    Memory is laid out for the whole budget and taken page by page, as values come. What is released
    the next runs of the same budget take over.

    Args:
        budget_bytes: for the run in memory, which has room for 65,536 values at least.
        spill_dir: folder of the file; the system's temporary folder if None.
        dtype: of the values.
    """

    def __init__(
        self, budget_bytes: int, spill_dir: str | Path | None, dtype: DTypeLike = np.float32
    ) -> None:
        self._dtype = np.dtype(dtype)
        self._capacity = max(budget_bytes // self._dtype.itemsize, _SMALLEST_BUFFER)
        self._file = RunFile(spill_dir, self._dtype)
        self._buffer = np.empty(0, self._dtype)
        self.release()

    def append(self, values: Values, left_out: Places = _NONE) -> None:
        """Add values [n] but those at some rising places, in any order."""
        self._sorted = False
        if values.size > self._room():
            values, left_out = closed_up(values.copy(), left_out), _NONE
        while values.size > self._room():
            room = self._room()
            self._append_to_buffer(values[:room], _NONE)
            self._spill()
            values = values[room:]
        self._append_to_buffer(values, left_out)

    def runs(self) -> list[Values]:
        """Sorted arrays that hold every value once; valid until `append` or `release`."""
        in_memory = [self._sorted_buffer()] if self._filled else []
        return [*self._file.runs(), *in_memory]

    def rising(self) -> Values:
        """All values in one sorted array; valid until `append` or `release`."""
        if not len(self._file):
            return self._sorted_buffer()
        whole, filled = np.empty(len(self._file) + self._filled, self._dtype), 0
        for run in self.runs():
            whole[filled : filled + run.size] = run
            filled += run.size
            release_pages(run)
        whole.sort()
        return whole

    def spilled_bytes(self) -> int:
        """Size of the temporary file."""
        return self._dtype.itemsize * len(self._file)

    def release(self) -> None:
        """Forget all values and give back memory and temporary file."""
        self._file.release()
        if self._buffer.size:
            _SPARE[self._buffer.nbytes].append(self._buffer)
        self._buffer = np.empty(0, self._dtype)
        self._filled = 0
        self._sorted = False

    def _room(self) -> int:
        return self._capacity - self._filled

    def _append_to_buffer(self, values: Values, left_out: Places) -> None:
        if not self._buffer.size:
            size = self._capacity * self._dtype.itemsize
            if not _SPARE[size]:
                _SPARE.clear()  # they are of other budgets
                _SPARE[size].append(_memory(size))
            self._buffer = _SPARE[size].pop().view(self._dtype)
        added = self._buffer[self._filled : self._filled + values.size]
        added[:] = values
        self._filled += closed_up(added, left_out).size

    def _sorted_buffer(self) -> Values:
        run = self._buffer[: self._filled]
        if not self._sorted:
            run.sort()
            self._sorted = True
        return run

    def _spill(self) -> None:
        self._file.append(self._sorted_buffer())
        self._filled = 0
        self._sorted = False


class RunFile:
    """Runs in an unnamed temporary file that vanishes with the process.

    Args:
        folder: of the file; the system's temporary folder if None.
        dtype: of the values.
    """

    def __init__(self, folder: str | Path | None, dtype: DTypeLike = np.float32) -> None:
        self._folder, self._dtype = folder, np.dtype(dtype)
        self._file: Any = None
        self._lengths: list[int] = []

    def append(self, run: Values) -> None:
        """Write a run.

        Raises:
            ZsadError: the file cannot be written.
        """
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
            self._file.write(run.data)
            self._file.flush()
        except OSError as error:
            folder = self._folder or tempfile.gettempdir()
            raise ZsadError(
                f"cannot spill pixels to '{folder}' ({error}): "
                "name another spill_dir or raise budget_bytes"
            ) from error
        self._lengths.append(run.size)

    def runs(self) -> Iterator[Values]:
        """The runs in rising parts, mapped into memory one by one as they are read."""
        offset, most = 0, MAPPED_BYTES // self._dtype.itemsize
        for length in self._lengths:
            for start in range(0, length, most):
                shape = (min(most, length - start),)
                # Private pages, as torch takes no array that cannot be written to.
                yield np.memmap(self._file, self._dtype, mode="c", offset=offset, shape=shape)
                offset += self._dtype.itemsize * shape[0]

    def __len__(self) -> int:
        """Values of all runs."""
        return sum(self._lengths)

    def release(self) -> None:
        """Forget the runs and give back the file."""
        if self._file is not None:
            self._file.close()
        self._file, self._lengths = None, []


def closed_up(values: Values, left_out: Places) -> Values:
    """Those of the values [n] that are not at some rising places, in place.

    The last values fill the gaps, so their order changes.
    """
    count = values.size - left_out.size
    inner = left_out[: np.searchsorted(left_out, count)]
    kept = np.ones(left_out.size, dtype=bool)
    kept[left_out[inner.size :] - count] = False
    values[inner] = values[count:][kept]
    return values[:count]


def _memory(size: int) -> NDArray[np.uint8]:
    """So many bytes of memory that no page is taken of before it is written to.

    `np.empty` asks Linux for huge pages, and a machine without free ones spends more time on making
    them than the values take.
    """
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    return np.frombuffer(mmap.mmap(-1, size, **private), np.uint8)
