"""The regions of a mask, found once per image however many methods are measured against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_EIGHT_NEIGHBOURS: Final = np.ones((3, 3), dtype=int)


@dataclass(frozen=True)
class MaskRegions:
    """The anomalous pixels of one mask [H, W], and the 8-connected region that each belongs to.

    Attributes:
        pixels: places of the anomalous pixels in the flattened mask, rising [n].
        numbers: region of each anomalous pixel, from 0 in the order of first pixels [n].
        sizes: pixels of each region [regions].
    """

    pixels: NDArray[np.intp]
    numbers: NDArray[np.int32]
    sizes: NDArray[np.int32]

    def size_at_pixels(self) -> NDArray[np.int32]:
        """Size of the region that each anomalous pixel belongs to [n]."""
        return self.sizes[self.numbers]


def regions_of(mask: NDArray[np.bool_]) -> MaskRegions:
    """Label the regions of a mask [H, W], True = anomalous."""
    pixels = np.flatnonzero(mask)
    if not pixels.size:
        empty = np.empty(0, np.int32)
        return MaskRegions(pixels, empty, empty)
    labelled, count = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS, output=np.int32)
    numbers = labelled.ravel()[pixels] - np.int32(1)
    return MaskRegions(pixels, numbers, np.bincount(numbers, minlength=count).astype(np.int32))
