"""Metrics that need more of pixels than their ranks: regions, images, or the normal pixels."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np

from . import formulas
from .pixel_counts import PixelCounts
from .ranks import Fractions, Ranks, Scores, UndefinedMetric, row_slices

RegionSize = Literal["small", "medium", "large"]

AUPIMO_RANGE: Final = (1e-5, 1e-4)
REGION_FPR: Final = 0.01
SMALLEST: Final[dict[RegionSize, float]] = {"small": 0.0, "medium": 1 / 300, "large": 0.03}
"""The share of its image's area from which on a region belongs to a size.

COCO calls objects below 32**2 pixels small and those from 96**2 pixels on large, in images of 640 x
480 pixels, of which these areas are 1/300 and 3 percent.
"""


def aupimo(ranks: Ranks, fpr_range: tuple[float, float] = AUPIMO_RANGE) -> float:
    """Mean over images of the share of anomalous pixels found, over log false positive rates.

    At a rate z the threshold is the lowest one at which at most the share z of the pixels of normal
    images is reported. An anomalous pixel is then found at all rates from its own one on, the
    share of those pixels with at least its score, so that each pixel adds the length of that
    stretch of log rates and nothing has to be interpolated.
    """
    parts = ranks.of_pixels()
    low, high = fpr_range
    if not parts.n_in_normal_images:
        raise UndefinedMetric("there is no image without anomalous pixels")
    if parts.n_image_sizes > 1:
        raise UndefinedMetric("images without anomalous pixels have several sizes")
    if parts.n_in_normal_images * high < 1:
        raise UndefinedMetric(
            f"a false positive rate of {high:g} is less than one of the "
            f"{parts.n_in_normal_images} pixels of normal images"
        )
    length = 0.0
    for rows in row_slices(ranks.values.size):
        if parts.alarms[rows.stop - 1] / parts.n_in_normal_images >= high:  # the least rate
            continue
        rates = np.clip(parts.alarms[rows] / parts.n_in_normal_images, low, high)
        length += float(np.sum(parts.of_images[rows] * np.log(high / rates)))
    return length / math.log(high / low)


def region_recall(pixels: PixelCounts, size: RegionSize) -> float:
    """Mean share found of the regions of a size, at the false positive rate `REGION_FPR`."""
    ranks = pixels.ranks
    ranks.require_both_classes()
    areas = pixels.regions.sizes / pixels.regions.areas
    of_size = size_of_regions(areas) == size
    if not of_size.any():
        raise UndefinedMetric(f"there is no {size} region")
    row = formulas.row_at_fpr(ranks, REGION_FPR)
    if row == ranks.values.size:
        return 0.0
    found = pixels.found_in_regions(ranks.values[row])
    shares = found[of_size] / pixels.regions.sizes[of_size]
    return math.fsum(shares) / int(of_size.sum())  # rounded once, in any order of the regions


def size_of_regions(areas: Fractions) -> Any:
    """The size of regions by their shares of the image's area [regions], as names [regions]."""
    names = np.array([*SMALLEST])
    return names[np.searchsorted([*SMALLEST.values()], areas, side="right") - 1]


def f1_at(pixels: PixelCounts, threshold: float) -> float:
    """F1 score of the pixels that are at least a threshold; 0 where none of them is anomalous."""
    below = _greatest_below(threshold, pixels.ranks.values)
    alarms = pixels.normal_above(np.array([below], pixels.ranks.values.dtype))
    return formulas.f1_at(pixels.ranks, int(alarms[0]), threshold)


def _greatest_below(threshold: float, values: Scores) -> Any:
    """The greatest value of the maps' dtype that is less than a threshold."""
    kind = values.dtype.type
    rounded = kind(threshold)
    return rounded if float(rounded) < threshold else np.nextafter(rounded, kind(-np.inf))


def released_pro(pixels: PixelCounts, steps: int = 200, fpr_limit: float = 0.3) -> float:
    """`cal_pro_score` of the released codes, by looking its thresholds up in the sorted pixels."""
    ranks = pixels.ranks
    overlap = ranks.per_region_overlap()
    normal = pixels.normal_range()
    assert normal is not None, "there is no normal pixel"
    # NumPy scalars of the maps' dtype: the released step is rounded to it.
    low = min(ranks.values[0], normal[0])
    high = max(ranks.values[-1], normal[1])
    with np.errstate(over="ignore"):
        step = (high - low) / steps
    if not step > 0:
        raise UndefinedMetric("all maps have one and the same value, so there are no thresholds")
    if np.isinf(step):
        raise UndefinedMetric(f"the maps span more than {step.dtype} holds, so there are no steps")
    thresholds = _rounded_down(np.arange(low, high, step), ranks.values.dtype)
    edges = [*np.searchsorted(ranks.values, thresholds, side="right"), ranks.values.size]
    between = [overlap[start:end].sum() for start, end in pairwise(edges)]
    detection_rate = np.cumsum(between[::-1])[::-1]
    fpr = pixels.normal_above(thresholds) / ranks.n_normal
    kept = fpr < fpr_limit
    if np.unique(fpr[kept]).size < 2:
        raise UndefinedMetric(
            f"fewer than two different false positive rates under {fpr_limit} "
            f"at the {steps} thresholds"
        )
    fpr, detection_rate = fpr[kept], detection_rate[kept]
    fpr = (fpr - fpr.min()) / (fpr.max() - fpr.min())
    return float(np.sum((fpr[:-1] - fpr[1:]) * (detection_rate[:-1] + detection_rate[1:]))) / 2


def _rounded_down(thresholds: Fractions, dtype: np.dtype[Any]) -> Scores:
    """The greatest values of the maps' dtype that are not above the thresholds.

    NumPy makes float64 thresholds from float32 ends; a float32 score exceeds one of them exactly
    if it exceeds the rounded one. Sorted scores then need no float64 copy to be searched.
    """
    rounded = thresholds.astype(dtype)
    too_great = rounded > thresholds
    rounded[too_great] = np.nextafter(rounded[too_great], dtype.type(-np.inf))
    return rounded
