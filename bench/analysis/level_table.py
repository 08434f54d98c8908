"""The image-level and the pixel-level table: datasets by methods (Tables 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..metric_table import METRICS, Level
from ..names import normalize_name
from . import published as paper
from .formats import Row, Table
from .layout import Request, method_columns, remarks
from .matrix import Matrix, TargetDataset
from .paired_rows import PairedRows, RowValues
from .values import NOT_RUN, UNDEFINED, Value

DOMAINS = ("industrial", "medical")


def level_table(matrix: Matrix, request: Request, level: Level) -> Table:
    """Tables 1 and 2: datasets by methods, then domain means."""
    names = paper.models()
    models = {method: method.printed_as(names) for method in matrix.methods}
    metrics = request.level_metrics(level)
    pairs = PairedRows(matrix, request, level, paper.MAIN_TABLE[level], models, metrics)
    rows: list[Row] = []
    measured: dict[TargetDataset, RowValues] = {}
    left_out: dict[TargetDataset, str] = {}  # with the reason
    for dataset in matrix.datasets:
        values = pairs.values(dataset)
        why = _undefined_everywhere(values.values())
        if why and _is_left_out(dataset, level):
            left_out[dataset] = why
            continue
        measured[dataset] = values
        rows.append(pairs.row(dataset, values, dataset.domain))
    means = (pairs.mean(measured, domain, domain) for domain in DOMAINS)
    shown = _by_group([*rows, *(row for row in means if row is not None)])
    labels = tuple(METRICS[metric].label for metric in metrics)
    where = f"Table {paper.MAIN_TABLE[level]}"
    below = remarks(matrix, request, where, "pixel_pro" in metrics, shown)
    for why in dict.fromkeys(left_out.values()):
        titles = ", ".join(dataset.title for dataset, own in left_out.items() if own == why)
        below.append(f"Not shown: {titles} ({why}).")
    return Table(
        level,
        f"{level.capitalize()}-level ({', '.join(labels)}) in percent",
        ("Domain", "Dataset"),
        method_columns(matrix, labels),
        tuple(shown),
        tuple(below),
        left_out=tuple(pairs.hidden(dataset, why) for dataset, why in left_out.items()),
    )


def _is_left_out(dataset: TargetDataset, level: Level) -> bool:
    """The paper has the dataset, but not in its table of this level."""
    known = paper.domain_of(dataset.name) is not None
    return known and normalize_name(dataset.name) not in map(normalize_name, paper.datasets(level))


def _by_group(rows: Sequence[Row]) -> list[Row]:
    """Rows of a group together, groups in the order of their first rows."""
    groups = list(dict.fromkeys(row.group for row in rows))
    return [row for group in groups for row in rows if row.group == group]


def _undefined_everywhere(values: Iterable[Sequence[Value]]) -> str:
    """Why no method has any value of a row; "" if one has, or if one failed."""
    every = [value for own in values for value in own]
    notes = dict.fromkeys(note for value in every for note in value.notes)
    reasons = [note.removeprefix(UNDEFINED) for note in notes if note.startswith(UNDEFINED)]
    others = [note for note in notes if not note.startswith(UNDEFINED) and note != NOT_RUN]
    if any(v.value is not None for v in every) or others:
        return ""
    return "; ".join(reasons)
