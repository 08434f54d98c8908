"""Work on arrays in several threads: NumPy's sorting, searching and copying let others run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_Found = TypeVar("_Found")
_MOST: Final = min(os.cpu_count() or 1, 4)


def in_threads(works: Sequence[Callable[[], _Found]]) -> list[_Found]:
    """What works return, in their order; a single one is done in this thread."""
    if len(works) < 2:
        return [work() for work in works]
    with ThreadPoolExecutor(min(len(works), _MOST)) as pool:
        return [done.result() for done in [pool.submit(work) for work in works]]
