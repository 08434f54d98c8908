"""All metrics of a category as one result: which there are, and why others have no value."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from ..metric_table import DEFAULT_METRICS, Level, of_level
from . import formulas, pixel_formulas
from .pixel_counts import PixelCounts
from .ranks import Ranks, UndefinedMetric, rank_labelled

Formulas = Mapping[str, Callable[[], float]]


@dataclass(frozen=True)
class _Measured:
    """Metrics by name; None where `undefined` holds a reason, and where one was not asked for."""

    undefined: Mapping[str, str] = field(kw_only=True)

    def defined(self) -> dict[str, float]:
        """The metrics that have a value, by name, in the order of the fields."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "undefined"}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class ImageMetrics(_Measured):
    """Image-level metrics in [0, 1]; `metric_table` says what each is."""

    image_auroc: float | None = None
    image_ap: float | None = None
    image_f1max: float | None = None
    image_tpr_at_1e2: float | None = None
    image_tpr_at_1e3: float | None = None
    image_fpr_at_95: float | None = None
    image_f1_learned: float | None = None


@dataclass(frozen=True)
class PixelMetrics(_Measured):
    """Pixel-level metrics in [0, 1]; `metric_table` says what each is."""

    pixel_auroc: float | None = None
    pixel_ap: float | None = None
    pixel_f1max: float | None = None
    pixel_pro: float | None = None
    pixel_pro_official200: float | None = None
    pixel_pro_05: float | None = None
    pixel_aupimo: float | None = None
    pixel_recall_small: float | None = None
    pixel_recall_medium: float | None = None
    pixel_recall_large: float | None = None
    pixel_segf1: float | None = None
    pixel_tpr_at_1e2: float | None = None
    pixel_tpr_at_1e3: float | None = None
    pixel_fpr_at_95: float | None = None
    pixel_f1_learned: float | None = None


def image_metrics(
    labels: ArrayLike,
    scores: ArrayLike,
    chosen: Collection[str] = DEFAULT_METRICS,
    thresholds: Mapping[str, float] = MappingProxyType({}),
) -> ImageMetrics:
    """The image-level metrics of one category.

    Args:
        labels: 0 (normal) or 1 (anomalous) [N].
        scores: [N], greater is more anomalous.
        chosen: names of metrics; those of other levels are left aside.
        thresholds: by metric, of those that have one that was learned elsewhere.

    Raises:
        MetricInputError: as `metrics.auroc`; undefined metrics do not raise here.
    """
    ranks = rank_labelled(labels, scores, unit="image")
    known = _of_level("image", ranks)
    for name in of_level("image", thresholds):
        known[name] = partial(_image_f1_at, ranks, labels, scores, thresholds[name])
    values, undefined = _evaluate(known, chosen)
    return ImageMetrics(**values, undefined=undefined)


def pixel_metrics(
    pixels: PixelCounts,
    chosen: Collection[str] = DEFAULT_METRICS,
    thresholds: Mapping[str, float] = MappingProxyType({}),
) -> PixelMetrics:
    """The pixel-level metrics of one category; arguments as `image_metrics`."""
    ranks = pixels.ranks
    known = _of_level("pixel", ranks) | {
        "pixel_pro": partial(formulas.pro, ranks, 0.3),
        "pixel_pro_official200": partial(pixel_formulas.released_pro, pixels),
        "pixel_pro_05": partial(formulas.pro, ranks, 0.05),
        "pixel_aupimo": partial(pixel_formulas.aupimo, ranks),
    }
    for size in pixel_formulas.SMALLEST:
        known[f"pixel_recall_{size}"] = partial(pixel_formulas.region_recall, pixels, size)
    for name in of_level("pixel", thresholds):
        known[name] = partial(pixel_formulas.f1_at, pixels, thresholds[name])
    values, undefined = _evaluate(known, chosen)
    return PixelMetrics(**values, undefined=undefined)


def _of_level(level: Level, ranks: Ranks) -> dict[str, Callable[[], float]]:
    """The metrics that images and pixels have in common."""
    return {
        f"{level}_auroc": partial(formulas.auroc, ranks),
        f"{level}_ap": partial(formulas.average_precision, ranks),
        f"{level}_f1max": partial(formulas.f1_max, ranks),
        f"{level}_tpr_at_1e2": partial(formulas.tpr_at_fpr, ranks, 1e-2),
        f"{level}_tpr_at_1e3": partial(formulas.tpr_at_fpr, ranks, 1e-3),
        f"{level}_fpr_at_95": partial(formulas.fpr_at_tpr, ranks, 0.95),
    }


def _image_f1_at(ranks: Ranks, labels: ArrayLike, scores: ArrayLike, threshold: float) -> float:
    normal = np.asarray(scores, np.float64)[np.asarray(labels) == 0]
    return formulas.f1_at(ranks, int(np.count_nonzero(normal >= threshold)), threshold)


def _evaluate(
    known: Formulas, chosen: Collection[str]
) -> tuple[dict[str, float | None], dict[str, str]]:
    values: dict[str, float | None] = {}
    undefined = {}
    for name, formula in known.items():
        if name in chosen:
            try:
                values[name] = formula()
            except UndefinedMetric as reason:
                undefined[name] = str(reason)
    return values, undefined
