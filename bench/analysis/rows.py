"""The rows of number tables: a dataset, a category or a mean, beside the printed numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ..metric_table import METRICS, Level
from ..names import normalize_name
from . import published as paper
from .layout import DOUBTFUL, Request, percent, ranked
from .matrix import EvaluatedMethod, Matrix, TargetDataset
from .newer_methods import NewerNumber, printed_for, source_notes
from .notices import BUILT_IN_DOMAINS
from .protocol_notes import CellNotes
from .table_data import Number, Row, TableCell
from .values import Value, notes_of

MEAN = "Mean"

PrintedNumber = paper.Printed | NewerNumber
Models = Mapping[EvaluatedMethod, str | None]  # the paper's name of each column, if it has one
RowValues = Mapping[EvaluatedMethod, Sequence[Value]]  # all metrics of every column
Measured = Mapping[TargetDataset, RowValues]


@dataclass(frozen=True)
class RowMaker:
    """Makes rows whose cells hold the same metrics.

    Attributes:
        matrix, request: what is shown, and how.
        models: the paper's name of each column, None where it has none.
        tables: numbers of the paper's tables with the printed values.
        protocol: notes on the cells of whole datasets.
        metrics: in the order of a cell's numbers, all of one level.
    """

    matrix: Matrix
    request: Request
    models: Models
    tables: tuple[int, ...]
    protocol: CellNotes
    metrics: tuple[str, ...]

    def values(self, dataset: TargetDataset, category: str | None = None) -> RowValues:
        """The metrics of every column on a dataset or a category."""
        return {
            m: [self.matrix.value(m, dataset, metric, category) for metric in self.metrics]
            for m in self.matrix.methods
        }

    def cells(
        self, dataset: TargetDataset, values: RowValues, category: str | None = None
    ) -> tuple[TableCell, ...]:
        """The cells of a dataset's row, or of a category's."""
        cells = []
        for method, own in values.items():
            notes = notes_of(own)
            if category is None and any(value.value is not None for value in own):
                notes += self.protocol.get((method, dataset), ())
            printed = self._printed(method, dataset.name, category or "")
            if any(map(self.matrix.leaves_out, own)):
                printed = [None] * len(own)
            if self.request.beside:
                notes += _notes_of_printed(printed)
            numbers = (
                percent(v, p.value if p else None) for v, p in zip(own, printed, strict=True)
            )
            cells.append(TableCell(tuple(numbers), notes=notes))
        return ranked(cells, self.metrics)

    def by_domain(self, measured: Measured, group_prefix: str = "") -> list[Row]:
        """The rows of datasets with the mean of each domain, a group for each domain."""
        rows = []
        for domain in self.matrix.domains:
            group = group_prefix + domain
            own = {dataset: v for dataset, v in measured.items() if dataset.domain == domain}
            rows += [Row(d.title, self.cells(d, v), group) for d, v in own.items()]
            mean = self._mean(own, domain, group)
            rows += [] if mean is None else [mean]
        return rows

    def _mean(self, measured: Measured, domain: str, group: str) -> Row | None:
        """The mean over a domain: of the paper's datasets those that every shown method has.

        Of the domains of built-in sets, which the paper does not have, any dataset counts.

        Methods without any value in the domain show a dash and do not count. There is no row for
        fewer than two datasets, nor where no dataset has a value of every method. Datasets whose
        copy is incomplete do not count unless they are allowed. Where the paper prints the mean of
        all its datasets, that stands beside theirs, else the mean of the printed numbers.
        """
        names = _averaged(METRICS[self.metrics[0]].level, domain, measured)
        present = self._present(measured, domain)
        active = self._active(measured, present)
        common = self.averaged(measured, domain)
        if not common:
            return None
        complete = len(common) == len(names)
        cells = []
        for method in self.matrix.methods:
            own = [measured[dataset][method] for dataset in present]
            if method in active:
                values = [measured[dataset][method] for dataset in common]
                cells.append(self._mean_cell(method, common, values, domain if complete else ""))
            elif any(map(is_complete, own)):
                cells.append(self.empty_cell("no complete dataset in this domain"))
            else:
                cells.append(self.empty_cell("no value in this domain"))
        label = MEAN if complete else f"{MEAN} of {len(common)} of {len(names)}"
        notes = [f"without {paper.LEFT_OUT_OF_MEANS}, as in the paper"] * (domain == "industrial")
        if not complete:
            notes.append(f"over {', '.join(d.title for d in common)}")
        return Row(label, ranked(cells, self.metrics), group, tuple(notes), summary=True)

    def averaged(self, measured: Measured, domain: str) -> list[TargetDataset]:
        """The datasets that the mean over a domain is over; none where there is no mean."""
        present = self._present(measured, domain)
        active = self._active(measured, present)
        common = [d for d in present if all(self._counts(measured[d][m]) for m in active)]
        return common if len(present) > 1 and active else []

    def _present(self, measured: Measured, domain: str) -> list[TargetDataset]:
        """The datasets there are of those that the mean over a domain covers."""
        names = _averaged(METRICS[self.metrics[0]].level, domain, measured)
        by_name = {normalize_name(d.name): d for d in measured if d.domain == domain}
        return [by_name[n] for n in map(normalize_name, names) if n in by_name]

    def _active(
        self, measured: Measured, present: Sequence[TargetDataset]
    ) -> list[EvaluatedMethod]:
        """The methods that have a value that counts on one of some datasets."""
        every = self.matrix.methods
        return [m for m in every if any(self._counts(measured[d][m]) for d in present)]

    def _mean_cell(
        self,
        method: EvaluatedMethod,
        datasets: Sequence[TargetDataset],
        values: Sequence[Sequence[Value]],
        domain: str,
    ) -> TableCell:
        """The means of a method over datasets, beside the domain's printed mean if there is one."""
        numbers = []
        printed = [self._printed(method, dataset.name) for dataset in datasets]
        for i, average in enumerate(self._printed(method, domain)):
            beside = [average] if average else [own[i] for own in printed]
            mean = _mean([own[i].value for own in values])
            numbers.append(percent(Value(mean), _mean([p.value if p else None for p in beside])))
        return TableCell(tuple(numbers))

    def _printed(
        self, method: EvaluatedMethod, place: str, category: str = ""
    ) -> list[PrintedNumber | None]:
        """What is printed for a column's metrics on a dataset, a category or a whole domain."""
        known = paper.numbers(*self.tables)
        newer = {} if category else printed_for(method, place)
        row = normalize_name(place), normalize_name(category), self.models[method] or ""
        names = map(self.request.printed_metric, self.metrics)
        return [known.get((*row, name)) or newer.get(name) for name in names]

    def _counts(self, values: Sequence[Value]) -> bool:
        """Whether a cell takes part in means."""
        return is_complete(values) and not any(map(self.matrix.leaves_out, values))

    def empty_cell(self, *notes: str) -> TableCell:
        """A cell without values."""
        return TableCell((Number(),) * len(self.metrics), notes=notes)


def _averaged(level: Level, domain: str, measured: Iterable[TargetDataset]) -> list[str]:
    """The datasets that the mean over a domain covers."""
    if domain in BUILT_IN_DOMAINS:
        return [dataset.name for dataset in measured]
    return paper.mean_datasets(level, domain)


def is_complete(values: Sequence[Value]) -> bool:
    """Whether no value is missing."""
    return all(value.value is not None for value in values)


def _notes_of_printed(printed: Sequence[PrintedNumber | None]) -> tuple[str, ...]:
    """What is doubtful about printed values, and where those of newer methods are from."""
    own = [p for p in printed if isinstance(p, paper.Printed)]
    found = [paper.erratum_of(p.table, p.dataset, p.model, p.category) for p in own]
    doubts = dict.fromkeys(DOUBTFUL + erratum.reason for erratum in found if erratum)
    return (*doubts, *source_notes([p for p in printed if isinstance(p, NewerNumber)]))


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if a value is missing."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
