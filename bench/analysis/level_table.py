"""The image-level and the pixel-level table: datasets by methods (Tables 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..metric_table import METRICS, Level
from ..names import normalize_name
from . import published as paper
from .formats import Row, Table
from .layout import Request, method_columns, remarks
from .matrix import Matrix, TargetDataset
from .protocol_notes import protocol_notes
from .rows import RowMaker
from .values import NOT_RUN, UNDEFINED, Value


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
    """The paper has the dataset, but not in its table of this level."""
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
