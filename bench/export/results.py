"""What every format takes from records: a method's metrics on a dataset, with what they are of."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from types import ModuleType
from typing import Any

from .. import registry
from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset
from ..analysis.values import Value, measure
from ..errors import UsageError, ZsadError
from ..metric_table import METRICS, Metric
from ..records.record import Record


class MissingPackage(ZsadError):
    """A format needs a package of an extra that is not installed."""


@dataclass(frozen=True)
class Result:
    """The finished records of a method on a dataset; several differ in their seeds.

    Attributes:
        records: at least one.
    """

    method: EvaluatedMethod
    dataset: TargetDataset
    records: tuple[Record, ...]

    @cached_property
    def values(self) -> list[tuple[Metric, Value]]:
        """The metrics that are defined, over categories and seeds."""
        measured = [(metric, measure(self.records, name)) for name, metric in METRICS.items()]
        return [(metric, value) for metric, value in measured if value.value is not None]

    @property
    def method_key(self) -> str:
        """The method with its variant and options, as a file name."""
        return self.records[0].cell.method_key

    @property
    def backbone(self) -> str:
        """The backbone's name; "" where it is not recorded."""
        return str(self.records[0].protocol.get("backbone") or "")

    @property
    def seeds(self) -> list[int]:
        """Of the records, in order."""
        return [record.cell.seed for record in self.records]


def results_of(matrix: Matrix) -> list[Result]:
    """The finished cells of a matrix, by method and dataset."""
    found = (
        Result(method, dataset, tuple(matrix.finished(method, dataset)))
        for method in matrix.methods
        for dataset in matrix.datasets
    )
    return [result for result in found if result.records]


def category_values(record: Record) -> Iterator[tuple[str, str, float]]:
    """(category, metric, value) of all that is defined in a record of several categories."""
    if len(record.categories) > 1:
        for result in record.categories:
            for metric in METRICS:
                if metric in result.metrics:
                    yield result.category, metric, result.metrics[metric]


def home_page(dataset: str) -> str:
    """The address of a dataset's home page; "" where it is unknown or has none."""
    try:
        page = registry.dataset_class(dataset).source.page
    except UsageError:
        return ""
    return page if page.startswith("http") else ""


def digest(record: Record) -> str:
    """sha256 of all that a record holds: equal records are logged once."""
    text = json.dumps(asdict(record), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def seconds_of(record: Record) -> float:
    """When the record's run started, in seconds since 1970; 0 where it is unknown."""
    try:
        return datetime.fromisoformat(str(record.provenance.get("started"))).timestamp()
    except ValueError:
        return 0.0


def required(package: str, extra: str) -> ModuleType:
    """A module of a package that an extra brings.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackage(
            f"--to {extra} needs the package {package}: pip install 'zsad[{extra}]'"
        ) from error


def settings_of(record: Record) -> dict[str, Any]:
    """What a record was made with: its cell, its track and its protocol, nested names dotted."""
    cell = {name: value for name, value in asdict(record.cell).items() if value not in ("", {})}
    return {**_flat({**cell, "track": str(record.track)}), **_flat(record.protocol, "protocol.")}


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def logged_values(record: Record) -> dict[str, float]:
    """What a tracker plots: metrics over all categories and of each, and the record's timing."""
    values = {name: measure([record], name).value for name in METRICS}
    found = {name: value for name, value in values.items() if value is not None}
    for category, metric, value in category_values(record):
        found[f"{metric}/{category}"] = value
    return found | {f"timing/{name}": float(value) for name, value in record.timing.items()}
