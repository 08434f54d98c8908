"""Exact metrics of anomaly detection: AUROC, AP, F1-max and PRO, and the released codes' PRO.

Every distinct score is a threshold and equal scores are one threshold. All metrics read one small
table (`ranks.py`) by the formulas of `metric_formulas.py`.

Values are fractions in [0, 1]; a metric that is undefined raises `UndefinedMetric`, or is absent
with its reason in a result object. It is never 0 and never NaN.

>>> labels, scores = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]
>>> auroc(labels, scores), f1_max(labels, scores)
(0.75, 0.8)
>>> mask = [[0, 0, 1], [0, 0, 0], [1, 1, 0]]  # two regions: one pixel, two pixels
>>> anomaly_map = [[0.0, 0.1, 0.9], [0.2, 0.3, 0.1], [0.8, 0.0, 0.0]]
>>> pro(mask, anomaly_map)  # finds all of one region and half of the other before a false alarm
0.75
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import metric_formulas as formulas
from .mask_regions import MaskRegions, regions_of
from .metric_formulas import Curve
from .metric_table import Level
from .ranks import (
    MetricInputError,
    Ranks,
    Scores,
    UndefinedMetric,
    checked_maps,
    rank,
    rank_labelled,
    rank_maps,
)
from .sorted_runs import SortedRuns

__all__ = [
    "METRIC_VERSION",
    "Curve",
    "ImageMetrics",
    "MetricInputError",
    "PixelAccumulator",
    "PixelMetrics",
    "UndefinedMetric",
    "auroc",
    "average_precision",
    "f1_max",
    "image_metrics",
    "pro",
    "pro_official200",
    "roc_curve_points",
]

METRIC_VERSION: Final = 1
"""Grows whenever a metric's definition changes, so that records of different definitions differ."""


# ------------------------------------------------------------------------------ array functions


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve; equals `sklearn.metrics.roc_auc_score`.

    Args:
        labels: 0 (normal) or 1 (anomalous), any shape.
        scores: same shape, greater is more anomalous. float64 is compared as float64.

    Raises:
        UndefinedMetric: all labels are the same.
        MetricInputError: shapes differ, labels are not 0 or 1, scores are NaN or infinite.
    """
    return formulas.auroc(rank_labelled(labels, scores))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision, sum of (R_k - R_(k-1)) P_k; equals scikit-learn's function of that name.

    Arguments and errors as `auroc`.
    """
    return formulas.average_precision(rank_labelled(labels, scores))


def f1_max(labels: ArrayLike, scores: ArrayLike) -> float:
    """Greatest F1 score, 2PR / (P + R), over all thresholds of the precision-recall curve.

    Arguments and errors as `auroc`.
    """
    return formulas.f1_max(rank_labelled(labels, scores))


def pro(masks: ArrayLike, maps: ArrayLike, fpr_limit: float = 0.3) -> float:
    """Area under the per-region overlap curve up to a false positive rate, over that rate.

    The curve (mean over all regions of the detected share of a region, against the pooled false
    positive rate) starts at (0, 0), has a point per distinct value of the maps and is linear
    between two of them and at the limit. Regions are 8-connected.
    Source: Bergmann et al., "Uninformed Students", CVPR 2020, and "The MVTec Anomaly Detection
    Dataset", IJCV 2021.

    Args:
        masks: 0 or 1, [N, H, W] or [H, W].
        maps: same shape, greater is more anomalous.
        fpr_limit: where the integration ends, in (0, 1].

    Raises:
        UndefinedMetric: no anomalous or no normal pixel.
        MetricInputError: shapes differ, masks are not 0 or 1, maps are NaN or infinite, or the
            limit is not in (0, 1].
    """
    return formulas.pro(rank_maps(masks, maps)[1], fpr_limit)


def pro_official200(masks: ArrayLike, maps: ArrayLike) -> float:
    """PRO as the released codes compute it, which the printed tables of the field were made with.

    200 equal steps, rounded to the dtype of the maps, from their least to their greatest value; the
    points with a false positive rate under 0.3 are kept and their rates stretched to [0, 1].
    Source: `cal_pro_score` in the `metrics.py` of AnomalyCLIP (FAPrompt and APRIL-GAN share it),
    which took it from CFLOW-AD. The released codes count normal pixels in float32 and so may be
    off by about 1e-7 of the false positive rate beyond 2**24 of them; this function counts exactly.

    Args:
        masks: 0 or 1, [N, H, W] or [H, W].
        maps: same shape, greater is more anomalous.

    Raises:
        UndefinedMetric: no anomalous or no normal pixel, a constant map, or fewer than two
            different false positive rates under 0.3.
        MetricInputError: as `pro`.
    """
    return formulas.released_pro(*rank_maps(masks, maps))


def roc_curve_points(labels: ArrayLike, scores: ArrayLike, max_points: int = 200) -> Curve:
    """The ROC curve, thinned to points of the exact curve at even distances along it.

    Arguments and errors as `auroc`; the two ends always belong to the at most `max_points` points.
    """
    return formulas.roc_curve(rank_labelled(labels, scores), max_points)


# ------------------------------------------------------------------------------ result objects


