"""What a run holds, under the names and in the order in which people read it.

Shared by the report and the figures: who competes (method, variant, options), on which datasets,
and the value of a metric, as the mean over categories and then over seeds.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from . import published
from .errors import UsageError
from .records import CategoryResult, Record, read_records

Domain = Literal["industrial", "medical", "synthetic", "custom"]
DOMAINS: tuple[Domain, ...] = ("industrial", "medical", "synthetic", "custom")
Level = Literal["image", "pixel"]
LEVELS: tuple[Level, ...] = ("image", "pixel")
PAIR: Mapping[Level, tuple[str, str]] = {
    "image": ("image_auroc", "image_ap"),
    "pixel": ("pixel_auroc", "pixel_pro"),
}
SHORT = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1max": "pixel F1-max",
    "pixel_pro": "PRO",
    "pixel_pro_official200": "PRO (200 steps)",
}
BUILT_IN = ("synthetic", "synthetic_aux")
TINY = "tiny"
BUILT_IN_NOTE = (
    "a built-in set for trying, teaching and guarding; "
    "its ranking of methods says nothing about real data"
)


@dataclass(frozen=True)
class Contender:
    """A method with its variant and options: a column of a table, a line of a figure.

    Attributes:
        label: unique within the run; says the variant and the options where they tell apart.
    """

    method: str
    title: str
    variant: str
    options: str
    label: str

    @property
    def option_values(self) -> Mapping[str, Any]:
        """The options that differ from the variant's defaults."""
        values: Mapping[str, Any] = json.loads(self.options)
        return values


@dataclass(frozen=True)
class Target:
    """A dataset: a row of a table."""

    name: str
    title: str
    domain: str


@dataclass(frozen=True)
class Summary:
    """Mean over seeds of the mean over categories, in [0, 1].

    Attributes:
        value: None where no seed has a defined value.
        spread: standard deviation over seeds, None with fewer than two.
        seeds: how many of them there are.
        reason: why there is no value, or which categories it leaves out; else "".
    """

    value: float | None
    spread: float | None = None
    seeds: int = 0
    reason: str = ""


class Overview:
    """The records of a run, arranged.

    Args:
        records: of any status; failed cells are kept apart.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        everything = list(records)
        self.records = [record for record in everything if record.status == "ok"]
        self.failed = [record for record in everything if record.status != "ok"]

    @classmethod
    def read(cls, run: Path) -> Overview:
        """The overview of a run directory.

        Raises:
            RecordError: the directory is no run, or a record is broken.
            UsageError: the run has no finished cell.
        """
        overview = cls(read_records(run))
        if not overview.records and not overview.failed:
            raise UsageError(f"run {run} has no cells yet: fill it with `zsad run --out {run}`")
        return overview

    @cached_property
    def contenders(self) -> list[Contender]:
        """In the order of the paper's columns, then by name, variant and options."""
        found = {_identity(record): record for record in self.records}
        order = [published.squash(name) for name in published.models()]
        ranked = sorted(found, key=lambda who: (_place(found[who].title, order), _natural(who)))
        variants = Counter((method, options) for method, _, options in found)
        titles = Counter({record.title: 0 for record in found.values()})
        for title, _ in {(found[who].title, who[0]) for who in found}:
            titles[title] += 1
        contenders = []
        for who in ranked:
            method, variant, options = who
            title = found[who].title
            details = [method] if titles[title] > 1 else []
            details += [variant] if variants[method, options] > 1 else []
            details += [f"{k}={_plain(v)}" for k, v in json.loads(options).items()]
            label = f"{title} ({', '.join(details)})" if details else title
            contenders.append(Contender(method, title, variant, options, label))
        return contenders

    @cached_property
    def targets(self) -> list[Target]:
        """By domain, then in the paper's order, then by name."""
        found = {record.cell.dataset: record for record in self.records}
        order = [published.squash(name) for name in published.datasets()]
        targets = [_target(name, record) for name, record in found.items()]
        return sorted(
            targets,
            key=lambda t: (_place_in(t.domain, DOMAINS), _place(t.name, order), t.title),
        )

    @cached_property
    def domains(self) -> list[str]:
        """The domains of the targets, in order."""
        return list(dict.fromkeys(target.domain for target in self.targets))

    def of(self, contender: Contender, target: Target) -> list[Record]:
        """The finished records of a contender on a dataset, by seed."""
        who = (contender.method, contender.variant, contender.options)
        return self._index.get((who, target.name), [])

    @cached_property
    def _index(self) -> dict[tuple[tuple[str, str, str], str], list[Record]]:
        index: dict[tuple[tuple[str, str, str], str], list[Record]] = {}
        for record in sorted(self.records, key=lambda r: r.cell.seed):
            index.setdefault((_identity(record), record.cell.dataset), []).append(record)
        return index

    def categories(self, target: Target) -> list[str]:
        """The categories of a dataset in the order of the first record that has them."""
        names = (
            result.category
            for record in self.records
            if record.cell.dataset == target.name
            for result in record.categories
        )
        return list(dict.fromkeys(names))

    def result(self, record: Record, category: str) -> CategoryResult | None:
        """A record's result for one category."""
        return next((r for r in record.categories if r.category == category), None)

    def summary(self, contender: Contender, target: Target, metric: str) -> Summary:
        """The value of a metric on a dataset."""
        records = self.of(contender, target)
        if not records:
            return Summary(None, reason="not run")
        values = [value for r in records if (value := dataset_value(r, metric)) is not None]
        reason = _reason(records[0], metric)
        if not values:
            return Summary(None, reason=reason)
        spread = stdev(values) if len(values) > 1 else None
        return Summary(fmean(values), spread, len(values), reason)

    def mean(self, contender: Contender, targets: Sequence[Target], metric: str) -> Summary:
        """The unweighted mean over datasets; no value where one that others have is missing.

        A metric that is undefined for every contender on a dataset does not count against them.
        """
        counted = [
            t
            for t in targets
            if any(self.summary(c, t, metric).value is not None for c in self.contenders)
        ]
        values = [self.summary(contender, target, metric).value for target in counted]
        present = [value for value in values if value is not None]
        if not present:
            return Summary(None, reason="undefined on every dataset")
        if len(present) < len(values):
            return Summary(None, reason=f"only {len(present)} of {len(values)} datasets have it")
        return Summary(fmean(present), reason="")

    @property
    def uses_built_in_set(self) -> bool:
        """Whether a built-in dataset or the tiny backbone takes part."""
        everything = [*self.records, *self.failed]
        return any(is_built_in(record) for record in everything)


