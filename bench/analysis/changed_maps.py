"""Kept anomaly maps and masks, brought to what another evaluation would have compared.

Maps and masks are arrays [N, S, S]; masks start from the size at which they were kept, not from
the dataset's files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from ..images import MaskRule, resize_mask

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]


def resized_maps(maps: Maps, side: int, way: str) -> Maps:
    """Maps [N, S, S] -> [N, side, side] in one of the ways of `WAYS`; unchanged at their size."""
    if maps.shape[1:] == (side, side):
        return maps
    made = [np.asarray(WAYS[way](Image.fromarray(one), side), np.float32) for one in maps]
    return np.stack(made) if made else np.empty((0, side, side), np.float32)


def resized_masks(masks: Masks, side: int, rule: MaskRule) -> tuple[Masks, int]:
    """Masks [N, S, S] -> [N, side, side], and how many regions vanish on the way."""
    found = [resize_mask(mask, side, rule) for mask in masks]
    made = np.stack([mask for mask, _ in found]) if found else np.empty((0, side, side), np.bool_)
    return made, sum(lost for _, lost in found)


def smoothed(maps: Maps, sigma: float) -> Maps:
    """Maps [N, S, S] after a Gaussian of `sigma` pixels along both axes."""
    return maps if sigma == 0 else np.asarray(gaussian_filter(maps, (0, sigma, sigma)))


def _sampled(resample: Image.Resampling) -> Callable[[Image.Image, int], Image.Image]:
    """Values at the centres of the new pixels: what torch's `interpolate` does by default."""

    def sample(image: Image.Image, side: int) -> Image.Image:
        whole = (0, 0, *image.size)
        return image.transform((side, side), Image.Transform.EXTENT, whole, resample)

    return sample


def _averaged(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, side), Image.Resampling.BILINEAR)


RULES: Mapping[str, MaskRule] = {
    "official": MaskRule(),
    "nearest": MaskRule(resize="nearest"),
}
WAYS: Mapping[str, Callable[[Image.Image, int], Image.Image]] = {
    "nearest": _sampled(Image.Resampling.NEAREST),
    "bilinear": _sampled(Image.Resampling.BILINEAR),
    "bicubic": _sampled(Image.Resampling.BICUBIC),
    "antialiased": _averaged,
}
"""Ways to bring a map to another size. A run brings maps to `--map-size` bilinearly.

"antialiased" is bilinear too, but averages over all pixels that a smaller pixel covers.
"""
