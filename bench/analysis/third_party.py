"""What third parties print for the methods of a run: how far it lies apart, and who prints what."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import UsageError
from ..metric_table import LEVELS, METRICS, checked_metrics
from ..names import known_name
from ..records.record import Record
from . import published as paper
from .layout import in_track, percent
from .matrix import EvaluatedMethod, Matrix, TargetDataset, arrange
from .newer_methods import means, read_number
from .table_data import Column, Number, Row, Table, TableCell

NAMES = ("here", "lowest", "highest", "count")  # the numbers of a cell
REMARKS = (
    "A cell holds this run's value, then the lowest and the highest value that third parties "
    "print and how many there are; its footnote names each of them. Quoted values repeat another "
    "paper's; of values marked ? it is not said who measured them.",
    "results/published/third_party.csv has the sources. What explains the spread where that is "
    "known: docs/results.md.",
)
MARKS: Mapping[str, str] = {"measured": "", "quoted": " quoted", "unstated": "?"}


@dataclass(frozen=True)
class ThirdPartyNumber:
    """A number that others than a method's authors print for it; "" is what they do not state.

    Attributes:
        metric: name as in records ("pixel_pro").
        value: percent, with the decimals that are printed.
        measured_by: the paper, repository or person that prints it.
        basis: one of `MARKS`: whether who prints it has measured it.
        backbone, image_size, pro_definition: how it was measured.
        accessed: ISO date.
        source: address, and where to look there.
    """

    method: str
    dataset: str
    metric: str
    value: float
    measured_by: str
    basis: str
    backbone: str
    image_size: str
    pro_definition: str
    accessed: str
    source: str


@cache
def third_party_numbers() -> tuple[ThirdPartyNumber, ...]:
    """All of results/published/third_party.csv, by source."""
    return tuple(read_number(ThirdPartyNumber, row) for row in paper.rows("third_party.csv"))


def third_parties(method: EvaluatedMethod, dataset: str, metric: str) -> list[ThirdPartyNumber]:
    """What third parties print for a metric of a method on a dataset, the lowest first."""
    found = [
        number
        for number in third_party_numbers()
        if number.metric == metric and means(method, number.method, dataset, number.dataset)
    ]
    return sorted(found, key=lambda number: number.value)


def third_party_table(
    source: Path | str | Iterable[Record],
    level: str,
    *,
    datasets: Sequence[str] = (),
    metrics: Sequence[str] = (),
    allow_incomplete: bool = False,
) -> Table:
    """The spread of third-party numbers: datasets and metrics by methods, each track by itself.

    Args:
        source: a run directory or records.
        level: of the metrics: image or pixel.
        datasets: only these; all if empty.
        metrics: only these; all of the level if empty.
        allow_incomplete: show this run's value of an incomplete dataset too.

    Raises:
        RecordError: the directory is not a run, or a record is broken.
        UsageError: an unknown level, dataset or metric, or nothing that a third party prints.
    """
    level = known_name("layout of third-party numbers", level, LEVELS)
    chosen = [m for m in checked_metrics(metrics) or METRICS if METRICS[m].level == level]
    matrix = arrange(source, datasets, allow_incomplete)
    tables = []
    for track in matrix.tracks:
        own = matrix.of_track(track)
        rows = tuple(row for dataset in own.datasets for row in _rows(own, dataset, chosen))
        columns = tuple(Column(method.label, NAMES) for method in own.methods)
        title = f"{level.capitalize()}-level numbers of third parties in percent"
        if rows:
            table = Table(f"third {level}", title, ("Dataset", "Metric"), columns, rows, REMARKS)
            tables.append(in_track(table, track))
    if not tables:
        raise UsageError(
            f"no third party prints a {level}-level number for a method and dataset of this run"
        )
    return dataclasses.replace(tables[0], other_tracks=tuple(tables[1:]))


def _rows(matrix: Matrix, dataset: TargetDataset, metrics: Sequence[str]) -> list[Row]:
    """A row for each metric of which a third party prints a value of some method."""
    rows = []
    for metric in metrics:
        cells = tuple(_cell(matrix, method, dataset, metric) for method in matrix.methods)
        if any(cell.notes for cell in cells):
            rows.append(Row(METRICS[metric].label, cells, dataset.title))
    return rows


def _cell(
    matrix: Matrix, method: EvaluatedMethod, dataset: TargetDataset, metric: str
) -> TableCell:
    """This run's value beside the spread, with who prints what as a note."""
    own = matrix.value(method, dataset, metric)
    here = Number() if matrix.leaves_out(own) else percent(own)
    found = third_parties(method, dataset.name, metric)
    if not found:
        return TableCell((here, Number(), Number(), Number(decimals=0)))
    spread = (Number(found[0].value), Number(found[-1].value), Number(len(found), decimals=0))
    told = [f"{n.value:g} {n.measured_by}{MARKS[n.basis]}" for n in found]
    note = f"{method.title}, {dataset.title}, {METRICS[metric].title}: {', '.join(told)}"
    return TableCell((here, *spread), notes=(note,))
