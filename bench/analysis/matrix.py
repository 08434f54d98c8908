"""The results matrix: the records of a run arranged by evaluated method and target dataset.

Tables, figures, comparisons and the report all read it, so that order, labels and values are the
same everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UsageError, unknown_name
from ..names import display_name, normalize_name
from ..records.cell import labelled
from ..records.record import Record, read_records
from ..track import Track
from . import published as paper
from .values import Value, measure


class NoRecordsError(UsageError):
    """A run directory is sound and empty: nothing was run yet, or not in this shard."""

    exit_code = 1


@dataclass(frozen=True)
class EvaluatedMethod:
    """A method in one variant with one set of options: a column of the matrix.

    Attributes:
        method, variant: registry names.
        options_text: the options that differ from the variant's defaults, as JSON; "" without any.
        title: with the label of its entry in the plan.
        track: what it sees of its targets; only methods of one track are compared.
        label: unique within the matrix: the title, with variant and options only where titles of
            its track are equal, and with the track unless that is zero-shot.
        index: place in the order of columns.
    """

    method: str
    variant: str
    options_text: str
    title: str
    track: Track = Track.ZERO_SHOT
    label: str = field(default="", compare=False)
    index: int = field(default=0, compare=False)

    @classmethod
    def of(cls, record: Record) -> EvaluatedMethod:
        """The method of a record, without its label and place in a matrix."""
        cell = record.cell
        title = labelled(record.title, cell.label)
        return cls(cell.method, cell.variant, cell.options_text, title, record.track)

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that differ from the variant's defaults."""
        values: Mapping[str, Any] = json.loads(self.options_text or "{}")
        return values

    @property
    def ablation(self) -> str | None:
        """The paper's name of the ablation that the variant is, None for another variant."""
        names = map(normalize_name, (self.title, self.method))
        found = (paper.model_of_variant().get((name, self.variant)) for name in names)
        return next((model for model in found if model), None)

    def printed_as(self, names: Iterable[str]) -> str | None:
        """The one of the paper's names that stands for this method.

        None for an ablation of it, and in another track than the paper's.
        """
        of_paper = self.ablation is None and self.track is Track.ZERO_SHOT
        return self.method_among(names) if of_paper else None

    def method_among(self, names: Iterable[str]) -> str | None:
        """The one of the paper's names that its method has, whatever the variant."""
        own = {normalize_name(self.title), normalize_name(self.method)}
        return next((name for name in names if normalize_name(name) in own), None)

    def is_named(self, name: str) -> bool:
        """Whether a user means this method by its name, title or label, or by NAME@VARIANT."""
        own = set(map(normalize_name, (self.method, self.title, self.label)))
        method, at, variant = name.partition("@")
        with_variant = at and normalize_name(variant) == normalize_name(self.variant)
        return normalize_name(name) in own or bool(with_variant and normalize_name(method) in own)


@dataclass(frozen=True)
class TargetDataset:
    """A dataset that methods were evaluated on: a row of the matrix.

    Attributes:
        name: registry name with the label of its entry in the plan (`Cell.target`).
        title: as the paper prints it, or as its loader calls itself.
        domain: industrial, medical, or what its loader says.
    """

    name: str
    title: str = field(compare=False)
    domain: str = field(compare=False)

    def is_named(self, name: str) -> bool:
        """Whether a user means this dataset by its name or title."""
        return normalize_name(name) in map(normalize_name, (self.name, self.title))


