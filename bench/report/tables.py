"""The tables of a report: one metric each, for the methods of one track.

Beside a number stands how sure it is, and a printed number only where that measures the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from statistics import fmean

from ..analysis.layout import DOUBTFUL, Request
from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset
from ..analysis.rows import RowMaker
from ..analysis.standing import Resampled, Standing, Standings, mean_of, resampled
from ..analysis.statistics import RESAMPLED, ImageMetric
from ..analysis.table_data import Number, Row, Table, TableCell, has_differences
from ..analysis.tables import make_table
from ..analysis.values import measure
from ..errors import UsageError
from ..metric_table import LEVELS, METRICS, Metric, of_level
from ..track import Track
from .comparable import is_comparable

DOMAIN_TITLES = {
    "synthetic": "Built-in",
    "surfaces": "Built-in surfaces",
    "objects": "Built-in objects",
    "lesions": "Built-in lesions",
    "custom": "Own",
    "other": "Other",
}
SAME = 0.05  # percent; a larger distance means that table and resamples average something else


@dataclass(frozen=True)
class Entry:
    """A number of a method, how sure it is, and the values of its seeds in percent."""

    method: EvaluatedMethod
    cell: TableCell
    standing: Standing | None = None
    seeds: tuple[float, ...] = ()

    @property
    def number(self) -> Number:
        """The only number of the cell."""
        return self.cell.numbers[0]

    @property
    def mark(self) -> str:
        """best, near (not distinguishable from the best) or ""."""
        if self.number.rank == 1:
            return "best"
        return "near" if self.standing is not None and self.standing.is_near_best else ""

    @property
    def sureness(self) -> str:
        """Interval and distance from the best in words, "" where they are not known."""
        if self.standing is None:
            return ""
        at, test, p = self.standing.interval, self.standing.test, self.standing.p_holm
        text = f"{100 * at.level:g} % interval {100 * at.low:.1f} to {100 * at.high:.1f}"
        if test is not None and p is not None:
            gap = 100 * test.difference.value
            text += f"; {gap:.1f} below the best, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
        return text


@dataclass(frozen=True)
class ReportRow:
    """A row: of a dataset, or the mean of a domain (then `dataset` is None)."""

    row: Row
    dataset: TargetDataset | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Head:
    """A column or line of a table as shown: a method, a dataset, or the mean of a domain."""

    label: str
    notes: tuple[str, ...] = ()
    method: EvaluatedMethod | None = None
    dataset: TargetDataset | None = None
    domain: str = ""
    summary: bool = False


@dataclass(frozen=True)
class ReportTable:
    """The table of a metric for the methods of one track.

    Attributes:
        metric: of all its numbers.
        table: as it is written elsewhere.
        matrix: of these methods.
        rows: its rows with what is known of them beside.
    """

    metric: Metric
    table: Table
    matrix: Matrix
    rows: tuple[ReportRow, ...]

    @property
    def track(self) -> Track:
        """Of its methods."""
        return self.table.track

    @property
    def title(self) -> str:
        """The metric, and the track unless that is zero-shot."""
        track = "" if self.track is Track.ZERO_SHOT else f", {self.track} track"
        return f"{self.metric.level.capitalize()}-level {self.metric.label} in percent{track}"

    @property
    def methods_are_rows(self) -> bool:
        """Methods are the longer side."""
        return len(self.matrix.methods) > len(self.rows)

    @property
    def is_tested(self) -> bool:
        """Whether it is known of any number how sure it is."""
        return any(entry.standing is not None for row in self.rows for entry in row.entries)

    @property
    def has_differences(self) -> bool:
        """Whether any number has a printed one beside it."""
        return has_differences(self.table.rows)

    @property
    def heads(self) -> list[Head]:
        """Of its columns as shown."""
        return self._datasets if self.methods_are_rows else self._methods

    @property
    def bodies(self) -> list[tuple[str, list[tuple[Head, list[tuple[Head, Entry]]]]]]:
        """Its lines as shown by domain ("" where lines are methods), each with its entries."""
        heads, entries = self._datasets, [row.entries for row in self.rows]
        if self.methods_are_rows:
            heads, entries = self._methods, list(zip(*entries, strict=True))
        lines = [
            (head, list(zip(self.heads, own, strict=True)))
            for head, own in zip(heads, entries, strict=True)
        ]
        by_domain = groupby(lines, key=lambda line: line[0].domain)
        return [(domain, list(own)) for domain, own in by_domain]

    @cached_property
    def _methods(self) -> list[Head]:
        columns = zip(self.matrix.methods, self.table.columns, strict=True)
        return [Head(column.label, column.notes, method) for method, column in columns]

    @cached_property
    def _datasets(self) -> list[Head]:
        found = []
        for row, dataset in ((own.row, own.dataset) for own in self.rows):
            label = row.label
            if row.summary and self.methods_are_rows:
                label += f", {domain_title(row.group).lower()}"
            found.append(Head(label, row.notes, None, dataset, row.group, row.summary))
        return found

    @property
    def remarks(self) -> list[str]:
        """The table's remarks, without what the page says above it or shows by other signs."""
        elsewhere = ("In braces", self.track.meaning)
        own = [text for text in self.table.remarks if not text.startswith(elsewhere)]
        return own if self.has_differences else [text for text in own if "printed" not in text]


