"""What the report and the figures share about a run: who competes, where, and under which labels.

Order, labels and values are those of the tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import unknown_name
from ..names import normalize_name
from ..records.record import CategoryResult, Record, read_records
from . import matrix as grid

BUILT_IN = ("synthetic", "synthetic_aux")
TINY = "tiny"
BUILT_IN_NOTE = (
    "a built-in set for trying, teaching and guarding; "
    "its ranking of methods says nothing about real data"
)


@dataclass(frozen=True)
class Entrant:
    """A method in one variant with one set of options.

    Attributes:
        label: unique within the run, as the tables print it.
        index: place in the tables' order of columns.
    """

    contender: grid.Contender
    label: str
    index: int

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that differ from the variant's defaults."""
        values: Mapping[str, Any] = json.loads(self.contender.options or "{}")
        return values


@dataclass(frozen=True)
class Target:
    """A dataset by its registry name and as the tables print it."""

    name: str
    title: str
    domain: str


class Overview:
    """The records of a run, arranged as in the tables.

    Args:
        records: of any status.
        allow_incomplete: let incomplete datasets into means, and beside printed numbers.

    Raises:
        NoRecordsError: there are no records.
    """

    def __init__(self, records: Iterable[Record], allow_incomplete: bool = False) -> None:
        everything = list(records)
        self.allow_incomplete = allow_incomplete
        self.grid = grid.arrange(everything)
        self.everything = everything
        self.records = [record for record in everything if record.error is None]
        self.failed = [record for record in everything if record.error is not None]

    @classmethod
    def read(cls, run: Path, allow_incomplete: bool = False) -> Overview:
        """The overview of a run directory.

        Raises:
            RecordError: the directory is no run, or a record is broken.
            NoRecordsError: it has no records yet.
        """
        return cls(read_records(run), allow_incomplete)

    @cached_property
    def entrants(self) -> list[Entrant]:
        """In the tables' order of columns."""
        labels = grid.labels(self.grid.contenders)
        pairs = zip(self.grid.contenders, labels, strict=True)
        return [Entrant(contender, label, i) for i, (contender, label) in enumerate(pairs)]

    @cached_property
    def targets(self) -> list[Target]:
        """In the tables' order of rows."""
        names = self.grid.datasets
        return [Target(name, self.grid.title(name), self.grid.domain(name)) for name in names]

    @cached_property
    def domains(self) -> list[str]:
        """The domains of the datasets, in order."""
        return list(dict.fromkeys(target.domain for target in self.targets))

    def finished(self, entrant: Entrant, target: Target) -> list[Record]:
        """The records of a cell that did not fail, by seed."""
        records = self.grid.records(entrant.contender, target.name)
        return sorted((r for r in records if r.error is None), key=lambda r: r.cell.seed)

    def categories(self, target: Target) -> list[str]:
        """The categories of a dataset, in the order of its records."""
        records = self.grid.of_row(target.name)
        return list(dict.fromkeys(r.category for record in records for r in record.categories))

    def value(
        self, entrant: Entrant, target: Target, metric: str, category: str | None = None
    ) -> grid.Value:
        """A metric in [0, 1] as the tables show it."""
        records = self.grid.records(entrant.contender, target.name)
        return grid.measure(records, metric, category)

    def select_entrants(self, names: Iterable[str]) -> list[Entrant]:
        """The entrants whose method or label is named; all if none is.

        Raises:
            UsageError: a name fits none of them.
        """
        own = {e.label: (e.contender.method, e.label) for e in self.entrants}
        chosen = _chosen("method of this run", names, own)
        return [e for e in self.entrants if e.label in chosen]

    def select_targets(self, names: Iterable[str]) -> list[Target]:
        """The datasets that are named; all if none is.

        Raises:
            UsageError: a name fits none of them.
        """
        own = {t.name: (t.name, t.title) for t in self.targets}
        chosen = _chosen("dataset of this run", names, own)
        return [t for t in self.targets if t.name in chosen]

    def is_built_in(self, record: Record) -> bool:
        """Whether a record comes from a built-in dataset or from the tiny backbone."""
        return record.cell.dataset in BUILT_IN or record.protocol.get("backbone") == TINY

    def gaps(self, entrants: Iterable[Entrant], targets: Iterable[Target]) -> list[str]:
        """What the data behind the records lack, or what was chosen of them, a line a dataset."""
        found = []
        columns = [entrant.contender for entrant in entrants]
        for target in targets:
            records = [r for c in columns for r in self.grid.records(c, target.name)]
            notes = grid.source_notes(records)
            if notes:
                found.append(f"{target.title}: {'; '.join(notes)}.")
        return found

    @property
    def notices(self) -> list[str]:
        """What a reader must know before the first number."""
        return self.notices_of(self.entrants, self.targets)

    def notices_of(self, entrants: Sequence[Entrant], targets: Sequence[Target]) -> list[str]:
        """What a reader must know before the numbers of some methods on some datasets."""
        columns = [entrant.contender for entrant in entrants]
        records = [r for c in columns for t in targets for r in self.grid.records(c, t.name)]
        parts = []
        if any(record.cell.dataset in BUILT_IN for record in records):
            parts.append("dataset “synthetic”")
        if any(record.protocol.get("backbone") == TINY for record in records):
            parts.append("backbone “tiny”")
        text = " and ".join(parts)
        found = [f"{text[0].upper()}{text[1:]}: {BUILT_IN_NOTE}."] if parts else []
        found += self.gaps(entrants, targets)
        limits = {record.protocol.get("limit") for record in records if record.error is None}
        if limits - {None}:
            most = max(limit for limit in limits if limit is not None)
            found.append(
                f"Only a part of the images: at most {most} for each category and label"
                f"{' in some cells' if None in limits else ''}."
            )
        return found


def result_of(record: Record, category: str) -> CategoryResult | None:
    """A record's result for one category."""
    return record.by_category.get(category)


def _chosen(kind: str, names: Iterable[str], own: Mapping[str, tuple[str, str]]) -> set[str]:
    """The keys of what is named by either of its names; all keys without names."""
    wanted = list(names)
    found: set[str] = set()
    for name in wanted:
        fitting = {
            key for key, both in own.items() if normalize_name(name) in map(normalize_name, both)
        }
        if not fitting:
            raise unknown_name(kind, name, own)
        found |= fitting
    return found if wanted else set(own)
