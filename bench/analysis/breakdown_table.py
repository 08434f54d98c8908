"""The table per category: a group of rows for each dataset and metric (Tables 12 to 19)."""

from __future__ import annotations

from ..errors import UsageError
from ..metric_table import LEVELS, METRICS
from . import published as paper
from .formats import Row, Table
from .layout import Request, method_columns, remarks
from .matrix import Matrix, TargetDataset
from .protocol_notes import protocol_notes
from .rows import RowMaker

BREAKDOWN_TABLES = tuple(range(12, 20))


def breakdown_table(matrix: Matrix, request: Request) -> Table:
    """Tables 12-19: the categories of a dataset by methods, one group of rows per metric."""
    models = {method: method.printed_as(paper.models()) for method in matrix.methods}
    protocol = protocol_notes(matrix)
    metrics = request.metrics or tuple(m for level in LEVELS for m in request.pair(level))
    chosen = matrix.datasets
    if not request.datasets:
        chosen = tuple(d for d in matrix.datasets if len(matrix.categories(d)) > 1) or chosen
    rows: list[Row] = []
    hidden: list[Row] = []
    for dataset in chosen:
        for metric in metrics:
            maker = RowMaker(matrix, request, models, BREAKDOWN_TABLES, protocol, (metric,))
            group = _group(maker, dataset)
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


def _group(maker: RowMaker, dataset: TargetDataset) -> list[Row]:
    """The rows of a dataset's categories, and of their mean."""
    metric = METRICS[maker.metrics[0]]
    name = f"{dataset.title} {metric.level}-level {metric.label}"
    rows = [
        Row(category, maker.cells(dataset, maker.values(dataset, category), category), name)
        for category in maker.matrix.categories(dataset)
    ]
    return [*rows, Row("mean", maker.cells(dataset, maker.values(dataset)), name, summary=True)]
