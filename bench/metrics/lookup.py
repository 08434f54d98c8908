"""How many of many sorted numbers lie below a few rising ones, and how many equal them."""

from __future__ import annotations

import mmap
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Rising = NDArray[np.floating[Any]]
Counts = NDArray[np.int64]

_AT_A_TIME: Final = 1 << 13
_STRIDE: Final = 32  # a power of 2, of at most 8 bits
_DENSE: Final = 4 * _STRIDE


def count(run: Rising, values: Rising, below: Counts, equal: Counts) -> None:
    """Add to two columns how many numbers of a sorted run lie below values and at them.

    Some values at a time are looked up in the stretch of the run that they lie in, which fits into
    a processor's cache.

    Args:
        run: in any number, rising.
        values: strictly rising [rows].
        below: to add to [rows].
        equal: to add to [rows].
    """
    starts = range(0, values.size, _AT_A_TIME)
    end = np.searchsorted(run, values[-1:], side="right")
    edges = [*np.searchsorted(run, values[starts]), *end]
    for start, low, high in zip(starts, edges[:-1], edges[1:], strict=True):
        rows = slice(start, start + _AT_A_TIME)
        stretch, some = run[low:high], values[rows]
        below[rows] += low
        if stretch.size:
            places = _first_not_below(stretch, some)
            below[rows] += places
            _add_equal(stretch, some, places, equal[rows])


def release_pages(run: Rising) -> None:
    """Give back the memory of a run that is mapped from a file; it is read again where needed."""
    mapped = getattr(run, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _first_not_below(run: Rising, values: Rising) -> NDArray[np.intp]:
    """As `np.searchsorted(run, values)` for rising values, in half of its time where many are near.

    Every so many numbers of the run are merged with the values, which `argsort` does in one pass.
    Between two of those numbers all values are searched at once.
    """
    if not _STRIDE <= run.size <= _DENSE * values.size:
        return np.searchsorted(run, values)
    order = np.argsort(np.concatenate([values, run[::_STRIDE]]), kind="stable")
    places = np.flatnonzero(order < values.size)
    places -= np.arange(1, values.size + 1)  # to the last of those numbers that is below
    places *= _STRIDE
    np.maximum(places, 0, out=places)
    width = _STRIDE
    while width > 1:
        width //= 2
        steps = (run[width - 1 :].take(places, mode="clip") < values).view(np.uint8)
        steps *= np.uint8(width)
        places += steps
    places += run.take(places, mode="clip") < values
    return np.minimum(places, run.size, out=places)


def _add_equal(run: Rising, values: Rising, places: NDArray[np.intp], equal: Counts) -> None:
    """Add how many numbers of a run equal values; `places` are of the first not below them."""
    same = run.take(places, mode="clip") == values
    equal += same
    rows = np.flatnonzero(same)
    places, values = places[rows] + 1, values[rows]
    more = np.flatnonzero(run.take(places, mode="clip") == values)
    rows, places, values = rows[more], places[more], values[more]
    equal[rows] += np.searchsorted(run, values, side="right") - places
