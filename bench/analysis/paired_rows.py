"""Rows of number pairs: what a run has on a dataset or on average, beside the printed numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from ..metric_table import Level
from ..names import normalize_name
from . import published as paper
from .formats import Number, Row, TableCell
from .layout import Request, errata_notes, percent, ranked
from .matrix import EvaluatedMethod, Matrix, TargetDataset
from .protocol_notes import CellNotes, protocol_notes
from .values import UNDEFINED, Value, notes_of

MEAN = "Mean"

Models = Mapping[EvaluatedMethod, str | None]  # the paper's name of each column, if it has one
RowValues = Mapping[EvaluatedMethod, Sequence[Value]]  # all metrics of every column


@dataclass(frozen=True)
class PairedRows:
    """Makes the rows of one level.

    Attributes:
        matrix, request, level: what is shown, and how.
        table: number of the paper's table with the printed values.
        models: the paper's name of each column, None where it has none.
        metrics: in the order of a cell's numbers.
    """

    matrix: Matrix
    request: Request
    level: Level
    table: int
    models: Models
    metrics: tuple[str, ...]

    @cached_property
    def _printed(self) -> Mapping[tuple[str, str], Mapping[str, float]]:
        """(normalized dataset, model) -> the printed numbers by metric."""
        return {
            (normalize_name(p.dataset), p.model): p.metrics
            for p in (*paper.main_results(), *paper.ablations())
            if p.table == self.table
        }

    @cached_property
    def _protocol(self) -> CellNotes:
        return protocol_notes(self.matrix)

    def values(self, dataset: TargetDataset) -> RowValues:
        """The metrics of every column."""
        return {
            m: tuple(self.matrix.value(m, dataset, metric) for metric in self.metrics)
            for m in self.matrix.methods
        }

    def row(self, dataset: TargetDataset, values: RowValues, group: str) -> Row:
        """A dataset's row."""
        cells = []
        for method, own in values.items():
            notes = notes_of(own)
            if any(value.value is not None for value in own):
                notes += self._protocol.get((method, dataset), ())
            printed = self._beside(method, dataset)
            if any(map(self.matrix.leaves_out, own)):
                printed = [None] * len(own)
            elif self.request.beside:
                notes += errata_notes(self.table, dataset, self.models[method])
            numbers = (percent(v, p) for v, p in zip(own, printed, strict=True))
            cells.append(TableCell(tuple(numbers), notes=notes))
        return Row(dataset.title, ranked(cells, self.metrics), group)

    def hidden(self, dataset: TargetDataset, why: str) -> Row:
        """The row of a dataset without any value."""
        cells = (self._empty(),) * len(self.matrix.methods)
        return Row(dataset.title, cells, dataset.domain, (UNDEFINED + why,))

    def mean(
        self, measured: Mapping[TargetDataset, RowValues], domain: str, group: str
    ) -> Row | None:
        """The mean over a domain: of the paper's datasets those that every shown method has.

        Methods without any value in the domain show a dash and do not count. There is no row for
        fewer than two datasets, nor where no dataset has a value of every method. Datasets whose
        copy is incomplete do not count unless they are allowed.
        """
        names = paper.mean_datasets(self.level, domain)
        by_name = {normalize_name(d.name): d for d in measured}
        present = [by_name[n] for n in map(normalize_name, names) if n in by_name]
        active = [
            m for m in self.matrix.methods if any(self._counts(measured[d][m]) for d in present)
        ]
        common = [d for d in present if all(self._counts(measured[d][m]) for m in active)]
        if len(present) < 2 or not active or not common:
            return None
        cells = []
        for method in self.matrix.methods:
            if method in active:
                cells.append(self._mean_cell(method, common, measured))
                continue
            some = any(is_complete(measured[d][method]) for d in present)
            why = "no complete dataset in this domain" if some else "no value in this domain"
            cells.append(self._empty(why))
        complete = len(common) == len(names)
        label = MEAN if complete else f"{MEAN} of {len(common)} of {len(names)}"
        notes = [f"without {paper.LEFT_OUT_OF_MEANS}, as in the paper"] * (domain == "industrial")
        if not complete:
            notes.append(f"over {', '.join(d.title for d in common)}")
        return Row(label, ranked(cells, self.metrics), group, tuple(notes), summary=True)

    def _mean_cell(
        self,
        method: EvaluatedMethod,
        datasets: Sequence[TargetDataset],
        measured: Mapping[TargetDataset, RowValues],
    ) -> TableCell:
        """The means of a method over datasets, beside those of the printed numbers."""
        numbers = []
        for i in range(len(self.metrics)):
            own = [measured[d][method][i].value for d in datasets]
            printed = [self._beside(method, d)[i] for d in datasets]
            numbers.append(percent(Value(_mean(own)), _mean(printed)))
        return TableCell(tuple(numbers))

    def _beside(self, method: EvaluatedMethod, dataset: TargetDataset) -> list[float | None]:
        """The printed numbers of a cell."""
        found = self._printed.get((normalize_name(dataset.name), self.models[method] or ""), {})
        return [found.get(self.request.printed_metric(metric)) for metric in self.metrics]

    def _counts(self, values: Sequence[Value]) -> bool:
        """Whether a cell takes part in means."""
        return is_complete(values) and not any(map(self.matrix.leaves_out, values))

    def _empty(self, *notes: str) -> TableCell:
        return TableCell((Number(),) * len(self.metrics), notes=notes)


def is_complete(values: Sequence[Value]) -> bool:
    """Whether no value is missing."""
    return all(value.value is not None for value in values)


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if a value is missing."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
