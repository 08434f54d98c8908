"""The entries of a plan: its methods and its datasets, from names and tables."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import registry
from ..errors import UsageError
from ..names import display_name, known_keys, normalize_name, registry_name
from ..packages import Package
from ..records.cell import labelled

LOG = logging.getLogger(__name__)
ALL = "all"
LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9 ._-]{0,38}[A-Za-z0-9._-])?)?")
METHOD_KEYS = ("name", "variant", "options", "sweep", "checkpoint", "learned_from", "label")
DATASET_KEYS = ("name", "root", "options", "label")
TABLES = ("options", "sweep")
TWICE = (
    "{} is in the plan twice with different {}, whose records would have one name: give one of "
    'them a label of its own in the plan file (label = "{}")'
)


@dataclass(frozen=True)
class MethodPlan:
    """A method of the plan: a variant with some options, perhaps with given learned weights.

    Attributes:
        name, variant: as the registry and the method have them.
        checkpoint: auxiliary dataset -> the files of the checkpoint learned on it; "" is a
            checkpoint that does not say what it was learned on. Empty: the method is trained by
            the run. Each target takes the one that it may, see `prepare.checkpoint_of`.
        label: tells it from another entry of the same method, variant and options.
    """

    name: str
    variant: str
    options: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True)
class DatasetPlan:
    """A dataset of the plan.

    Attributes:
        name: as the registry has it.
        root: its folder; None looks below the plan's data root.
        label: tells it from another entry of the same dataset.
    """

    name: str
    root: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def target(self) -> str:
        """The name that its cells have as `Cell.target`."""
        return labelled(registry_name(self.name), self.label)


def method_entries(items: Iterable[str | Mapping[str, Any]]) -> tuple[MethodPlan, ...]:
    """The methods that names and tables mean, see `plan.make_plan`; each entry once.

    Raises:
        UsageError: an unknown name, variant, option or key, or two entries of the same records.
    """
    entries = _unique(entry for item in items for entry in _methods(item))
    cells = [(e.name, e.variant, e.options, normalize_name(e.label)) for e in entries]
    for cell in cells:
        if cells.count(cell) > 1:
            method = f"method '{display_name(f'{cell[0]}@{cell[1]}')}'"
            raise UsageError(TWICE.format(method, "checkpoints", "mine"))
    return tuple(entries)


def dataset_entries(items: Iterable[str | Mapping[str, Any]]) -> tuple[DatasetPlan, ...]:
    """The datasets that names and tables mean, see `plan.make_plan`; each entry once.

    Raises:
        UsageError: an unknown name, option or key, or two entries of the same records.
    """
    entries = _unique(entry for item in items for entry in _datasets(item))
    targets = [(e.name, normalize_name(e.label)) for e in entries]
    for target in targets:
        if targets.count(target) > 1:
            dataset = f"dataset '{display_name(target[0])}'"
            raise UsageError(TWICE.format(dataset, "roots or options", "copy"))
    return tuple(entries)


def methods_meant_by(word: str) -> list[str]:
    """The methods that a word of a plan stands for.

    Args:
        word: "all" are those that a benchmark compares (the paper's nine, and plug-ins);
            "all-known" is every method that can be built. What cannot, as for lack of an extra,
            is left out with a warning, and `served_jobs` leaves out what a dataset cannot serve.
            Any other word is a method's name.
    """
    meant = registry_name(word)
    if meant not in (ALL, "all_known"):
        return [word]
    names = registry.sound_names("method")
    if meant == ALL:
        return [name for name in names if registry.method_class(name).in_benchmark]
    lacking = {name: p for name in names if (p := _missing_package(name)) is not None}
    for name, package in lacking.items():
        LOG.warning("method '%s' needs %s; it is left out", display_name(name), package.advice)
    return [name for name in names if name not in lacking]


def _missing_package(method: str) -> Package | None:
    package = registry.method_class(method).package
    return package if package is not None and package.is_missing else None


def dataset_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a dataset under their own names.

    Raises:
        UsageError: it does not have one of them.
    """
    known = registry.dataset_class(name).option_defaults
    return known_keys(f"option of dataset {display_name(name)}", given, known)


def _methods(item: str | Mapping[str, Any]) -> list[MethodPlan]:
    """The entries that one name or table means; a sweep gives several."""
    from ..method import make_options, variant_name

    if isinstance(item, str):
        meant = methods_meant_by(item)
        if meant != [item]:
            return [entry for name in meant for entry in _methods(name)]
        name, _, variant = item.partition("@")
        item = {"name": name, "variant": variant or None}
    table = _table("method", item, METHOD_KEYS)
    name, cls = registry.resolve("method", table["name"]).name, registry.method_class(table["name"])
    variant = variant_name(cls, table.get("variant"))
    known = [option.name for option in dataclasses.fields(cls.variants[variant])]
    options, sweep = (
        known_keys(f"option of method {cls.title}", table.get(key, {}), known) for key in TABLES
    )
    for option, values in sweep.items():
        if not isinstance(values, list):
            raise UsageError(f"sweep of option '{display_name(option)}' must be a list of values")
    checkpoint = _checkpoint(table)
    entries = []
    for combination in itertools.product(*sweep.values()):
        combined = {**options, **dict(zip(sweep, combination, strict=True))}
        combined = {k: tuple(v) if isinstance(v, list) else v for k, v in combined.items()}
        make_options(cls, variant, combined)
        entries.append(MethodPlan(name, variant, combined, checkpoint, table["label"]))
    return entries


def _checkpoint(table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The checkpoints of a method's table, in the form of `MethodPlan.checkpoint`.

    Raises:
        UsageError: neither file, files nor a table of them, an unknown auxiliary dataset, or
            `learned_from` without a checkpoint.
    """
    name, given, declared = table["name"], table.get("checkpoint", {}), table.get("learned_from")
    if declared and not given:
        raise UsageError(
            f"learned_from of method '{name}' says what a checkpoint was learned from, and it "
            "has none: add checkpoint"
        )
    said = registry.union_name(declared) if declared else ""
    found: dict[str, tuple[str, ...]] = {}
    for auxiliary, files in (given if isinstance(given, Mapping) else {"": given}).items():
        listed = [files] if isinstance(files, str) else files
        are_files = isinstance(listed, list | tuple) and listed
        if not are_files or not all(isinstance(file, str) and file for file in listed):
            raise UsageError(f"checkpoint of method '{name}' is a file or files, not {files!r}")
        key = registry.union_name(auxiliary) if auxiliary else said
        found[key] = (*found.get(key, ()), *listed)
    return found


def _datasets(item: str | Mapping[str, Any]) -> list[DatasetPlan]:
    """The entries that one name or table means."""
    if isinstance(item, str):
        from ..data.check import SEVERAL

        if several := SEVERAL.get(registry_name(item)):
            return [DatasetPlan(name) for name in several()]
    table = _table("dataset", {"name": item} if isinstance(item, str) else item, DATASET_KEYS)
    name = registry.resolve("dataset", table["name"]).name
    options = dataset_options(name, table.get("options", {}))
    return [DatasetPlan(name, table.get("root"), options, table["label"])]


def _table(kind: str, item: Any, known: Collection[str]) -> dict[str, Any]:
    """The table of a method or dataset with a label, and without what is null in a stored plan.

    Raises:
        UsageError: it is not a table with a name, has another key or a value of another type, or a
            label that cannot stand in tables and file names.
    """
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        raise UsageError(f"a {kind} of a plan is a name or a table with a name, not {item!r}")
    given = known_keys(f"key of a {kind} in a plan", item, known)
    table = {"label": ""} | {key: value for key, value in given.items() if value is not None}
    for key, value in table.items():
        expected, words = (Mapping, "a table") if key in TABLES else (str, "text")
        if key != "checkpoint" and not isinstance(value, expected):
            raise UsageError(f"{key} of {kind} '{table['name']}' is {words}, not {value!r}")
    if not LABEL.fullmatch(table["label"]):
        raise UsageError(
            f"label of {kind} '{table['name']}' is at most 40 letters, digits, spaces, '-', '_' "
            f"and '.', and neither begins nor ends with a space, not {table['label']!r}"
        )
    return table


def _unique(items: Iterable[Any]) -> list[Any]:
    """Items in order without repetitions; they need no hash."""
    kept: list[Any] = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return kept
