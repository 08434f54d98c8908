"""Exact metrics of anomaly detection: AUROC, AP, F1-max and PRO, and the released codes' PRO.

Every distinct score is a threshold and equal scores are one threshold. All metrics read one small
table (`ranks.py`) by the formulas of `formulas.py` and `pixel_formulas.py`.

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

from numpy.typing import ArrayLike

from . import formulas, pixel_formulas
from .category_metrics import ImageMetrics, PixelMetrics, image_metrics
from .pixel_accumulator import PixelAccumulator
from .pixel_counts import count_maps
from .ranks import MetricInputError, UndefinedMetric, rank_labelled
from .thinned_curve import Curve

__all__ = [
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
    return formulas.pro(count_maps(masks, maps).ranks, fpr_limit)


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
    return pixel_formulas.released_pro(count_maps(masks, maps))


def roc_curve_points(labels: ArrayLike, scores: ArrayLike, max_points: int = 200) -> Curve:
    """The ROC curve, thinned to points of the exact curve at even distances along it.

    Arguments and errors as `auroc`; the two ends always belong to the at most `max_points` points.
    """
    return formulas.roc_curve(rank_labelled(labels, scores), max_points)
