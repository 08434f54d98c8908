"""A baseline: the metrics that a run must reproduce, in one JSON file.

It holds the guarded metrics of every cell and category, the protocol they were measured under, a
tolerance per metric with its reason, and why the numbers have changed since the first one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

from ..errors import UsageError, ZsadError, reading, unknown_name
from ..files import read_json, write_json
from ..json_fields import Count, Fraction, from_json
from ..metric_table import METRICS
from ..names import display_name, registry_name
from ..records.protocol import current_protocol
from ..records.record import Record
from ..track import Track

BASELINE_SCHEMA = 1
DIGITS = 6  # of stored metrics: far below any tolerance, and diffs stay readable
ANY_METRIC = "*"


class BaselineError(ZsadError):
    """A baseline file is missing, broken, or of an unknown schema."""


@dataclass(frozen=True)
class Tolerance:
    """How far a metric may move, and why so far."""

    value: Fraction
    reason: str


DEFAULT_TOLERANCE = Tolerance(0.0005, "half of the last digit that tables print")


@dataclass(frozen=True)
class Change:
    """One change of the metrics or the protocol since an earlier baseline, with its reason."""

    date: str
    commit: str
    reason: str


@dataclass(frozen=True)
class BaselineCell:
    """What a record must reproduce.

    Attributes:
        cell: method, variant, dataset, seed and options, to be read by people.
        protocol: of the record.
        categories: category -> metric -> value; a metric that was undefined is absent.
        counts: category -> [normal, anomalous] images.
        track: of the method; a file leaves zero-shot out.
    """

    cell: Mapping[str, Any]
    protocol: Mapping[str, Any]
    categories: Mapping[str, Mapping[str, Fraction]]
    counts: Mapping[str, list[Count]]
    track: Track = Track.ZERO_SHOT

    @property
    def method(self) -> str:
        """The method's registry name."""
        return str(self.cell.get("method", ""))


@dataclass(frozen=True)
class Baseline:
    """A baseline file: tolerances, cells by key, and its history.

    A tolerance is for a metric, for "*" (all others), or with "METHOD." before it for one method.
    """

    tolerances: Mapping[str, Tolerance]
    cells: Mapping[str, BaselineCell]
    history: tuple[Change, ...] = ()
    schema: Annotated[int, Ge(1), Le(BASELINE_SCHEMA)] = BASELINE_SCHEMA

    def __post_init__(self) -> None:
        """Refuse a baseline that any run would pass."""
        if not self.cells:
            raise ValueError("it guards no cell")
        for key, cell in self.cells.items():
            if not any(METRICS.keys() & metrics.keys() for metrics in cell.categories.values()):
                raise ValueError(f"cell {key} has no metric")

    @property
    def metrics(self) -> set[str]:
        """The metrics that some category of a cell has."""
        categories = (c for cell in self.cells.values() for c in cell.categories.values())
        return {metric for category in categories for metric in category}

    def limits(
        self, method: str = "", given: Mapping[str, float] | None = None
    ) -> dict[str, float]:
        """How far each metric of a method may move.

        Args:
            method: registry name.
            given: tolerances that replace those of the baseline, by the same names.
        """
        own = {name: tolerance.value for name, tolerance in self.tolerances.items()}
        layers = (given or {}, own, {ANY_METRIC: DEFAULT_TOLERANCE.value})
        limits = {}
        for metric in METRICS:
            names = (f"{method}.{metric}", f"{method}.{ANY_METRIC}", metric, ANY_METRIC)
            found = (layer[name] for layer in layers for name in names if name in layer)
            limits[metric] = next(found)
        return limits


def checked_tolerances(tolerances: Mapping[str, float]) -> dict[str, float]:
    """Tolerances as they are given.

    Raises:
        UsageError: one of them is of an unknown metric, or outside [0, 1].
    """
    for name, value in tolerances.items():
        if name.rpartition(".")[2] not in (*METRICS, ANY_METRIC):
            raise unknown_name("metric", name, map(display_name, (*METRICS, ANY_METRIC)))
        if not 0 <= value <= 1:
            raise _not_a_tolerance(f"{name}={value:g}")
    return dict(tolerances)


