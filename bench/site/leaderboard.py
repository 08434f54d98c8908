"""Leaderboards: the methods of one track by one metric on every dataset, best mean first.

A report takes its means over the datasets that all its methods have. On a leaderboard one method
with few datasets would leave hardly any of them, so here a mean is over the datasets of a domain
that at least half of its methods have finished, and methods that lack one of these have no mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ..analysis.frames import numbers_frame
from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset
from ..analysis.table_data import Column, Table
from ..files import csv_text
from ..metric_table import Metric
from ..report.overview import Ranks, average_ranks
from ..report.tables import Entry, ReportRow, ReportTable, report_tables
from ..track import Track


@dataclass(frozen=True)
class Mean:
    """The mean over a domain.

    Attributes:
        over: what it is over, in words.
        entries: of the methods that have all of its datasets.
    """

    label: str
    domain: str
    over: str
    entries: Mapping[EvaluatedMethod, Entry]


@dataclass(frozen=True)
class Line:
    """A method's line: an entry for each mean (None without it) and each dataset."""

    method: EvaluatedMethod
    column: Column
    means: tuple[Entry | None, ...]
    entries: tuple[Entry, ...]

    @property
    def leading(self) -> float | None:
        """The value that it is ordered by: of the first mean, else of the first dataset."""
        first = self.means[0] if self.means else self.entries[0]
        return None if first is None else first.number.value


@dataclass(frozen=True)
class Leaderboard:
    """The methods of a track by a metric: the table of a report, a line for each method."""

    made: ReportTable
    means: tuple[Mean, ...]

    @property
    def metric(self) -> Metric:
        """Of all its numbers."""
        return self.made.metric

    @property
    def table(self) -> Table:
        """With the footnotes of its numbers."""
        return self.made.table

    @property
    def remarks(self) -> list[str]:
        """The table's remarks, without those on printed numbers, which are not shown."""
        about = ("printed", "docs/fidelity.md")
        return [text for text in self.made.remarks if not any(word in text for word in about)]

    @property
    def heads(self) -> list[ReportRow]:
        """The datasets, which are columns here."""
        return [row for row in self.made.rows if not row.row.summary]

    @cached_property
    def lines(self) -> list[Line]:
        """The methods that have a value, best first; those without a leading value come last."""
        columns = zip(*(row.entries for row in self.heads), strict=True)
        made = [
            Line(method, column, tuple(mean.entries.get(method) for mean in self.means), own)
            for method, column, own in zip(
                self.made.matrix.methods, self.table.columns, columns, strict=True
            )
        ]
        sign = -1 if self.metric.higher_is_better else 1
        shown = [line for line in made if any(e.number.value is not None for e in line.entries)]
        return sorted(shown, key=lambda own: (own.leading is None, sign * (own.leading or 0.0)))


@dataclass(frozen=True)
class TrackBoards:
    """All leaderboards of a track, the paper's metrics first, and the ranks by them."""

    track: Track
    boards: tuple[Leaderboard, ...]
    ranks: tuple[Ranks, ...]


def leaderboards(matrix: Matrix) -> list[TrackBoards]:
    """The leaderboards of each track that has values."""
    found = []
    for track in matrix.tracks:
        own = matrix.of_track(track)
        tables = sorted(report_tables(own), key=lambda table: not table.metric.headline)
        means = _means(own)
        boards = [Leaderboard(made, tuple(means.get(made.metric.name, ()))) for made in tables]
        if boards:
            part = _shared(own, own.datasets)
            ranked = [replace(made, matrix=part) for made in tables if made.metric.headline]
            ranks, _ = average_ranks(part, ranked)
            found.append(TrackBoards(track, tuple(boards), tuple(ranks)))
    return found


def _means(matrix: Matrix) -> dict[str, list[Mean]]:
    """The means over the domains of a track's matrix, by metric."""
    found: dict[str, list[Mean]] = {}
    for domain in matrix.domains:
        part = _shared(matrix, [d for d in matrix.datasets if d.domain == domain])
        if len(part.datasets) < 2:
            continue
        for table in report_tables(part):
            for row in (row for row in table.rows if row.row.summary):
                over = "; ".join(row.row.notes)
                entries = dict(zip(part.methods, row.entries, strict=True))
                mean = Mean(row.row.label, domain, over, entries)
                found.setdefault(table.metric.name, []).append(mean)
    return found


def _shared(matrix: Matrix, datasets: Sequence[TargetDataset]) -> Matrix:
    """Those of some datasets that at least half of their methods have, and who has all of them."""
    finished = {m: {d for d in datasets if matrix.finished(m, d)} for m in matrix.methods}
    taking_part = [own for own in finished.values() if own]
    shared = [d for d in datasets if 2 * sum(d in own for own in taking_part) >= len(taking_part)]
    methods = [m for m, own in finished.items() if own and own.issuperset(shared)]
    cells = {(m, d): own for (m, d), own in matrix.cells.items() if m in methods and d in shared}
    return replace(
        matrix,
        methods=tuple(methods),
        datasets=tuple(shared),
        cells=cells,
        records=tuple(record for own in cells.values() for record in own),
    )


def numbers_csv(matrix: Matrix) -> str:
    """Every number of every method on every dataset, in full precision, as CSV."""
    frame = numbers_frame(matrix)
    texts = frame.select_dtypes(exclude="number").columns.drop("incomplete")
    frame[texts] = frame[texts].map(lambda text: csv_text(str(text)))
    return str(frame.to_csv(index=False, lineterminator="\n"))
