"""A run's records arranged by method and dataset, with what makes two of them incomparable.

A dataset's value is the unweighted mean over its categories, as in the paper; several seeds give a
mean and a standard deviation.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from ..errors import UsageError, unknown_name
from ..names import normalize_name
from ..records.cell import labelled
from ..records.record import UNDECLARED, CategoryResult, Record
from . import published as paper

NOT_RUN = "not run"
NULL = "null"  # an entry of the protocol that is not there, as JSON
UNDEFINED = "undefined: "

# Protocol entries that belong to a dataset must agree along its row, the others along a column.
ROW_PROTOCOL = (
    "dataset_fingerprint",
    "dataset_options",
    "mask_threshold",
    "mask_resize",
    "limit",
)
# Entries that say no more than others do: the learned weights follow from what was learned.
SILENT_PROTOCOL = ("dataset_title", "domain", "seed", "checkpoint_sha256")
# Entries that all columns of a table should share.
SHARED_PROTOCOL = ("backbone", "weights_sha256", "map_size", "metric_version", "precision")


class NoRecordsError(UsageError):
    """A run directory is sound and empty: nothing was run yet, or not in this shard."""

    exit_code = 1


_Entries = Mapping[str, str]  # a protocol, flat, its values as JSON texts


@dataclass(frozen=True)
class Contender:
    """What makes a column: a method in one variant with one set of options.

    `title` includes the label of its entry in the plan.
    """

    method: str
    variant: str
    options: str
    title: str

    @property
    def ablation(self) -> str | None:
        """The paper's name of the ablation that the variant is, None for another variant."""
        studied = self.method_among(paper.MODEL_OF_VARIANT)
        return None if studied is None else paper.MODEL_OF_VARIANT[studied].get(self.variant)

    def printed_as(self, names: Iterable[str]) -> str | None:
        """The one of the paper's names that stands for this method; none for an ablation of it."""
        return None if self.ablation is not None else self.method_among(names)

    def method_among(self, names: Iterable[str]) -> str | None:
        """The one of the paper's names that its method has, whatever the variant."""
        own = {normalize_name(self.title), normalize_name(self.method)}
        return next((name for name in names if normalize_name(name) in own), None)


@dataclass(frozen=True)
class Value:
    """A metric of a contender on a dataset or a category: in [0, 1], or None and why.

    Attributes:
        incomplete: measured on, or learned from, an incomplete copy of a dataset: not to be set
            beside numbers of the whole one.
    """

    value: float | None = None
    spread: float | None = None
    notes: tuple[str, ...] = ()
    incomplete: bool = False


@dataclass(frozen=True)
class Grid:
    """Records arranged by contender and dataset.

    Attributes:
        contenders: in the order of columns.
        datasets: names (`Cell.target`) in the order of rows.
        cells: all seeds of a contender on a dataset; those that failed too.
    """

    contenders: tuple[Contender, ...]
    datasets: tuple[str, ...]
    cells: Mapping[tuple[Contender, str], tuple[Record, ...]]

    def records(self, contender: Contender, dataset: str) -> tuple[Record, ...]:
        """The records of a cell, none where it was not run."""
        return self.cells.get((contender, dataset), ())

    def of_column(self, contender: Contender) -> list[Record]:
        """All records of a contender."""
        return [r for name in self.datasets for r in self.records(contender, name)]

    def of_row(self, dataset: str) -> list[Record]:
        """All records of a dataset."""
        return [r for c in self.contenders for r in self.records(c, dataset)]

    def categories(self, dataset: str) -> list[str]:
        """The categories of a dataset in the paper's order, then in the records'."""
        order = [normalize_name(name) for name in paper.categories(dataset)]
        records = self.of_row(dataset)
        found = dict.fromkeys(result.category for r in records for result in r.categories)
        return sorted(found, key=lambda name: place(normalize_name(name), order))

    def title(self, dataset: str) -> str:
        """A dataset as the paper prints it, or as its loader calls itself."""
        rows = self.of_row(dataset)
        name, label = (rows[0].cell.dataset, rows[0].cell.dataset_label) if rows else (dataset, "")
        known = [
            printed
            for printed in paper.datasets()
            if normalize_name(printed) == normalize_name(name)
        ]
        own = [str(r.protocol["dataset_title"]) for r in rows if _titled(r)]
        return labelled([*known, *own, name][0], label)

    def domain(self, dataset: str) -> str:
        """Industrial, medical, or what the dataset's loader says."""
        own = [str(r.protocol["domain"]) for r in self.of_row(dataset) if r.protocol.get("domain")]
        return paper.domain_of(dataset) or [*own, "other"][0]


