"""The pixels of a category's maps, gathered batch by batch in bounded memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..metric_table import DEFAULT_METRICS
from .category_metrics import PixelMetrics, pixel_metrics
from .mask_regions import Indices, MaskRegions, Regions, regions_of
from .pixel_counts import PixelCounts, SortedPixels
from .ranks import MetricInputError, NormalImages, checked_maps
from .score_pairs import numbers_of, packed, scores_of
from .sorted_runs import SortedRuns
from .thinned_curve import Curve


class Accumulator(ABC):
    """Pixels of one category on the host or on a device, and the metrics of all so far."""

    @abstractmethod
    def update(
        self, masks: ArrayLike, maps: Any, regions: Sequence[MaskRegions] | None = None
    ) -> None:
        """Add images."""

    @abstractmethod
    def counts(self) -> PixelCounts:
        """What the metrics are computed from; valid until the next update."""

    @abstractmethod
    def release(self) -> None:
        """Forget all images and give back memory and temporary files."""

    def remarks(self) -> list[str]:
        """What a record says of where the pixels went; nothing where memory sufficed."""
        return []

    def result(
        self,
        chosen: Collection[str] = DEFAULT_METRICS,
        thresholds: Mapping[str, float] = MappingProxyType({}),
    ) -> PixelMetrics:
        """The metrics of all images so far; more may be added afterwards.

        Args:
            chosen: names of metrics; those of other levels are left aside.
            thresholds: by metric, of those that have one that was learned elsewhere.
        """
        return pixel_metrics(self.counts(), chosen, thresholds)

    def roc_curve(self, max_points: int = 200) -> Curve:
        """The pixel-level ROC curve as `roc_curve_points` gives it.

        Raises:
            UndefinedMetric: no anomalous or no normal pixel.
        """
        return self.counts().roc_curve(max_points)

    def pro_curve(self, max_points: int = 200, fpr_limit: float = 0.3) -> Curve:
        """The per-region overlap curve up to `fpr_limit`, thinned as `roc_curve_points` does.

        Raises:
            UndefinedMetric: no anomalous or no normal pixel.
        """
        return self.counts().pro_curve(max_points, fpr_limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()


@dataclass
class _RegionColumns:
    """What is known of regions beside their pixels, in arrays that grow in place.

    Each small array that is kept of an image lies between large ones of forwards, and once those
    are gone no other one fits into the gap.

    Attributes:
        sizes, areas: as of `Regions`.
        counts: regions of each image that has some.
    """

    sizes: array[int] = field(default_factory=partial(array, "i"))
    areas: array[int] = field(default_factory=partial(array, "i"))
    counts: array[int] = field(default_factory=partial(array, "i"))

    def add(self, known: MaskRegions, area: int) -> None:
        """Take the regions of an image of so many pixels."""
        count = known.sizes.size
        self.sizes.extend(known.sizes.tolist())
        self.areas.extend([area] * count)
        self.counts.append(count)

    def joined(self, of_pixel: Indices) -> Regions:
        """The regions of all images, with those that pixels belong to."""
        sizes, areas, counts = (np.array(one, np.int32) for one in vars(self).values())
        images = np.repeat(np.arange(counts.size, dtype=np.int32), counts)
        return Regions(of_pixel, sizes, images, areas)


class PixelAccumulator(Accumulator):
    """Pixel-level metrics of one category, from batches, in bounded memory.

    Maps are kept as float32, normal pixels at 4 bytes each and anomalous ones at 8. The result
    depends neither on the order or the batching of the images nor on what was spilled to disk.

    Beyond the budget, the metrics take 12 bytes an anomalous pixel, 60 bytes a row of the table,
    which has one for each distinct anomalous score, and 64 MiB of spilled pixels at a time.

    Args:
        budget_bytes: memory for pixels (at least 1 MiB is used), an eighth of it for anomalous
            ones; what exceeds it goes, sorted, to unnamed temporary files that vanish with the
            process.
        spill_dir: folder of those files; the system's temporary folder if None.
    """

    def __init__(self, budget_bytes: int = 1 << 30, spill_dir: str | Path | None = None) -> None:
        if budget_bytes <= 0:
            raise MetricInputError(f"budget_bytes must be positive, not {budget_bytes}")
        self._anomalous = SortedRuns(budget_bytes // 8, spill_dir, np.uint64)
        self._normal = SortedRuns(7 * budget_bytes // 16, spill_dir)
        self._normal_images = SortedRuns(7 * budget_bytes // 16, spill_dir)
        self._runs = (self._anomalous, self._normal, self._normal_images)
        self._regions = _RegionColumns()
        self._image_sizes: frozenset[int] = frozenset()
        self._images = 0
        self._counts: SortedPixels | None = None

    def update(
        self, masks: ArrayLike, maps: ArrayLike, regions: Sequence[MaskRegions] | None = None
    ) -> None:
        """Add images; a batch that is refused changes nothing.

        Args:
            masks: 0 or 1, [B, H, W] or [H, W]; H and W may differ from update to update.
            maps: same shape, greater is more anomalous.
            regions: of the B masks, where they are known already.

        Raises:
            MetricInputError: shapes differ, masks are not 0 or 1, maps are NaN or infinite (in
                float32; images are counted from 0 over all updates), or there are not B regions.
            ZsadError: the temporary file cannot be written; release the accumulator then.
        """
        flags, values = checked_maps(masks, maps, first_image=self._images, dtype=np.float32)
        if regions is None:
            regions = [regions_of(mask) for mask in flags]
        if len(regions) != len(flags):
            raise MetricInputError(f"regions of {len(regions)} masks came with {len(flags)} masks")
        self._counts = None
        for mask, anomaly_map, known in zip(flags, values, regions, strict=True):
            self._images += 1
            if known.pixels.size:
                pixels = anomaly_map.ravel()
                self._normal.append(pixels, left_out=known.pixels)
                numbers = known.numbers + np.int32(len(self._regions.sizes))
                self._anomalous.append(packed(pixels.take(known.pixels), numbers))
                self._regions.add(known, mask.size)
            else:
                self._normal_images.append(anomaly_map.ravel())
                self._image_sizes |= {mask.size}

    def counts(self) -> SortedPixels:
        """What the metrics are computed from; valid until the next update."""
        if self._counts is None:
            with ThreadPoolExecutor(2) as pool:  # sorting lets another thread run
                normal, of_images = pool.map(SortedRuns.runs, [self._normal, self._normal_images])
            pairs = self._anomalous.rising()
            self._counts = SortedPixels(
                normal,
                NormalImages(of_images, self._image_sizes),
                scores_of(pairs),
                self._regions.joined(numbers_of(pairs)),
            )
        return self._counts

    def spilled_bytes(self) -> int:
        """Size of the temporary files."""
        return sum(runs.spilled_bytes() for runs in self._runs)

    def release(self) -> None:
        """Forget all images and give back memory and temporary files."""
        for runs in self._runs:
            runs.release()
        self._regions = _RegionColumns()
        self._image_sizes = frozenset()
        self._images = 0
        self._counts = None
