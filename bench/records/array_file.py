"""Arrays by name in a temporary file, which in memory would grow with images and methods."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import ZsadError


class ArrayFile:
    """Arrays of one shape by name, in an unnamed file that vanishes with the process.

    Args:
        shape: of each.
        dtype: of each.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._bytes = self._dtype.itemsize * math.prod(shape)
        self._file: IO[bytes] | None = None
        self._places: dict[str, int] = {}
        self._free: list[int] = []

    def __getitem__(self, name: str) -> NDArray[Any]:
        place = self._places[name]
        assert self._file is not None, "nothing was written"
        self._file.seek(place)
        return np.frombuffer(self._file.read(self._bytes), self._dtype).reshape(self._shape)

    def __setitem__(self, name: str, array: NDArray[Any]) -> None:
        """Keep an array, in place of an earlier one of this name.

        Raises:
            ZsadError: the file cannot be written.
        """
        if name not in self._places:
            end = self._bytes * len(self._places)
            self._places[name] = self._free.pop() if self._free else end
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
            self._file.seek(self._places[name])
            self._file.write(np.ascontiguousarray(array, self._dtype).data)
            self._file.flush()
        except OSError as error:
            raise ZsadError(
                f"cannot keep pictures of the gallery in '{tempfile.gettempdir()}' ({error}): set "
                "TMPDIR to a folder with more room, or run without a gallery (--gallery 0)"
            ) from error

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def drop(self, name: str) -> None:
        """Forget an array, if it is there, and let another one take its place."""
        if name in self._places:
            self._free.append(self._places.pop(name))

    def close(self) -> None:
        """Give back the file."""
        if self._file is not None:
            self._file.close()
