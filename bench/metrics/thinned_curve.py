"""A curve of few points for reading, from the corners of the exact one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ranks import Fractions, MetricInputError

Column = Any  # a NumPy array, or a tensor of a device


@dataclass(frozen=True)
class Curve:
    """A curve against the false positive rate, both rising.

    Attributes:
        fpr: false positive rate [points], in [0, 1].
        detection_rate: [points], the true positive rate (ROC) or the mean per-region overlap (PRO).
    """

    fpr: Fractions
    detection_rate: Fractions


@dataclass(frozen=True)
class Corners:
    """Corners of the exact curve from (0, 0) to (1, 1), computed where they are looked at.

    A row of the table of ranks has two: where the normal samples that share its score begin and
    where they end. Columns stay where they lie: only the points of the thinned curve leave it.

    Attributes:
        heights: how high the curve is before each row from the top, and after the last one,
            in any unit [rows + 1].
        normal_below, normal_equal: normal samples below and at the score of a row [rows].
        n_normal: all normal samples.
        library: `numpy` or `torch`, whichever the columns are of.
        placed: puts an array of the host beside the columns.
    """

    heights: Column
    normal_below: Column
    normal_equal: Column
    n_normal: int
    library: Any = np
    placed: Callable[[NDArray[Any]], Column] = np.asarray

    def __len__(self) -> int:
        return 2 * len(self.normal_below) + 2

    def at(self, places: Column) -> tuple[Column, Column]:
        """False positive and detection rates at some places [n], counted from (0, 0)."""
        rows = len(self.normal_below)
        from_top = ((places - 1) // 2).clip(0, rows - 1)
        is_end = (places - 1) % 2
        row = rows - 1 - from_top
        alarms = self.n_normal - self.normal_below[row] - (1 - is_end) * self.normal_equal[row]
        rate = self.heights[from_top + is_end] / self.heights[-1]
        inner = (places > 0) & (places < len(self) - 1)
        ends = self._fractions(places > 0)
        where = self.library.where
        return where(inner, self._fractions(alarms) / self.n_normal, ends), where(inner, rate, ends)

    def points(self, places: NDArray[np.int64]) -> Curve:
        """The corners at some places [n], on the host."""
        fpr, rate = self.at(self.placed(places))
        return Curve(np.array(fpr.tolist()), np.array(rate.tolist()))

    def first(
        self, reached: Callable[[Column, Column], Column], count: int, stop: int
    ) -> NDArray[np.int64]:
        """For each of `count` conditions on rising rates the first place that meets it.

        `stop` where none before it does.
        """
        low = self.placed(np.zeros(count, np.int64))
        high = low + stop
        for _ in range(stop.bit_length()):
            middle = (low + high) // 2
            met = reached(*self.at(middle.clip(0, stop - 1)))
            is_open = low < high
            high = self.library.where(met & is_open, middle, high)
            low = self.library.where(~met & is_open, middle + 1, low)
        return np.array(low.tolist())

    def _fractions(self, column: Column) -> Column:
        return self.library.asarray(column, dtype=self.library.float64)


def thinned(corners: Corners, max_points: int, fpr_limit: float) -> Curve:
    """The start, the first corner in each of equal stretches of the curve, and its end.

    Distance along the curve is fpr + detection_rate; the end is interpolated at the limit.
    """
    if max_points < 2:
        raise MetricInputError(f"max_points must be at least 2, not {max_points}")
    stops = corners.placed(np.linspace(0.0, fpr_limit + 1.0, max_points - 1))
    within = int(corners.first(lambda fpr, _: fpr > fpr_limit, 1, len(corners))[0])
    places = corners.first(lambda fpr, rate: fpr + rate >= stops, len(stops), within)
    kept = corners.points(np.unique(places[places < within]))
    end = corners.points(np.arange(within - 1, min(within + 1, len(corners))))
    x, y = float(end.fpr[0]), float(end.detection_rate[0])
    if within < len(corners):
        share = (fpr_limit - x) / (float(end.fpr[1]) - x)
        x, y = fpr_limit, float(y + share * (end.detection_rate[1] - y))
    if (kept.fpr[-1], kept.detection_rate[-1]) == (x, y):
        return kept
    return Curve(np.append(kept.fpr, x), np.append(kept.detection_rate, y))