def parse_tolerances(texts: Iterable[str]) -> dict[str, float]:
    """METRIC=X, METHOD.METRIC=X or X for all metrics; X in [0, 1].

    >>> parse_tolerances(["0.01", "pixel_pro=0.02"])
    {'*': 0.01, 'pixel_pro': 0.02}

    Raises:
        UsageError: an unknown metric, or not a number in [0, 1].
    """
    found = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        try:
            found[registry_name(name) if equals else ANY_METRIC] = float(number)
        except ValueError as error:
            raise _not_a_tolerance(text) from error
    return checked_tolerances(found)


def _not_a_tolerance(text: str) -> UsageError:
    return UsageError(f"--tolerance takes METRIC=X with X in [0, 1], not '{text}'")


def make_baseline(
    records: Sequence[Record],
    reason: str,
    before: Baseline | None = None,
    tolerances: Mapping[str, float] | None = None,
) -> Baseline:
    """A baseline of a run; tolerances and history of an earlier one are kept.

    Args:
        records: of the run.
        reason: why the numbers may change; it is kept in the history.
        before: the baseline that this one replaces.
        tolerances: set for single metrics ("*": all others), with the same reason.

    Raises:
        UsageError: no reason, no records, or a cell of the run failed.
    """
    if not reason.strip():
        raise UsageError("a baseline changes for a reason: --reason TEXT")
    if not records:
        raise UsageError("the run has no records: nothing can be guarded")
    failed = [record.cell.key for record in records if record.status != "ok"]
    if failed:
        raise UsageError(f"cells of the run failed, so it makes no baseline: {', '.join(failed)}")
    empty = [r.cell.key for r in records if not any(c.metrics for c in r.categories)]
    if empty:
        raise UsageError(f"cells of the run have no metric to guard: {', '.join(empty)}")
    kept = before.tolerances if before else {ANY_METRIC: DEFAULT_TOLERANCE}
    chosen = checked_tolerances(tolerances or {})
    commit = str(records[0].provenance.get("commit", ""))
    change = Change(datetime.now(UTC).date().isoformat(), commit, reason.strip())
    return Baseline(
        {**kept, **{name: Tolerance(value, reason) for name, value in chosen.items()}},
        {record.cell.key: _guarded(record) for record in records},
        (*(before.history if before else ()), change),
    )


def _guarded(record: Record) -> BaselineCell:
    return BaselineCell(
        cell=dataclasses.asdict(record.cell),
        protocol=dict(record.protocol),
        categories={
            result.category: {
                metric: round(result.metrics[metric], DIGITS)
                for metric in METRICS
                if metric in result.metrics
            }
            for result in record.categories
        },
        counts={r.category: [r.n_normal, r.n_anomalous] for r in record.categories},
        track=record.track,
    )


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Store a baseline, whole or not at all.

    Raises:
        FileError: the file cannot be written.
    """
    content = dataclasses.asdict(baseline)
    for cell in content["cells"].values():
        if cell["track"] is Track.ZERO_SHOT:
            del cell["track"]
    write_json(path, content)


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        BaselineError: missing, not JSON, of a wrong form or a newer schema; names the file.
    """
    if not path.exists():
        raise BaselineError(
            f"baseline {path} does not exist: zsad check RUN --baseline {path} --update --reason "
            "TEXT makes it"
        )
    with reading(path, "baseline", BaselineError, ": write it with --update"):
        baseline = from_json(Baseline, read_json(path))
    cells = {
        key: dataclasses.replace(cell, protocol=current_protocol(cell.protocol))
        for key, cell in baseline.cells.items()
    }
    return dataclasses.replace(baseline, cells=cells)