@dataclass(frozen=True)
class _Measured:
    """Metrics by name; None where `undefined` holds a reason."""

    undefined: Mapping[str, str] = field(kw_only=True)

    def defined(self) -> dict[str, float]:
        """The metrics that have a value, by name, in the order of the fields."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "undefined"}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class ImageMetrics(_Measured):
    """Image-level metrics in [0, 1]; one that is None has its reason in `undefined`."""

    image_auroc: float | None
    image_ap: float | None
    image_f1max: float | None


@dataclass(frozen=True)
class PixelMetrics(_Measured):
    """Pixel-level metrics in [0, 1]; one that is None has its reason in `undefined`."""

    pixel_auroc: float | None
    pixel_ap: float | None
    pixel_f1max: float | None
    pixel_pro: float | None
    pixel_pro_official200: float | None


def image_metrics(labels: ArrayLike, scores: ArrayLike) -> ImageMetrics:
    """All image-level metrics of one category.

    Args:
        labels: 0 (normal) or 1 (anomalous) [N].
        scores: [N], greater is more anomalous.

    Raises:
        MetricInputError: as `auroc`; undefined metrics do not raise here.
    """
    ranks = rank_labelled(labels, scores, unit="image")
    values, undefined = _evaluate(_of_level("image", ranks))
    return ImageMetrics(**values, undefined=undefined)


def _of_level(level: Level, ranks: Ranks) -> dict[str, Callable[[], float]]:
    """The metrics that images and pixels have in common."""
    return {
        f"{level}_auroc": lambda: formulas.auroc(ranks),
        f"{level}_ap": lambda: formulas.average_precision(ranks),
        f"{level}_f1max": lambda: formulas.f1_max(ranks),
    }


def _evaluate(
    formulas: Mapping[str, Callable[[], float]],
) -> tuple[dict[str, float | None], dict[str, str]]:
    values: dict[str, float | None] = dict.fromkeys(formulas)
    undefined = {}
    for name, formula in formulas.items():
        try:
            values[name] = formula()
        except UndefinedMetric as reason:
            undefined[name] = str(reason)
    return values, undefined


# ------------------------------------------------------------------------------ accumulator


class PixelAccumulator:
    """Pixel-level metrics of one category, from batches, in bounded memory.

    Maps are kept as float32, normal pixels at 4 bytes each and anomalous ones at 8. The result
    depends neither on the order or the batching of the images nor on what was spilled to disk.

    Args:
        budget_bytes: memory for normal pixels (at least 256 KiB are used); what exceeds it goes,
            sorted, to an unnamed temporary file that vanishes with the process.
        spill_dir: folder of that file; the system's temporary folder if None.
    """

    def __init__(self, budget_bytes: int = 1 << 30, spill_dir: str | Path | None = None) -> None:
        if budget_bytes <= 0:
            raise MetricInputError(f"budget_bytes must be positive, not {budget_bytes}")
        self._normal = SortedRuns(budget_bytes, spill_dir)
        self._anomalous: list[Scores] = []
        self._sizes: list[NDArray[np.int32]] = []
        self._regions = 0
        self._images = 0
        self._ranks: Ranks | None = None

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
        self._ranks = None
        for mask, anomaly_map, known in zip(flags, values, regions, strict=True):
            self._images += 1
            if not known.pixels.size:
                self._normal.append(anomaly_map.ravel())
                continue
            self._normal.append(anomaly_map[~mask])
            self._anomalous.append(anomaly_map.ravel()[known.pixels])
            self._sizes.append(known.size_at_pixels())
            self._regions += known.sizes.size

    def result(self) -> PixelMetrics:
        """The metrics of all images so far; more may be added afterwards."""
        ranks = self._ranked()
        runs = list(self._normal.runs())
        values, undefined = _evaluate(
            {
                **_of_level("pixel", ranks),
                "pixel_pro": lambda: formulas.pro(ranks, 0.3),
                "pixel_pro_official200": lambda: formulas.released_pro(runs, ranks),
            }
        )
        return PixelMetrics(**values, undefined=undefined)

    def roc_curve(self, max_points: int = 200) -> Curve:
        """The pixel-level ROC curve as `roc_curve_points` gives it.

        Raises:
            UndefinedMetric: no anomalous or no normal pixel.
        """
        return formulas.roc_curve(self._ranked(), max_points)

    def pro_curve(self, max_points: int = 200, fpr_limit: float = 0.3) -> Curve:
        """The per-region overlap curve up to `fpr_limit`, thinned as `roc_curve_points` does.

        Raises:
            UndefinedMetric: no anomalous or no normal pixel.
        """
        return formulas.pro_curve(self._ranked(), max_points, fpr_limit)

    def release(self) -> None:
        """Forget all images and give back memory and temporary file."""
        self._normal.release()
        self._anomalous, self._sizes = [], []
        self._regions = self._images = 0
        self._ranks = None

    def __enter__(self) -> PixelAccumulator:
        return self

    def __exit__(self, *_error: object) -> None:
        self.release()

    def _ranked(self) -> Ranks:
        if self._ranks is None:
            # The pieces are released, so that they and the whole are never both in memory for long.
            self._anomalous = [np.concatenate([np.empty(0, np.float32), *self._anomalous])]
            self._sizes = [np.concatenate([np.empty(0, np.int32), *self._sizes])]
            self._ranks = rank(
                list(self._normal.runs()),
                self._anomalous[0],
                self._sizes[0],
                self._regions,
                unit="pixel",
            )
        return self._ranks
