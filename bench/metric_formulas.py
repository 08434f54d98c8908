"""AUROC, AP, F1-max, PRO and the curves, from the table of ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ranks import (
    Counts,
    Fractions,
    MetricInputError,
    Ranks,
    Scores,
    UndefinedMetric,
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
        slope_end = ranks.n_normal - ranks.normal_below[rows]
        slope_length = ranks.normal_equal[rows]
        slope_start = slope_end - slope_length
        if slope_start[-1] >= limit:  # the greatest score of the slice has the least
            continue
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


def released_pro(
    normal_runs: Sequence[Scores], ranks: Ranks, steps: int = 200, fpr_limit: float = 0.3
) -> float:
    """`cal_pro_score` of the released codes, by looking its thresholds up in the sorted pixels."""
    overlap = ranks.per_region_overlap()
    # NumPy scalars of the maps' dtype: the released step is rounded to it.
    low = min(ranks.values[0], *(run[0] for run in normal_runs if run.size))
    high = max(ranks.values[-1], *(run[-1] for run in normal_runs if run.size))
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
    alarms = np.zeros(thresholds.size, np.int64)
    for run in normal_runs:
        alarms += run.size - np.searchsorted(run, thresholds, side="right")
    fpr = alarms / ranks.n_normal
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
