"""The table per category: a group of rows for each dataset and metric (Tables 12 to 19)."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import UsageError
from ..metric_table import METRICS
from ..names import normalize_name
from . import published as paper
from .formats import Row, Table, TableCell
from .layout import Request, errata_notes, method_columns, percent, ranked, remarks
from .matrix import Matrix, TargetDataset
from .protocol_notes import CellNotes, protocol_notes


def breakdown_table(matrix: Matrix, request: Request) -> Table:
    """Tables 12-19: the categories of a dataset by methods, one group of rows per metric."""
    metrics = request.metrics or (*request.pair("image"), *request.pair("pixel"))
    protocol = protocol_notes(matrix)
    chosen = matrix.datasets
    if not request.datasets:
        chosen = tuple(d for d in matrix.datasets if len(matrix.categories(d)) > 1) or chosen
    rows: list[Row] = []
    hidden: list[Row] = []
    for dataset in chosen:
        for metric in metrics:
            group = [
                _category_row(matrix, request, dataset, metric, category)
                for category in matrix.categories(dataset)
            ]
            group.append(_category_row(matrix, request, dataset, metric, None, protocol))
            if any(cell.numbers[0].value is not None for row in group for cell in row.cells):
                rows += group
            else:
                hidden.append(group[-1])
    if not rows:
        raise UsageError("no category has a value to show in layout 'breakdown'")
    below = remarks(matrix, request, "Tables 12 to 19", "pixel_pro" in metrics, rows)
    for row in hidden:
        why = "; ".join(dict.fromkeys(note for cell in row.cells for note in cell.notes))
        below.append(f"Not shown: {row.group} ({why}).")
    return Table(
        "breakdown",
        "Per category in percent",
        ("Metric", "Category"),
        method_columns(matrix),
        tuple(rows),
        tuple(below),
        left_out=tuple(hidden),
    )


def _category_row(
    matrix: Matrix,
    request: Request,
    dataset: TargetDataset,
    metric: str,
    category: str | None,
    protocol: CellNotes | None = None,
) -> Row:
    """A category's row, or for None the row of the mean, with notes on the cells' protocol."""
    printed = _printed(dataset, category, request.printed_metric(metric))
    cells = []
    for method in matrix.methods:
        value = matrix.value(method, dataset, metric, category)
        found = printed.get(method.printed_as(printed) or "")
        found = None if matrix.leaves_out(value) else found
        notes = value.notes
        if protocol and value.value is not None:
            notes += protocol.get((method, dataset), ())
        if found is not None and request.beside:
            notes += errata_notes(found.table, dataset, found.model, found.category)
        cells.append(TableCell((percent(value, found.value if found else None),), notes=notes))
    group = f"{dataset.title} {METRICS[metric].level}-level {METRICS[metric].label}"
    return Row(category or "mean", ranked(cells, [metric]), group, summary=category is None)


def _printed(
    dataset: TargetDataset, category: str | None, metric: str
) -> Mapping[str, paper.PrintedCategory]:
    """The printed numbers beside a row, by model."""
    name = normalize_name(category or paper.DATASET_MEAN)
    return paper.breakdown_by_row().get((normalize_name(dataset.name), name, metric), {})
