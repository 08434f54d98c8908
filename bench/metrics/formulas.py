"""AUROC, AP, F1-max, PRO, rates and the curves, from the table of ranks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .ranks import (
    Counts,
    Fractions,
    MetricInputError,
    Ranks,
    row_slices,
)
from .thinned_curve import Corners, Curve, thinned


def auroc(ranks: Ranks) -> float:
    """Area under the ROC curve."""
    ranks.require_both_classes()
    return _area(ranks, ranks.anomalous, fpr_limit=1.0) / ranks.n_anomalous


def pro(ranks: Ranks, fpr_limit: float) -> float:
    """Area under the per-region overlap curve up to the limit, over the limit."""
    check_limit(fpr_limit)
    return _area(ranks, ranks.per_region_overlap(), fpr_limit)


def _area(ranks: Ranks, rise: Fractions | Counts, fpr_limit: float) -> float:
    """Area under the curve up to the limit, over the limit.

    The area is summed in horizontal slices: a score at which the curve rises by `rise` adds a
    slice from there to the limit. Where normal samples share the score the curve is a slope and
    the slice has its mean length; the slope that crosses the limit adds a triangle.

    Args:
        ranks: the table.
        rise: how much the curve rises at each score [rows].
        fpr_limit: in (0, 1].
    """
    limit = fpr_limit * ranks.n_normal  # lengths are counted in normal samples
    area = 0.0
    for rows in row_slices(rise.size):
        greatest = rows.stop - 1
        not_above = ranks.normal_below[greatest] + ranks.normal_equal[greatest]
        if ranks.n_normal - not_above >= limit:  # the slopes of lower scores begin further right
            continue
        slope_end = ranks.n_normal - ranks.normal_below[rows]
        slope_length = ranks.normal_equal[rows]
        slope_start = slope_end - slope_length
        length = limit - (slope_start + slope_end) / 2
        if slope_end[0] > limit:
            cut = np.maximum(limit - slope_start, 0.0) ** 2 / (2 * np.maximum(slope_length, 1))
            length = np.where(slope_end <= limit, length, cut)
        area += float(np.sum(rise[rows] * length))
    return area / limit


def average_precision(ranks: Ranks) -> float:
    """Sum of (R_k - R_(k-1)) P_k."""
    ranks.require_both_classes()
    sums = (float(np.sum(new * (found / reported))) for new, found, reported in _falling(ranks))
    return sum(sums) / ranks.n_anomalous


def f1_max(ranks: Ranks) -> float:
    """Greatest F1 score over all thresholds."""
    ranks.require_both_classes()
    return max(
        float(np.max(2 * found / (reported + ranks.n_anomalous)))
        for _, found, reported in _falling(ranks)
    )


def _falling(ranks: Ranks) -> Iterator[tuple[Counts, Counts, Counts]]:
    """Slices of thresholds from the greatest down: anomalous samples at each, those found, all."""
    before = 0
    for rows in reversed(row_slices(ranks.values.size)):
        new = ranks.anomalous[rows][::-1]
        found = before + np.cumsum(new)
        before = int(found[-1])
        yield new, found, found + (ranks.n_normal - ranks.normal_below[rows][::-1])


def f1_max_threshold(ranks: Ranks) -> float:
    """The greatest threshold at which the F1 score is `f1_max`."""
    ranks.require_both_classes()
    best, threshold = -1.0, 0.0
    row = ranks.values.size
    for _, found, reported in _falling(ranks):
        scores = 2 * found / (reported + ranks.n_anomalous)
        at = int(np.argmax(scores))
        if scores[at] > best:
            best, threshold = float(scores[at]), float(ranks.values[row - 1 - at])
        row -= scores.size
    return threshold


def f1_at(ranks: Ranks, alarms: int, threshold: float) -> float:
    """F1 score of the samples that are at least a threshold, `alarms` normal ones among them."""
    ranks.require_both_classes()
    reported = ranks.values.astype(np.float64) >= threshold
    found = int(ranks.anomalous[reported].sum())
    return 2 * found / (found + alarms + ranks.n_anomalous)


def tpr_at_fpr(ranks: Ranks, fpr: float) -> float:
    """The greatest true positive rate at a threshold whose false positive rate is at most `fpr`."""
    row = row_at_fpr(ranks, fpr)
    return int(ranks.anomalous[row:].sum()) / ranks.n_anomalous


def fpr_at_tpr(ranks: Ranks, tpr: float) -> float:
    """The least false positive rate at a threshold whose true positive rate is at least `tpr`."""
    ranks.require_both_classes()
    found = np.cumsum(ranks.anomalous[::-1])[::-1]
    row = np.flatnonzero(found / ranks.n_anomalous >= tpr)[-1]
    return int(ranks.n_normal - ranks.normal_below[row]) / ranks.n_normal


def row_at_fpr(ranks: Ranks, fpr: float) -> int:
    """The row of the least anomalous score that reports at most a share of the normal samples.

    The number of rows where even the greatest score reports more. Shares are compared as quotients,
    which are rounded as `fpr` is: 29 of 2,900 are 0.01.
    """
    ranks.require_both_classes()
    most = int(fpr * ranks.n_normal) + 1
    while most / ranks.n_normal > fpr:
        most -= 1
    return int(np.searchsorted(ranks.normal_below, ranks.n_normal - most))


def roc_curve(ranks: Ranks, max_points: int) -> Curve:
    """The ROC curve, thinned."""
    ranks.require_both_classes()
    return thinned(_corners(ranks, ranks.anomalous), max_points, 1.0)


def pro_curve(ranks: Ranks, max_points: int, fpr_limit: float) -> Curve:
    """The per-region overlap curve up to the limit, thinned."""
    check_limit(fpr_limit)
    return thinned(_corners(ranks, ranks.per_region_overlap()), max_points, fpr_limit)


def _corners(ranks: Ranks, rise: Fractions | Counts) -> Corners:
    """Corners of a curve that rises by so much at each score [rows]."""
    heights = np.zeros(rise.size + 1, rise.dtype)
    for rows in reversed(row_slices(rise.size)):
        start, stop = rise.size - rows.stop, rise.size - rows.start
        sums = np.cumsum(rise[rows][::-1], out=heights[start + 1 : stop + 1])
        sums += heights[start]
    return Corners(heights, ranks.normal_below, ranks.normal_equal, ranks.n_normal)


def check_limit(fpr_limit: float) -> None:
    """Raise `MetricInputError` where no area or curve ends at a limit."""
    if not 0 < fpr_limit <= 1:
        raise MetricInputError(f"fpr_limit must lie in (0, 1], not {fpr_limit}")
