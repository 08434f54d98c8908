"""What all pixel-level metrics of a category are computed from, wherever its maps are sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from . import formulas
from .lookup import release_pages
from .mask_regions import Indices, Regions, regions_of
from .ranks import Counts, NormalImages, Ranks, Scores, checked_maps, rank
from .score_pairs import numbers_of, packed, scores_of
from .thinned_curve import Curve


class PixelCounts(Protocol):
    """A table of ranks and what does not fit into it: all that a pixel-level metric may ask."""

    @property
    def ranks(self) -> Ranks:
        """The table, with its overlaps."""
        ...

    @property
    def regions(self) -> Regions:
        """All regions; `of_pixel` is not read and may be empty."""
        ...

    def normal_range(self) -> tuple[np.floating[Any], np.floating[Any]] | None:
        """The least and the greatest normal pixel, in the maps' dtype; None without any."""
        ...

    def normal_above(self, thresholds: Scores) -> Counts:
        """Normal pixels greater than each of some rising thresholds of the maps' dtype."""
        ...

    def found_in_regions(self, threshold: np.floating[Any]) -> Counts:
        """Pixels of each region that are at least the threshold [regions]."""
        ...

    def roc_curve(self, max_points: int) -> Curve:
        """The ROC curve, thinned where the pixels lie."""
        ...

    def pro_curve(self, max_points: int, fpr_limit: float) -> Curve:
        """The per-region overlap curve up to the limit, thinned where the pixels lie."""
        ...


@dataclass(frozen=True)
class SortedPixels:
    """The counts of pixels that lie in memory, or in mapped files, as arrays.

    Attributes:
        normal_runs: normal pixels of images with regions, as rising arrays.
        normal_images: the pixels of the other images.
        anomalous: rising [pixels].
        regions: that they belong to, in the same order.
    """

    normal_runs: Sequence[Scores]
    normal_images: NormalImages
    anomalous: Scores
    regions: Regions

    @property
    def runs(self) -> Sequence[Scores]:
        """All normal pixels."""
        return [run for run in (*self.normal_runs, *self.normal_images.runs) if run.size]

    @cached_property
    def ranks(self) -> Ranks:
        """The table."""
        return rank(self.normal_runs, self.anomalous, self.regions, self.normal_images, "pixel")

    def normal_range(self) -> tuple[np.floating[Any], np.floating[Any]] | None:
        """The least and the greatest normal pixel."""
        ends = []
        for run in self.runs:
            ends.append((run[0], run[-1]))
            release_pages(run)  # with an end, the file's pages around it came into memory
        return (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None

    def normal_above(self, thresholds: Scores) -> Counts:
        """Normal pixels greater than each threshold."""
        above = np.zeros(thresholds.size, np.int64)
        for run in self.runs:
            above += run.size - np.searchsorted(run, thresholds, side="right")
            release_pages(run)
        return above

    def found_in_regions(self, threshold: np.floating[Any]) -> Counts:
        """Pixels of each region that are at least the threshold [regions]."""
        found = self.regions.of_pixel[np.searchsorted(self.anomalous, threshold) :]
        return np.bincount(found, minlength=self.regions.sizes.size).astype(np.int64)

    def roc_curve(self, max_points: int) -> Curve:
        """The ROC curve, thinned."""
        return formulas.roc_curve(self.ranks, max_points)

    def pro_curve(self, max_points: int, fpr_limit: float) -> Curve:
        """The per-region overlap curve up to the limit, thinned."""
        return formulas.pro_curve(self.ranks, max_points, fpr_limit)


def count_maps(masks: ArrayLike, maps: ArrayLike) -> SortedPixels:
    """The counts of masks and maps [N, H, W] or [H, W].

    Raises:
        MetricInputError: shapes differ, masks are not 0 or 1, or maps are NaN or infinite.
    """
    flags, values = checked_maps(masks, maps)
    with_regions = flags.any(axis=(1, 2))
    normal = [
        np.sort(values[with_regions][~flags[with_regions]]),
        np.sort(values[~with_regions], axis=None),
    ]
    regions = Regions.joined([regions_of(mask).in_image(mask.size) for mask in flags[with_regions]])
    sizes = frozenset({flags[0].size} if not with_regions.all() else ())
    anomalous, numbers = _sorted_with(values[flags], regions.of_pixel)
    regions = replace(regions, of_pixel=numbers)
    return SortedPixels(normal[:1], NormalImages(normal[1:], sizes), anomalous, regions)


def _sorted_with(scores: Scores, numbers: Indices) -> tuple[Scores, Indices]:
    """Rising scores, and their numbers in the same order."""
    if scores.dtype == np.float32:
        pairs = packed(scores, numbers)
        pairs.sort()
        return scores_of(pairs), numbers_of(pairs)
    order = np.argsort(scores)
    return scores[order], numbers[order]
