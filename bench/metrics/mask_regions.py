"""The regions of a mask, found once per image however many methods are measured against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Indices = NDArray[np.int32]

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
    numbers: Indices
    sizes: Indices

    def in_image(self, area: int) -> Regions:
        """As the regions of a single image of so many pixels."""
        count = self.sizes.size
        images, areas = np.zeros(count, np.int32), np.full(count, area, np.int32)
        return Regions(self.numbers, self.sizes, images, areas)


@dataclass(frozen=True)
class Regions:
    """The regions of several masks, counted over all of them.

    Attributes:
        of_pixel: region of each anomalous pixel, image by image in row-major order unless another
            one is told [pixels].
        sizes: pixels of each region [regions].
        images: image of each region, counted over the images that have regions [regions].
        areas: pixels of each region's image, normal ones included [regions].
    """

    of_pixel: Indices
    sizes: Indices
    images: Indices
    areas: Indices

    @property
    def n_images(self) -> int:
        """Images that have regions."""
        return int(self.images[-1]) + 1 if self.images.size else 0

    def image_sizes(self) -> Indices:
        """Anomalous pixels of each image that has regions [images]."""
        return np.bincount(self.images, weights=self.sizes).astype(np.int32)

    @staticmethod
    def joined(parts: Sequence[Regions]) -> Regions:
        """The regions of several parts as those of all of them, in the same order."""
        empty = np.empty(0, np.int32)
        first_region = np.cumsum([0, *(part.sizes.size for part in parts)], dtype=np.int32)
        first_image = np.cumsum([0, *(part.n_images for part in parts)], dtype=np.int32)
        numbered = list(zip(parts, first_region, first_image, strict=False))
        return Regions(
            np.concatenate([empty, *(part.of_pixel + region for part, region, _ in numbered)]),
            np.concatenate([empty, *(part.sizes for part in parts)]),
            np.concatenate([empty, *(part.images + image for part, _, image in numbered)]),
            np.concatenate([empty, *(part.areas for part in parts)]),
        )


def regions_of(mask: NDArray[np.bool_]) -> MaskRegions:
    """Label the regions of a mask [H, W], True = anomalous."""
    pixels = np.flatnonzero(mask)
    if not pixels.size:
        empty = np.empty(0, np.int32)
        return MaskRegions(pixels, empty, empty)
    near = mask[_kept(mask.any(axis=1))][:, _kept(mask.any(axis=0))]
    labelled, count = ndimage.label(near, structure=_EIGHT_NEIGHBOURS, output=np.int32)
    numbers = labelled[near] - np.int32(1)
    return MaskRegions(pixels, numbers, np.bincount(numbers, minlength=count).astype(np.int32))


def _kept(touched: Any) -> NDArray[np.bool_]:
    """Lines that regions depend on: those with anomalous pixels, and one for each gap between."""
    kept = np.array(touched, dtype=bool)
    kept[1:] |= touched[:-1]
    return kept
