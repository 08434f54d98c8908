"""The tables of a report, and the ranking of methods that they give in each domain and track.

A printed number is shown only with a number that measures the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from ..analysis.layout import DOUBTFUL, titled
from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset
from ..analysis.notices import is_built_in
from ..analysis.table_data import Row, Table, TableCell, has_differences
from ..analysis.tables import make_table
from ..analysis.values import is_incomplete
from ..metric_table import LEVELS, Level

DOMAIN_TITLES = {
    "synthetic": "Built-in",
    "surfaces": "Built-in surfaces",
    "objects": "Built-in objects",
    "lesions": "Built-in lesions",
    "custom": "Own",
    "other": "Other",
}


@dataclass(frozen=True)
class ReportTable:
    """The table of a level for the methods of one track.

    Attributes:
        matrix: of these methods.
    """

    level: Level
    table: Table
    matrix: Matrix

    @property
    def domains(self) -> list[tuple[str, list[Row]]]:
        """Its rows by domain."""
        by_domain = groupby(self.table.rows, key=lambda row: row.group)
        return [(domain, list(rows)) for domain, rows in by_domain]

    @property
    def has_differences(self) -> bool:
        """Whether any number has a printed one beside it."""
        return has_differences(self.table.rows)

    @property
    def remarks(self) -> list[str]:
        """The table's remarks, without what the page says above it or shows by other signs."""
        elsewhere = ("In braces", self.table.track.meaning)
        own = [text for text in self.table.remarks if not text.startswith(elsewhere)]
        return own if self.has_differences else [text for text in own if "printed" not in text]


def report_tables(matrix: Matrix) -> list[list[ReportTable]]:
    """For each level that has values the tables of its tracks."""
    found = []
    for level in LEVELS:
        allow = matrix.allow_incomplete
        table = make_table(matrix.records, level, delta=True, allow_incomplete=allow)
        shown = [own for own in table.tracks if _has_values(own)]
        found.append([_report_table(matrix.of_track(own.track), level, own) for own in shown])
    return [tables for tables in found if tables]


def _has_values(table: Table) -> bool:
    numbers = (n for row in table.rows for cell in row.cells for n in cell.numbers)
    return any(number.value is not None for number in numbers)


def _report_table(matrix: Matrix, level: Level, table: Table) -> ReportTable:
    rows = tuple(_comparable_row(matrix, row) for row in table.rows)
    return ReportTable(level, dataclasses.replace(table, rows=rows, other_tracks=()), matrix)


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


def is_comparable(matrix: Matrix, method: EvaluatedMethod, dataset: TargetDataset) -> bool:
    """Whether a cell measures what the paper printed.

    It does not with changed options, on a part of the images, with the tiny backbone, on a
    built-in dataset, or on an incomplete one unless that is allowed.
    """
    records = matrix.finished(method, dataset)
    limits = [r.protocol.get(name) for r in records for name in ("limit", "auxiliary_limit")]
    limited = any(limit is not None for limit in limits)
    chosen = any(r.completeness is not None and r.completeness.chosen for r in records)
    incomplete = is_incomplete(records) and not matrix.allow_incomplete
    built_in = any(is_built_in(record) for record in records)
    return not (method.options or limited or chosen or incomplete or built_in)


@dataclass(frozen=True)
class Ranking:
    """The methods of a track by their AUROC over the datasets of a domain, best first.

    Attributes:
        over: what the mean is over, in words.
        means: each method's AUROC in percent.
    """

    title: str
    domain: str
    over: str
    means: list[tuple[EvaluatedMethod, float]]

    @property
    def low(self) -> int:
        """Where the axis begins, in percent; it ends at 100."""
        return 10 * int(min(value for _, value in self.means) // 10)

    def position(self, value: float) -> float:
        """The place of a value in percent of the axis."""
        return 100 * (value - self.low) / max(100 - self.low, 1)


def rankings(tables: Sequence[Sequence[ReportTable]]) -> list[Ranking]:
    """For each level, track and domain the mean row of the table.

    A domain with a single dataset shows that one; one with several and no mean shows nothing.
    """
    found = []
    for own in (table for tables_of_level in tables for table in tables_of_level):
        for domain, rows in own.domains:
            means = [row for row in rows if row.summary] or (rows if len(rows) == 1 else [])
            title = titled(f"{domain_title(domain)}, {own.level} level", own.table.track)
            found += [_ranking(own.matrix, title, row) for row in means[:1]]
    return [ranking for ranking in found if ranking.means]


def _ranking(matrix: Matrix, title: str, row: Row) -> Ranking:
    values = [
        (method, cell.numbers[0].value)
        for method, cell in zip(matrix.methods, row.cells, strict=True)
        if cell.numbers and cell.numbers[0].value is not None
    ]
    over = "; ".join([row.label, *row.notes]) if row.summary else row.label
    return Ranking(title, row.group, over, sorted(values, key=lambda item: -item[1]))


def domain_title(domain: str) -> str:
    """A domain as a heading."""
    return DOMAIN_TITLES.get(domain, domain.capitalize())
