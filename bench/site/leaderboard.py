"""Leaderboards: the methods of one track by one metric on every dataset, best mean first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..analysis.frames import numbers_frame
from ..analysis.matrix import EvaluatedMethod, Matrix
from ..analysis.table_data import Column, Table
from ..files import csv_text
from ..metric_table import Metric
from ..report.tables import Entry, ReportRow, ReportTable, report_tables
from ..track import Track


@dataclass(frozen=True)
class Line:
    """A method's line: an entry for each dataset and mean of the leaderboard."""

    method: EvaluatedMethod
    column: Column
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Leaderboard:
    """The methods of a track by a metric: the table of a report, a line for each method."""

    made: ReportTable

    @property
    def metric(self) -> Metric:
        """Of all its numbers."""
        return self.made.metric

    @property
    def table(self) -> Table:
        """With the footnotes of its numbers."""
        return self.made.table

    @property
    def heads(self) -> tuple[ReportRow, ...]:
        """The datasets and means, which are columns here."""
        return self.made.rows

    @cached_property
    def lines(self) -> list[Line]:
        """The methods that have a value, best first by the first mean, else by the first dataset.

        Those without a value there come last.
        """
        rows = self.made.rows
        columns = zip(*(row.entries for row in rows), strict=True)
        made = map(Line, self.made.matrix.methods, self.table.columns, columns)
        place = next((i for i, row in enumerate(rows) if row.row.summary), 0)
        sign = -1 if self.metric.higher_is_better else 1

        def order(line: Line) -> tuple[bool, float]:
            value = line.entries[place].number.value
            return value is None, sign * (value or 0.0)

        shown = [line for line in made if any(e.number.value is not None for e in line.entries)]
        return sorted(shown, key=order)


def leaderboards(matrix: Matrix) -> dict[Track, list[Leaderboard]]:
    """For each track the leaderboards of the metrics that have values, the paper's first."""
    found: dict[Track, list[Leaderboard]] = {}
    for table in sorted(report_tables(matrix), key=lambda table: not table.metric.headline):
        found.setdefault(table.track, []).append(Leaderboard(table))
    return {track: found[track] for track in matrix.tracks if track in found}


def numbers_csv(matrix: Matrix) -> str:
    """Every number of every method on every dataset, in full precision, as CSV."""
    frame = numbers_frame(matrix)
    texts = frame.select_dtypes(exclude="number").columns.drop("incomplete")
    frame[texts] = frame[texts].map(lambda text: csv_text(str(text)))
    return str(frame.to_csv(index=False, lineterminator="\n"))