def arrange(records: Iterable[Record], datasets: Sequence[str] = ()) -> Grid:
    """Records by contender and dataset, both in the paper's order, then alphabetically.

    Raises:
        NoRecordsError: there are no records.
        UsageError: a dataset is not among them.
    """
    everything = list(records)
    if not everything:
        raise NoRecordsError("the run has no records yet: 'zsad run' fills it")
    names = {record.cell.target for record in everything}
    for dataset in datasets:
        if normalize_name(dataset) not in map(normalize_name, names):
            raise unknown_name("dataset of this run", dataset, names)
    wanted = set(map(normalize_name, datasets or names))
    kept = [r for r in everything if normalize_name(r.cell.target) in wanted]
    cells: dict[tuple[Contender, str], list[Record]] = {}
    for record in kept:
        cells.setdefault((contender_of(record), record.cell.target), []).append(record)
    printed = paper.models()
    contenders = sorted(
        {contender for contender, _ in cells},
        key=lambda c: (
            place(c.method_among(printed), printed),
            c.title.lower(),
            c.variant,
            c.options,
        ),
    )
    order = [normalize_name(name) for name in paper.datasets()]
    rows = sorted(
        {name for _, name in cells}, key=lambda n: (place(normalize_name(n), order), n.lower())
    )
    return Grid(tuple(contenders), tuple(rows), {k: tuple(v) for k, v in cells.items()})


def contender_of(record: Record) -> Contender:
    """The column of a record."""
    cell = record.cell
    title = labelled(record.title, cell.label)
    return Contender(cell.method, cell.variant, cell.options_text, title)


def labels(contenders: Sequence[Contender]) -> list[str]:
    """Column labels: the title, with variant and options only where titles are equal."""
    found = []
    for contender in contenders:
        rivals = [c for c in contenders if c.title == contender.title and c != contender]
        text = contender.title
        if any(c.variant != contender.variant for c in rivals):
            text += f" ({contender.variant})"
        if any(c.variant == contender.variant for c in rivals) and contender.options:
            text += f" {options_words(contender.options)}"
        found.append(text)
    return found


def options_words(options: str) -> str:
    """A cell's options as words: "n_prompts=1, sigma=4"."""
    if not options:
        return ""
    return ", ".join(f"{k}={json.dumps(v)}" for k, v in json.loads(options).items())


# -- values -------------------------------------------------------------------------------------


def measure(records: Sequence[Record], metric: str, category: str | None = None) -> Value:
    """A metric over the seeds of one cell: mean over categories, then mean and sd over seeds.

    Args:
        records: the cell's records; several differ in their seeds only.
        metric: a name of `METRICS`.
        category: one category instead of the mean over all.
    """
    if not records:
        return Value(notes=(NOT_RUN,))
    values = [_measure_one(record, metric, category) for record in records]
    found = [v.value for v in values if v.value is not None]
    notes = list(dict.fromkeys(note for v in values for note in v.notes))
    if found and len(found) < len(values):
        notes.append(f"over {len(found)} of {len(values)} seeds")
    if found:
        notes += source_notes(records, category)
    return Value(
        fmean(found) if found else None,
        stdev(found) if len(found) > 1 else None,
        tuple(notes),
        bool(found) and is_incomplete(records, category),
    )


def is_incomplete(records: Iterable[Record], category: str | None = None) -> bool:
    """Whether records were measured on, or learned from, an incomplete copy of a dataset."""
    return any(_gaps(record, category) for record in records)


def source_notes(records: Iterable[Record], category: str | None = None) -> list[str]:
    """What a reader must know of the data behind some records, each once.

    Args:
        records: of one cell.
        category: what concerns this one alone, instead of the whole dataset.
    """
    notes: list[str] = []
    for record in records:
        if record.error is not None:
            continue
        notes += _gaps(record, category)
        chosen = record.completeness and dataclasses.replace(record.completeness, limit=None).chosen
        if chosen and category is None:  # a limit is told once, below the table
            notes.append(chosen)
        if record.protocol.get("auxiliary") == UNDECLARED:
            notes.append(
                "learned from an undeclared dataset, which may be this one: --learned-from NAME "
                "declares it"
            )
    return list(dict.fromkeys(notes))


def _gaps(record: Record, category: str | None) -> list[str]:
    """How the copies that a record was learned from and measured on differ from the releases."""
    held, auxiliary = record.completeness, record.auxiliary
    gaps = []
    if held is not None and category is None:
        gaps.append(held.gap)
    elif held is not None and category in (*held.differing_categories, *held.extra_categories):
        gaps.append("not the category's images as released")
    if auxiliary is not None and auxiliary.completeness is not None:
        gap = auxiliary.completeness.gap
        gaps.append(f"learned from {auxiliary.name}, {gap}" if gap else "")
    return [gap for gap in gaps if gap]


def notes_of(values: Iterable[Value]) -> tuple[str, ...]:
    """The notes of several values, each once."""
    return tuple(dict.fromkeys(note for value in values for note in value.notes))


def _measure_one(record: Record, metric: str, category: str | None) -> Value:
    if record.error is not None:
        return Value(notes=(f"failed: {record.error.type}: {_first_line(record.error.message)}",))
    results = record.categories
    if category is not None:
        results = [r for r in (record.by_category.get(category),) if r is not None]
    if not results:
        return Value(notes=(NOT_RUN if category else "the record has no categories",))
    defined = [r.metrics[metric] for r in results if metric in r.metrics]
    missing = [r for r in results if metric not in r.metrics]
    if not defined:
        reasons = dict.fromkeys(_reason(r, metric) for r in missing)
        return Value(notes=(UNDEFINED + "; ".join(reasons),))
    if not missing:
        return Value(fmean(defined))
    why = "; ".join(f"{r.category}: {_reason(r, metric)}" for r in missing)
    return Value(
        fmean(defined), notes=(f"over {len(defined)} of {len(results)} categories ({why})",)
    )


