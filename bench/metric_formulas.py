"""AUROC, AP, F1-max, PRO, rates and the curves, from the table of ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ranks import (
    Counts,
    Fractions,
    MetricInputError,
    Ranks,
    row_slices,
)


@dataclass(frozen=True)
class Curve:
    """A curve against the false positive rate, both rising.

    Attributes:
        fpr: false positive rate [points], in [0, 1].
        detection_rate: [points], the true positive rate (ROC) or the mean per-region overlap (PRO).
    """

    fpr: Fractions
    detection_rate: Fractions


def auroc(ranks: Ranks) -> float:
    """Area under the ROC curve."""
    ranks.require_both_classes()
    return _area(ranks, ranks.anomalous, fpr_limit=1.0) / ranks.n_anomalous


def pro(ranks: Ranks, fpr_limit: float) -> float:
    """Area under the per-region overlap curve up to the limit, over the limit."""
    _check_limit(fpr_limit)
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
    return _Corners(ranks, ranks.anomalous, ranks.n_anomalous).thinned(max_points, 1.0)


def pro_curve(ranks: Ranks, max_points: int, fpr_limit: float) -> Curve:
    """The per-region overlap curve up to the limit, thinned."""
    _check_limit(fpr_limit)
    return _Corners(ranks, ranks.per_region_overlap(), 1.0).thinned(max_points, fpr_limit)


class _Corners:
    """Corners of the exact curve from (0, 0) to (1, 1), computed where they are looked at.

    A row has two: where the normal samples that share its score begin and where they end.

    Args:
        ranks: the table.
        rise: how much the curve rises at each score [rows].
        top: what `rise` sums to.
    """

    def __init__(self, ranks: Ranks, rise: Fractions | Counts, top: float) -> None:
        self._ranks, self._top = ranks, top
        self._rows = rise.size
        self._heights = np.zeros(rise.size + 1, rise.dtype)  # in front of each row from the top
        for rows in reversed(row_slices(rise.size)):
            start, stop = rise.size - rows.stop, rise.size - rows.start
            sums = np.cumsum(rise[rows][::-1], out=self._heights[start + 1 : stop + 1])
            sums += self._heights[start]

    def __len__(self) -> int:
        return 2 * self._rows + 2

    def at(self, places: NDArray[np.int64]) -> Curve:
        """The corners at some places [n] of all, counted from (0, 0)."""
        from_top, is_end = np.divmod(places - 1, 2)
        from_top = from_top.clip(0, self._rows - 1)
        rows = self._rows - 1 - from_top
        alarms = self._ranks.n_normal - self._ranks.normal_below[rows]
        alarms = np.where(is_end, alarms, alarms - self._ranks.normal_equal[rows])
        rate = np.minimum(self._heights[from_top + is_end] / self._top, 1.0)
        inner = (places > 0) & (places < len(self) - 1)
        ends = (places > 0).astype(np.float64)
        return Curve(
            np.where(inner, alarms / self._ranks.n_normal, ends), np.where(inner, rate, ends)
        )

    def first(
        self, reached: Callable[[Curve], NDArray[np.bool_]], count: int, stop: int
    ) -> NDArray[np.int64]:
        """For each of `count` conditions on rising corners the first place that meets it.

        `stop` where none before it does.
        """
        low, high = np.zeros(count, np.int64), np.full(count, stop, np.int64)
        while np.any(low < high):
            middle = (low + high) // 2
            met = reached(self.at(middle.clip(0, stop - 1)))
            high = np.where(met & (low < high), middle, high)
            low = np.where(~met & (low < high), middle + 1, low)
        return low

    def thinned(self, max_points: int, fpr_limit: float) -> Curve:
        """The start, the first corner in each of equal stretches of the curve, and its end.

        Distance along the curve is fpr + detection_rate; the end is interpolated at the limit.
        """
        if max_points < 2:
            raise MetricInputError(f"max_points must be at least 2, not {max_points}")
        stops = np.linspace(0.0, fpr_limit + 1.0, max_points - 1)
        within = int(self.first(lambda corner: corner.fpr > fpr_limit, 1, len(self))[0])
        places = self.first(
            lambda corner: corner.fpr + corner.detection_rate >= stops, stops.size, within
        )
        kept = self.at(np.unique(places[places < within]))
        end = self.at(np.arange(within - 1, min(within + 1, len(self))))
        x, y = float(end.fpr[0]), float(end.detection_rate[0])
        if within < len(self):
            share = (fpr_limit - x) / (float(end.fpr[1]) - x)
            x, y = fpr_limit, float(y + share * (end.detection_rate[1] - y))
        if (kept.fpr[-1], kept.detection_rate[-1]) == (x, y):
            return kept
        return Curve(np.append(kept.fpr, x), np.append(kept.detection_rate, y))


def _check_limit(fpr_limit: float) -> None:
    if not 0 < fpr_limit <= 1:
        raise MetricInputError(f"fpr_limit must lie in (0, 1], not {fpr_limit}")