@dataclass(frozen=True)
class Matrix:
    """Records by evaluated method and target dataset.

    Attributes:
        methods: in the order of columns: by track, the paper's, then alphabetically.
        datasets: in the order of rows: the paper's, then alphabetically.
        cells: all seeds of a method on a dataset; those that failed too.
        records: all records, in the order in which they were given.
        allow_incomplete: let incomplete datasets into means, and beside printed numbers.
    """

    methods: tuple[EvaluatedMethod, ...]
    datasets: tuple[TargetDataset, ...]
    cells: Mapping[tuple[EvaluatedMethod, TargetDataset], tuple[Record, ...]]
    records: tuple[Record, ...]
    allow_incomplete: bool = False

    @classmethod
    def read(cls, run: Path | str, allow_incomplete: bool = False) -> Matrix:
        """The matrix of a run directory.

        Raises:
            RecordError: the directory is not a run, or a record is broken.
            NoRecordsError: it has no records yet.
        """
        return arrange(run, allow_incomplete=allow_incomplete)

    @cached_property
    def finished_records(self) -> list[Record]:
        """All records that did not fail."""
        return [record for record in self.records if record.error is None]

    @cached_property
    def failed_records(self) -> list[Record]:
        """All records of cells that failed."""
        return [record for record in self.records if record.error is not None]

    @property
    def domains(self) -> list[str]:
        """The domains of the datasets, in order."""
        return list(dict.fromkeys(dataset.domain for dataset in self.datasets))

    @property
    def tracks(self) -> list[Track]:
        """The tracks of the methods, in order."""
        return sorted({method.track for method in self.methods}, key=lambda track: track.place)

    def of_track(self, track: Track) -> Matrix:
        """The methods of a track, and the datasets on which one of them has a record.

        Labels and places stay those of the whole matrix.
        """
        methods = tuple(method for method in self.methods if method.track is track)
        cells = {key: own for key, own in self.cells.items() if key[0] in methods}
        return replace(
            self,
            methods=methods,
            datasets=tuple(d for d in self.datasets if any((m, d) in cells for m in methods)),
            cells=cells,
            records=tuple(record for record in self.records if record.track is track),
        )

    def cell(self, method: EvaluatedMethod, dataset: TargetDataset) -> tuple[Record, ...]:
        """The records of a cell, none where it was not run."""
        return self.cells.get((method, dataset), ())

    def finished(self, method: EvaluatedMethod, dataset: TargetDataset) -> list[Record]:
        """The records of a cell that did not fail, by seed."""
        records = [r for r in self.cell(method, dataset) if r.error is None]
        return sorted(records, key=lambda r: r.cell.seed)

    def of_method(self, method: EvaluatedMethod) -> list[Record]:
        """All records of a method."""
        return [r for dataset in self.datasets for r in self.cell(method, dataset)]

    def of_dataset(self, dataset: TargetDataset) -> list[Record]:
        """All records of a dataset."""
        return [r for method in self.methods for r in self.cell(method, dataset)]

    def value(
        self,
        method: EvaluatedMethod,
        dataset: TargetDataset,
        metric: str,
        category: str | None = None,
    ) -> Value:
        """A metric of a cell, or of one of its categories; see `measure`."""
        return measure(self.cell(method, dataset), metric, category)

    def leaves_out(self, value: Value) -> bool:
        """Whether a value stays out of differences and means: its dataset is incomplete."""
        return value.incomplete and not self.allow_incomplete

    def categories(self, dataset: TargetDataset) -> list[str]:
        """The categories of a dataset in the paper's order, then in the records'."""
        order = [normalize_name(name) for name in paper.categories(dataset.name)]
        records = self.of_dataset(dataset)
        found = dict.fromkeys(result.category for r in records for result in r.categories)
        return sorted(found, key=lambda name: place(normalize_name(name), order))

    def select_methods(self, names: Iterable[str]) -> list[EvaluatedMethod]:
        """The methods that are named (`EvaluatedMethod.is_named`), in order; all without names.

        Raises:
            UsageError: a name fits none of them.
        """
        shown = [display_name(f"{m.method}@{m.variant}") for m in self.methods]
        shown += [method.label for method in self.methods]
        return _select("method", self.methods, names, shown)

    def select_datasets(self, names: Iterable[str]) -> list[TargetDataset]:
        """The datasets whose name or title is given, in order; all without names.

        Raises:
            UsageError: a name fits none of them.
        """
        shown = [display_name(dataset.name) for dataset in self.datasets]
        return _select("dataset", self.datasets, names, shown)


Named = TypeVar("Named", EvaluatedMethod, TargetDataset)


