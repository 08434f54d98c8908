"""Many numbers in bounded memory, handed out in sorted pieces."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .errors import ZsadError
from .ranks import Scores

_SMALLEST_BUFFER: Final = 1 << 16


class SortedRuns:
    """Normal pixels as sorted runs: one in memory, the older ones in a temporary file.

    Memory is laid out for the whole budget and taken page by page, as values come.
    """

    def __init__(self, budget_bytes: int, spill_dir: str | Path | None) -> None:
        self._capacity = max(budget_bytes // 4, _SMALLEST_BUFFER)
        self._spill_dir = spill_dir
        self._file: Any = None
        self.release()

    def append(self, values: Scores) -> None:
        """Add values [n], in any order."""
        self._sorted = False
        while values.size > self._capacity - self._filled:
            room = self._capacity - self._filled
            self._append_to_buffer(values[:room])
            self._spill()
            values = values[room:]
        self._append_to_buffer(values)

    def runs(self) -> Iterator[Scores]:
        """Sorted arrays that hold every pixel once; valid until the next `append`."""
        offset = 0
        for length in self._spilled:
            yield np.memmap(self._file, np.float32, mode="r", offset=offset, shape=(length,))
            offset += 4 * length
        if self._filled:
            yield self._sorted_buffer()

    def release(self) -> None:
        """Forget all values and give back memory and temporary file."""
        if self._file is not None:
            self._file.close()
        self._file = None
        self._spilled: list[int] = []
        self._buffer = np.empty(0, np.float32)
        self._filled = 0
        self._sorted = False

    def _append_to_buffer(self, values: Scores) -> None:
        if not self._buffer.size:
            self._buffer = _room(self._capacity)
        end = self._filled + values.size
        self._buffer[self._filled : end] = values
        self._filled = end

    def _sorted_buffer(self) -> Scores:
        run = self._buffer[: self._filled]
        if not self._sorted:
            run.sort()
            self._sorted = True
        return run

    def _spill(self) -> None:
        run = self._sorted_buffer()
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._spill_dir)  # noqa: SIM115
            self._file.write(run.data)
            self._file.flush()
        except OSError as error:
            folder = self._spill_dir or tempfile.gettempdir()
            raise ZsadError(
                f"cannot spill normal pixels to '{folder}' ({error}): "
                "name another spill_dir or raise budget_bytes"
            ) from error
        self._spilled.append(run.size)
        self._filled = 0
        self._sorted = False


def _room(values: int) -> NDArray[np.float32]:
    """Memory for so many values that no page is taken of before it is written to.

    `np.empty` asks Linux for huge pages, and a machine without free ones spends more time on making
    them than the values take.
    """
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    return np.frombuffer(mmap.mmap(-1, 4 * values, **private), np.float32)
