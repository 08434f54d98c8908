"""A table in parts: a table for each number of its cells, some of its rows, some of its columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..metric_table import METRICS
from .table_data import Row, Table


def by_metric(table: Table) -> list[Table]:
    """A table for each metric whose values stand together in the cells.

    A table whose cells hold one number, or numbers that belong together, stays as it is.
    """
    names = table.columns[0].names if table.columns else ()
    if len(names) < 2 or not all(map(_is_metric, names)):
        return [table]
    return by_number(table)


def by_number(table: Table) -> list[Table]:
    """A table for each of the numbers that stand together in every cell."""
    names = table.columns[0].names
    together = f"({', '.join(names)})"
    found = []
    for i, name in enumerate(names):
        title = table.title.replace(together, name)
        if title == table.title:
            title = f"{table.title}: {name}"
        columns = tuple(dataclasses.replace(c, names=(name,)) for c in table.columns)
        rows = tuple(_row_of_number(row, i) for row in table.rows)
        found.append(dataclasses.replace(table, title=title, columns=columns, rows=rows))
    return found


def _is_metric(name: str) -> bool:
    labels = {metric.label for metric in METRICS.values()}
    return all(part in labels for part in name.split("/"))


def _row_of_number(row: Row, i: int) -> Row:
    """A row with the number at one place of its cells; texts stay."""
    cells = (dataclasses.replace(cell, numbers=cell.numbers[i : i + 1]) for cell in row.cells)
    return dataclasses.replace(row, cells=tuple(cells))


def with_rows(table: Table, rows: Sequence[Row]) -> Table:
    """The table with these rows only."""
    return dataclasses.replace(table, rows=tuple(rows))


def halves(table: Table) -> list[Table]:
    """The table's columns in two tables."""
    middle = -(-len(table.columns) // 2)
    parts = (slice(None, middle), slice(middle, None))
    return [
        dataclasses.replace(
            table,
            columns=table.columns[part],
            rows=tuple(dataclasses.replace(r, cells=r.cells[part]) for r in table.rows),
        )
        for part in parts
    ]
