"""Float32 scores and a number of each, as integers that sort as the scores do.

The upper half of an integer is the score: the bits of a float rise with its value once the sign is
flipped, and for negative ones the other bits too. The lower half is the number. Integers are sorted
in half of the time of places.
"""

from __future__ import annotations

import sys
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .mask_regions import Indices
from .ranks import row_slices

Pairs = NDArray[np.uint64]

_SIGN: Final = np.uint32(1 << 31)
_LOWER, _UPPER = (0, 1) if sys.byteorder == "little" else (1, 0)


def packed(scores: NDArray[np.float32], numbers: Indices) -> Pairs:
    """Scores [n] with their numbers [n]."""
    pairs = np.empty(scores.size, np.uint64)
    halves = pairs.view(np.uint32)
    halves[_LOWER::2] = numbers.view(np.uint32)
    upper = halves[_UPPER::2]
    for some in row_slices(scores.size):
        bits = scores[some].view(np.uint32)
        upper[some] = np.where(bits >= _SIGN, ~bits, bits ^ _SIGN)
    return pairs


def scores_of(pairs: Pairs) -> NDArray[np.float32]:
    """The scores, in the order of the pairs."""
    upper, scores = pairs.view(np.uint32)[_UPPER::2], np.empty(pairs.size, np.float32)
    for some in row_slices(pairs.size):
        bits = upper[some]
        scores[some] = np.where(bits >= _SIGN, bits ^ _SIGN, ~bits).view(np.float32)
    return scores


def numbers_of(pairs: Pairs) -> Indices:
    """The numbers, in the order of the pairs and in their memory."""
    return pairs.view(np.int32)[_LOWER::2]
