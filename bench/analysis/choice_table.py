"""A study as a table: methods by the values of a choice, with the span of each metric."""

from __future__ import annotations

import dataclasses

from ..metric_table import METRICS
from ..names import display_name
from .layout import Request, percent, remarks
from .matrix import EvaluatedMethod, TargetDataset
from .study import Study
from .table_data import Column, Number, Row, Table, TableCell

SPAN = "greatest - least"


def choice_table(study: Study) -> Table:
    """Rows are methods in groups of datasets; means over categories in percent.

    The last column is how far the values of a row lie apart.
    """
    choice = study.choice
    names = tuple(METRICS[metric].title for metric in study.metrics)
    unit = f" ({choice.unit})" if choice.unit else ""
    return Table(
        display_name(study.over),
        f"{', '.join(names)} in percent by {choice.title}{unit}",
        ("Dataset", "Method"),
        (*(Column(value, names) for value in study.values), Column(SPAN, names)),
        tuple(_row(study, *place) for place in study.places),
        (*study.told, *remarks(study.matrices[0], Request(), "", False, ())),
    )


def _row(study: Study, dataset: TargetDataset, method: EvaluatedMethod) -> Row:
    cells = [_cell(study, dataset, method, i) for i in range(len(study.values))]
    columns = zip(*(cell.numbers for cell in cells), strict=True)
    spans = TableCell(tuple(map(_span, columns)))
    return Row(method.label, (*cells, spans), dataset.title)


def _cell(study: Study, dataset: TargetDataset, method: EvaluatedMethod, place: int) -> TableCell:
    """The metrics at a value; several seeds without their spread, which it does not show."""
    values = [study.matrices[place].value(method, dataset, metric) for metric in study.metrics]
    numbers = tuple(dataclasses.replace(percent(value), spread=None) for value in values)
    notes = dict.fromkeys(note for value in values for note in value.notes)
    if lost := study.lost_regions(dataset, method, place):
        notes[f"{lost} regions vanish from the masks"] = None
    return TableCell(numbers, notes=tuple(notes))


def _span(numbers: tuple[Number, ...]) -> Number:
    found = [number.value for number in numbers if number.value is not None]
    return Number(max(found) - min(found)) if len(found) > 1 else Number()