def dataset_value(record: Record, metric: str) -> float | None:
    """The mean of a metric over the categories in which it is defined; None without any."""
    values = [r.metrics[metric] for r in record.categories if metric in r.metrics]
    return fmean(values) if values else None


def is_built_in(record: Record) -> bool:
    """Whether a record comes from a built-in dataset or from the tiny backbone."""
    return record.cell.dataset in BUILT_IN or record.protocol.get("backbone") == TINY


def mean_targets(targets: Iterable[Target], domain: str) -> list[Target]:
    """The datasets that a domain's mean covers: as in the paper, without MVTecAD."""
    left_out = published.squash(published.LEFT_OUT_OF_MEANS)
    return [t for t in targets if t.domain == domain and published.squash(t.name) != left_out]


def _identity(record: Record) -> tuple[str, str, str]:
    cell = record.cell
    return cell.method, cell.variant, json.dumps(dict(cell.options), sort_keys=True)


def _target(name: str, record: Record) -> Target:
    title = str(record.protocol.get("dataset_title") or _printed_title(name))
    domain = record.protocol.get("domain") or published.domain_of(name)
    if name in BUILT_IN:
        domain = "synthetic"
    return Target(name, title, str(domain or "custom"))


def _printed_title(name: str) -> str:
    same = [d for d in published.datasets() if published.squash(d) == published.squash(name)]
    return same[0] if same else name


def _reason(record: Record, metric: str) -> str:
    """Why a record lacks a metric, wholly or in some categories."""
    lacking = [r for r in record.categories if metric not in r.metrics]
    if not lacking:
        return ""
    reasons = list(dict.fromkeys(r.undefined.get(metric, "not measured") for r in lacking))
    text = "; ".join(reasons)
    if len(lacking) < len(record.categories):
        return f"mean without {', '.join(r.category for r in lacking)}: {text}"
    return text


def _place(name: str, order: Sequence[str]) -> int:
    return _place_in(published.squash(name), order)


def _place_in(name: str, order: Sequence[str]) -> int:
    return list(order).index(name) if name in order else len(order)


def _natural(who: tuple[str, str, str]) -> tuple[str, str, list[tuple[int, float, str]]]:
    """A sorting key in which the option 10 comes after 2."""
    method, variant, options = who
    values = json.loads(options)
    keys = [
        (0, float(v), k) if isinstance(v, (int, float)) else (1, 0.0, f"{k}{v}")
        for k, v in values.items()
    ]
    return method, variant, keys


def _plain(value: Any) -> str:
    """An option's value as people write it."""
    if isinstance(value, list):
        return "(" + ", ".join(_plain(v) for v in value) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)
