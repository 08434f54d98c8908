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
from numpy.typing import NDArray

from .errors import ZsadError
from .ranks import Scores

Places = NDArray[np.intp]

_SMALLEST_BUFFER: Final = 1 << 16
_NONE: Final[Places] = np.empty(0, np.intp)
MAPPED_VALUES: Final = 1 << 24
"""Of a run in a file that are mapped at a time, all of which a search may bring into memory."""
_SPARE: Final[dict[int, list[Scores]]] = defaultdict(list)
"""Released buffers by their number of values: pages that are there already are twice as fast."""


@contextmanager
def spares_given_back() -> Iterator[None]:
    """Give back, at the end of a `with`, the memory that waits for the next runs."""
    try:
        yield
    finally:
        _SPARE.clear()


class SortedRuns:
    """Normal pixels as sorted runs: one in memory, the older ones in a temporary file.

    Memory is laid out for the whole budget and taken page by page, as values come. What is released
    the next runs of the same budget take over.
    """

    def __init__(self, budget_bytes: int, spill_dir: str | Path | None) -> None:
        self._capacity = max(budget_bytes // 4, _SMALLEST_BUFFER)
        self._file = RunFile(spill_dir)
        self._buffer = np.empty(0, np.float32)
        self.release()

    def append(self, values: Scores, left_out: Places = _NONE) -> None:
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

    def runs(self) -> list[Scores]:
        """Sorted arrays that hold every pixel once; valid until `append` or `release`."""
        in_memory = [self._sorted_buffer()] if self._filled else []
        return [*self._file.runs(), *in_memory]

    def spilled_bytes(self) -> int:
        """Size of the temporary file."""
        return 4 * len(self._file)

    def release(self) -> None:
        """Forget all values and give back memory and temporary file."""
        self._file.release()
        if self._buffer.size:
            for other in _SPARE.keys() - {self._capacity}:
                _SPARE.pop(other, None)
            _SPARE[self._capacity].append(self._buffer)
        self._buffer = np.empty(0, np.float32)
        self._filled = 0
        self._sorted = False

    def _room(self) -> int:
        return self._capacity - self._filled

    def _append_to_buffer(self, values: Scores, left_out: Places) -> None:
        if not self._buffer.size:
            spare = _SPARE[self._capacity]
            self._buffer = spare.pop() if spare else _memory(self._capacity)
        added = self._buffer[self._filled : self._filled + values.size]
        added[:] = values
        self._filled += closed_up(added, left_out).size

    def _sorted_buffer(self) -> Scores:
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
    """

    def __init__(self, folder: str | Path | None) -> None:
        self._folder = folder
        self._file: Any = None
        self._lengths: list[int] = []

    def append(self, run: Scores) -> None:
        """Write a run of float32 values.

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
                f"cannot spill normal pixels to '{folder}' ({error}): "
                "name another spill_dir or raise budget_bytes"
            ) from error
        self._lengths.append(run.size)

    def runs(self) -> Iterator[Scores]:
        """The runs in rising parts, mapped into memory one by one as they are read."""
        offset = 0
        for length in self._lengths:
            for start in range(0, length, MAPPED_VALUES):
                shape = (min(MAPPED_VALUES, length - start),)
                # Private pages, as torch takes no array that cannot be written to.
                yield np.memmap(self._file, np.float32, mode="c", offset=offset, shape=shape)
                offset += 4 * shape[0]

    def __len__(self) -> int:
        """Values of all runs."""
        return sum(self._lengths)

    def release(self) -> None:
        """Forget the runs and give back the file."""
        if self._file is not None:
            self._file.close()
        self._file, self._lengths = None, []


def closed_up(values: Scores, left_out: Places) -> Scores:
    """Those of the values [n] that are not at some rising places, in place.

    The last values fill the gaps, so their order changes.
    """
    count = values.size - left_out.size
    inner = left_out[: np.searchsorted(left_out, count)]
    kept = np.ones(left_out.size, dtype=bool)
    kept[left_out[inner.size :] - count] = False
    values[inner] = values[count:][kept]
    return values[:count]


def _memory(values: int) -> NDArray[np.float32]:
    """Memory for so many values that no page is taken of before it is written to.

    `np.empty` asks Linux for huge pages, and a machine without free ones spends more time on making
    them than the values take.
    """
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    return np.frombuffer(mmap.mmap(-1, 4 * values, **private), np.float32)
