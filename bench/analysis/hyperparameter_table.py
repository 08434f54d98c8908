"""What options do to means over domains: Table 11 and Figures 4, 5 and 7 of the FAPrompt paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import UsageError
from ..metric_table import LEVELS, METRICS, Level, of_level
from ..names import display_name
from .layout import Request, remarks
from .matrix import EvaluatedMethod, Matrix
from .rows import RowMaker, is_complete
from .sweeps import Sweep, find_sweeps
from .table_data import Column, Row, Table, TableCell

PRINTED_TABLE = 11
# Options as the paper calls them; printed are values of the first two.
WORDS: Mapping[str, str] = {
    "deep_length": "token length",
    "deep_depth": "layers with learnable tokens",
    "n_prompts": "K",
    "n_selected": "M",
    "n_normal, n_abnormal": "(E, E')",
}
PRINTED: Mapping[str, str] = {
    "deep_length": "token_length",
    "deep_depth": "layers_with_learnable_tokens",
}
NOT_PRINTED = (
    "Table 11 prints means over domains for token length and layers. What figures 4, 5 and 7 show "
    "(K, M, E and E') is not in the text that was read: there the run's numbers stand alone."
)


@dataclass
class _Place:
    """A column: a level in a domain."""

    level: Level
    domain: str
    cells: dict[EvaluatedMethod, TableCell] = field(default_factory=dict)


def hyperparameter_table(matrix: Matrix, request: Request) -> Table:
    """The values of each option that was swept by means over domains, a group for each option.

    Raises:
        UsageError: no option takes several values.
    """
    sweeps = find_sweeps(matrix)
    if not sweeps:
        raise UsageError(
            "no option takes several values to show in layout 'hyperparameters': run a plan with a "
            'sweep, for example [[methods]] name = "faprompt", sweep = { deep_length = [2, 4] }'
        )
    levels = [level for level in LEVELS if _metrics(request, level)]
    places = [_Place(level, domain) for level in levels for domain in matrix.domains]
    told: list[str] = []
    rows: list[Row] = []
    for sweep in sweeps:
        for place in places:
            _fill(place, matrix, request, sweep, told)
        rows += _rows(sweep, places, len({own.title for own in sweeps}) > 1)
    shown = [i for i, place in enumerate(places) if any(map(_has_value, place.cells.values()))]
    return Table(
        "hyperparameters",
        "Options: means over domains in percent",
        ("Option", "Value"),
        tuple(_column(places[i], request) for i in shown),
        tuple(dataclasses.replace(r, cells=tuple(r.cells[i] for i in shown)) for r in rows),
        (*remarks(matrix, request, "Table 11", True, rows), *dict.fromkeys(told), NOT_PRINTED),
    )


def _metrics(request: Request, level: Level) -> tuple[str, ...]:
    return of_level(level, request.metrics) if request.metrics else request.pair(level)


def _column(place: _Place, request: Request) -> Column:
    labels = tuple(METRICS[metric].label for metric in _metrics(request, place.level))
    return Column(f"{place.domain}, {place.level}", labels)


def _rows(sweep: Sweep, places: list[_Place], by_title: bool) -> list[Row]:
    """A row for each value of an option."""
    option = ", ".join(map(display_name, sweep.option.split(", ")))
    words = WORDS.get(sweep.option)
    group = f"{words} ({option})" if words else option
    if by_title:
        group = f"{sweep.title}: {group}"
    return [
        Row(value, tuple(place.cells[method] for place in places), group)
        for value, method in zip(sweep.values, sweep.methods, strict=True)
    ]


def _fill(place: _Place, matrix: Matrix, request: Request, sweep: Sweep, told: list[str]) -> None:
    """The cells of a sweep's methods in a column, and what must be told of them.

    A cell is the mean over the domain, or its only dataset.
    """
    own = dataclasses.replace(matrix, methods=tuple(sweep.methods))
    models = {method: _printed_model(method, sweep) for method in sweep.methods}
    metrics = _metrics(request, place.level)
    maker = RowMaker(own, request, models, (PRINTED_TABLE,), {}, metrics)
    measured = {d: maker.values(d) for d in matrix.datasets if d.domain == place.domain}
    defined = {d: v for d, v in measured.items() if any(map(is_complete, v.values()))}
    rows = maker.by_domain(defined)
    means = [row for row in rows if row.summary] or (rows if len(rows) == 1 else [])
    empty = maker.empty_cell(*["no mean over the domain"] * bool(rows))
    cells = means[0].cells if means else (empty,) * len(models)
    place.cells |= dict(zip(sweep.methods, map(_unranked, cells), strict=True))
    for row in means:
        notes = f" ({'; '.join(row.notes)})" if row.notes else " alone" * (not row.summary)
        if notes:
            told.append(f"{place.domain}, {place.level} level: {row.label}{notes}.")


def _unranked(cell: TableCell) -> TableCell:
    """Without marks: those would compare the values of an option, which have no row here."""
    numbers = tuple(dataclasses.replace(number, rank=0) for number in cell.numbers)
    return dataclasses.replace(cell, numbers=numbers)


def _printed_model(method: EvaluatedMethod, sweep: Sweep) -> str | None:
    """The name of a printed row: where nothing but the option differs from the paper's setting."""
    of_paper = method.method_among(["FAPrompt"]) and method.variant == "paper"
    if not of_paper or sweep.option not in PRINTED or set(method.options) - {sweep.option}:
        return None
    value = sweep.values[sweep.methods.index(method)]
    return f"{PRINTED[sweep.option]}={value}"


def _has_value(cell: TableCell) -> bool:
    return any(number.value is not None for number in cell.numbers)