def _select(
    kind: str, found: Sequence[Named], names: Iterable[str], shown: Iterable[str]
) -> list[Named]:
    """Those that are named, all without names; `shown` are the names to suggest."""
    wanted = list(names)
    for name in wanted:
        if not any(item.is_named(name) for item in found):
            raise unknown_name(f"{kind} of this run", name, shown)
    return [item for item in found if not wanted or any(map(item.is_named, wanted))]


def arrange(
    source: Path | str | Iterable[Record],
    datasets: Sequence[str] = (),
    allow_incomplete: bool = False,
) -> Matrix:
    """Records by method and dataset.

    Args:
        source: a run directory, or records of any status.
        datasets: only these; all if empty.
        allow_incomplete: see `Matrix`.

    Raises:
        RecordError: the directory is not a run, or a record is broken.
        NoRecordsError: there are no records.
        UsageError: a dataset is not among them.
    """
    everything = read_records(source) if isinstance(source, str | Path) else list(source)
    if not everything:
        raise NoRecordsError("the run has no records yet: 'zsad run' fills it")
    matrix = _arranged(everything, allow_incomplete)
    if not datasets:
        return matrix
    chosen = {dataset.name for dataset in matrix.select_datasets(datasets)}
    return _arranged([r for r in everything if r.cell.target in chosen], allow_incomplete)


def _arranged(records: Sequence[Record], allow_incomplete: bool) -> Matrix:
    by_dataset: dict[str, list[Record]] = {}
    for record in records:
        by_dataset.setdefault(record.cell.target, []).append(record)
    datasets = {name: _dataset(name, own) for name, own in by_dataset.items()}
    methods = {method: method for method in _ordered(map(EvaluatedMethod.of, records))}
    cells: dict[tuple[EvaluatedMethod, TargetDataset], list[Record]] = {}
    for record in records:
        key = (methods[EvaluatedMethod.of(record)], datasets[record.cell.target])
        cells.setdefault(key, []).append(record)
    order = [normalize_name(name) for name in paper.datasets()]
    rows = sorted(
        datasets.values(), key=lambda d: (place(normalize_name(d.name), order), d.name.lower())
    )
    return Matrix(
        tuple(methods),
        tuple(rows),
        {key: tuple(own) for key, own in cells.items()},
        tuple(records),
        allow_incomplete,
    )


def _ordered(methods: Iterable[EvaluatedMethod]) -> list[EvaluatedMethod]:
    """Each method once, in the order of columns, with its label and place."""
    printed = paper.models()
    ordered = sorted(
        set(methods),
        key=lambda m: (
            m.track.place,
            place(m.method_among(printed), printed),
            m.title.lower(),
            m.variant,
            m.options_text,
        ),
    )
    return [replace(m, label=_label(m, ordered), index=i) for i, m in enumerate(ordered)]


def _label(method: EvaluatedMethod, methods: Iterable[EvaluatedMethod]) -> str:
    rivals = [
        m for m in methods if (m.title, m.track) == (method.title, method.track) and m != method
    ]
    text = labelled(method.title, "" if method.track is Track.ZERO_SHOT else method.track)
    if any(m.variant != method.variant for m in rivals):
        text += f" ({display_name(method.variant)})"
    if any(m.variant == method.variant for m in rivals) and method.options_text:
        text += f" {options_words(method.options)}"
    return text


def options_words(options: Mapping[str, Any]) -> str:
    """Options as words: "n_prompts=1, sigma=4"."""
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in options.items())


def _dataset(name: str, records: Sequence[Record]) -> TargetDataset:
    """A dataset by the name that its records share."""
    cell = records[0].cell
    key = normalize_name(cell.dataset)
    titles = [printed for printed in paper.datasets() if normalize_name(printed) == key]
    titles += [str(title) for r in records if (title := r.protocol.get("dataset_title"))]
    domains = [str(domain) for r in records if (domain := r.protocol.get("domain"))]
    domain = paper.domain_of(name) or [*domains, "other"][0]
    return TargetDataset(name, labelled([*titles, cell.dataset][0], cell.dataset_label), domain)


def place(name: Any, order: Sequence[Any]) -> int:
    """The position of a name in the paper's order; after all of them if it has none."""
    return order.index(name) if name in order else len(order)