def report_tables(matrix: Matrix) -> list[ReportTable]:
    """The tables of each track, and in it of each metric that has values."""
    found = []
    for track in matrix.tracks:
        own = matrix.of_track(track)
        sure = {d: resampled(own, d, RESAMPLED) for d in own.datasets}
        for metric in (METRICS[name] for level in LEVELS for name in of_level(level)):
            try:
                table = make_table(
                    own.records,
                    metric.level,
                    delta=True,
                    metrics=[metric.name],
                    allow_incomplete=matrix.allow_incomplete,
                )
            except UsageError:  # nothing to show
                continue
            if any(cell.numbers[0].value is not None for row in table.rows for cell in row.cells):
                found.append(_report_table(own, metric, table, sure))
    return found


_Sure = Mapping[TargetDataset, Mapping[ImageMetric, Resampled]]


def _report_table(matrix: Matrix, metric: Metric, table: Table, sure: _Sure) -> ReportTable:
    shown = tuple(_comparable_row(matrix, row) for row in table.rows)
    by_title = {dataset.title: dataset for dataset in matrix.datasets}
    maker = RowMaker(matrix, Request(), {}, (), {}, (metric.name,))
    measured = {dataset: maker.values(dataset) for dataset in matrix.datasets}
    rows = []
    for row in shown:
        dataset = None if row.summary else by_title[row.label]
        over = maker.averaged(measured, row.group) if dataset is None else [dataset]
        standings = _standings(metric, over, sure)
        entries = [
            Entry(m, cell, _fitting(standings.get(m), cell), _seeds(matrix, m, over, metric))
            for m, cell in zip(matrix.methods, row.cells, strict=True)
        ]
        rows.append(ReportRow(row, dataset, tuple(entries)))
    return ReportTable(
        metric, dataclasses.replace(table, rows=shown, other_tracks=()), matrix, tuple(rows)
    )


def _standings(metric: Metric, over: Sequence[TargetDataset], sure: _Sure) -> Standings:
    """How sure the mean of a metric over some datasets is; nothing where it is not known."""
    name = next((own for own in RESAMPLED if own == metric.name), None)
    if name is None or not over or any(name not in sure[dataset] for dataset in over):
        return {}
    return mean_of(sure[dataset][name] for dataset in over).standings()


def _fitting(standing: Standing | None, cell: TableCell) -> Standing | None:
    """A standing, unless it is of another value than the one that is shown."""
    value = cell.numbers[0].value
    if standing is None or value is None:
        return None
    return standing if abs(100 * standing.interval.value - value) < SAME else None


def _seeds(
    matrix: Matrix, method: EvaluatedMethod, over: Iterable[TargetDataset], metric: Metric
) -> tuple[float, ...]:
    """The values of a method's seeds, where it has several and all datasets have them."""
    by_seed: list[dict[int, float]] = []
    for dataset in over:
        values = {r.cell.seed: measure([r], metric.name) for r in matrix.finished(method, dataset)}
        by_seed.append({s: 100 * v.value for s, v in values.items() if v.value is not None})
    seeds = set.intersection(*map(set, by_seed)) if by_seed else set()
    if len(seeds) < 2:
        return ()
    return tuple(fmean(own[seed] for own in by_seed) for seed in sorted(seeds))


def _comparable_row(matrix: Matrix, row: Row) -> Row:
    """A row without the printed numbers that measure something else."""
    datasets = [d for d in matrix.datasets if d.title == row.label]
    datasets = datasets or [d for d in matrix.datasets if d.domain == row.group]
    cells = [
        cell
        if all(is_comparable(matrix, method, dataset) for dataset in datasets)
        else _without_printed(cell)
        for method, cell in zip(matrix.methods, row.cells, strict=True)
    ]
    return dataclasses.replace(row, cells=tuple(cells))


def _without_printed(cell: TableCell) -> TableCell:
    numbers = tuple(dataclasses.replace(number, printed=None) for number in cell.numbers)
    notes = tuple(note for note in cell.notes if not note.startswith(DOUBTFUL))
    return dataclasses.replace(cell, numbers=numbers, notes=notes)


def domain_title(domain: str) -> str:
    """A domain as a heading."""
    return DOMAIN_TITLES.get(domain, domain.capitalize())
