"""The tables of numbers: of a level, and per category."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import UsageError
from ..metric_table import LEVELS, METRICS, Level
from ..names import normalize_name
from . import published as paper
from .layout import Request, method_columns, remarks
from .matrix import Matrix, TargetDataset
from .notices import BUILT_IN_DOMAINS
from .protocol_notes import protocol_notes
from .rows import RowMaker
from .table_data import Row, Table
from .values import NOT_RUN, UNDEFINED, Value

BREAKDOWN_TABLES = tuple(range(12, 20))


def level_table(matrix: Matrix, request: Request, level: Level) -> Table:
    """Tables 1 and 2: datasets by methods, then domain means."""
    metrics = request.level_metrics(level)
    table = paper.MAIN_TABLE[level]
    models = {method: method.printed_as(paper.models()) for method in matrix.methods}
    maker = RowMaker(matrix, request, models, (table,), protocol_notes(matrix), metrics)
    measured = {dataset: maker.values(dataset) for dataset in matrix.datasets}
    left_out: dict[TargetDataset, str] = {}  # with the reason
    for dataset in matrix.datasets:
        why = _undefined_everywhere(measured[dataset].values())
        if why and _is_left_out(dataset, level):
            left_out[dataset] = why
            del measured[dataset]
    rows = maker.by_domain(measured)
    labels = tuple(METRICS[metric].label for metric in metrics)
    below = remarks(matrix, request, f"Table {table}", "pixel_pro" in metrics, rows)
    for why in dict.fromkeys(left_out.values()):
        titles = ", ".join(dataset.title for dataset, own in left_out.items() if own == why)
        below.append(f"Not shown: {titles} ({why}).")
    empty = (maker.empty_cell(),) * len(matrix.methods)
    return Table(
        level,
        f"{level.capitalize()}-level ({', '.join(labels)}) in percent",
        ("Domain", "Dataset"),
        method_columns(matrix, labels),
        tuple(rows),
        tuple(below),
        left_out=tuple(
            Row(dataset.title, empty, dataset.domain, (UNDEFINED + why,))
            for dataset, why in left_out.items()
        ),
    )


def _is_left_out(dataset: TargetDataset, level: Level) -> bool:
    """The paper has the dataset, but not in its table of this level; or zsad draws it."""
    if dataset.domain in BUILT_IN_DOMAINS:
        return True
    known = paper.domain_of(dataset.name) is not None
    return known and normalize_name(dataset.name) not in map(normalize_name, paper.datasets(level))


def _undefined_everywhere(values: Iterable[Sequence[Value]]) -> str:
    """Why no method has any value of a row; "" if one has, or if one failed."""
    every = [value for own in values for value in own]
    notes = dict.fromkeys(note for value in every for note in value.notes)
    reasons = [note.removeprefix(UNDEFINED) for note in notes if note.startswith(UNDEFINED)]
    others = [note for note in notes if not note.startswith(UNDEFINED) and note != NOT_RUN]
    if any(v.value is not None for v in every) or others:
        return ""
    return "; ".join(reasons)


# -- per category (Tables 12 to 19) ------------------------------------------------------------


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