def _reason(result: CategoryResult, metric: str) -> str:
    return result.undefined.get(metric, "not recorded")


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]


def _titled(record: Record) -> bool:
    return bool(record.protocol.get("dataset_title"))


# -- protocol -----------------------------------------------------------------------------------


def protocol_notes(grid: Grid) -> dict[tuple[Contender, str], tuple[str, ...]]:
    """For each cell, what of its protocol differs from the rest of its column and of its row.

    The rest is represented by the most common value; where there is none, by the first.
    """
    cells = {
        key: [_entries(r) for r in records if r.protocol] for key, records in grid.cells.items()
    }
    notes: dict[tuple[Contender, str], list[str]] = {}
    for contender in grid.contenders:
        column = {key: entries for key, entries in cells.items() if key[0] == contender}
        for key, texts in _unusual(column, _of_a_column, "elsewhere in this column").items():
            notes.setdefault(key, []).extend(texts)
    for dataset in grid.datasets:
        row = {key: entries for key, entries in cells.items() if key[1] == dataset}
        for key, texts in _unusual(row, _of_a_row, "elsewhere in this row").items():
            notes.setdefault(key, []).extend(texts)
    return {key: tuple(dict.fromkeys(texts)) for key, texts in notes.items() if texts}


def _of_a_row(name: str) -> bool:
    return name.partition(".")[0] in ROW_PROTOCOL


def _of_a_column(name: str) -> bool:
    return not _of_a_row(name) and name.partition(".")[0] not in SILENT_PROTOCOL


def _unusual(
    cells: Mapping[tuple[Contender, str], Sequence[_Entries]],
    matters: Callable[[str], bool],
    where: str,
) -> dict[tuple[Contender, str], list[str]]:
    """What differs from the most common value among these cells, cell by cell."""
    every = [entries for described in cells.values() for entries in described]
    names = dict.fromkeys(name for entries in every for name in entries if matters(name))
    usual = {name: _most_common(every, name) for name in names}
    return {
        key: [
            f"{name} is {_short(entries.get(name, NULL))}, {where} {_short(value)}"
            for entries in described
            for name, value in usual.items()
            if entries.get(name, NULL) != value
        ]
        for key, described in cells.items()
    }


def _most_common(described: Sequence[_Entries], name: str) -> str:
    values = Counter(entries.get(name, NULL) for entries in described)
    return values.most_common(1)[0][0] if values else NULL


def _entries(record: Record) -> _Entries:
    """The protocol as JSON texts; what is inside an object is an entry of its own ("options.k").

    An option that the protocol states in effect as well (image_size) is left out.
    """
    found: dict[str, str] = {}
    for name, value in record.protocol.items():
        if isinstance(value, Mapping):
            inner = {f"{name}.{k}": v for k, v in value.items() if k not in record.protocol}
        else:
            inner = {name: value}
        found |= {k: json.dumps(v, sort_keys=True, default=str) for k, v in inner.items()}
    return found


def _short(text: str) -> str:
    """A protocol entry as a footnote may show it: hashes and long lists are cut."""
    plain = text.strip('"')
    return plain if len(plain) <= 24 else f"{plain[:12]}…"


def column_notes(grid: Grid, contender: Contender) -> tuple[str, ...]:
    """What tells a column from most others: shared protocol entries, and its options."""
    described = {c: [_entries(r) for r in grid.of_column(c) if r.protocol] for c in grid.contenders}
    notes = []
    for name in SHARED_PROTOCOL if described[contender] else ():
        values = {c: _most_common(entries, name) for c, entries in described.items() if entries}
        usual = Counter(values.values()).most_common(1)[0][0]
        if values[contender] != usual:
            notes.append(f"{name} is {_short(values[contender])}, in most columns {_short(usual)}")
    if any(text.startswith("backbone ") for text in notes):  # the weights are then others anyway
        notes = [text for text in notes if not text.startswith("weights_sha256 ")]
    if contender.options:
        notes.append(f"with {options_words(contender.options)}")
    return tuple(notes)


def place(name: Any, order: Sequence[Any]) -> int:
    """The position of a name in the paper's order; behind all of them if it has none."""
    return order.index(name) if name in order else len(order)


def protocol_difference(
    left: Sequence[Record], right: Sequence[Record], names: Sequence[str]
) -> list[str]:
    """What of the named protocol entries differs between two sides, one line per entry."""
    sides = [[_entries(r) for r in side if r.protocol] for side in (left, right)]
    found = []
    for name in dict.fromkeys(n for side in sides for entries in side for n in entries):
        a, b = (_most_common(side, name) for side in sides)
        if name.partition(".")[0] in names and a != b:
            found.append(f"{name} is {_short(a)} in a, {_short(b)} in b")
    return found
