"""The gate: a run against a committed baseline, cell by cell.

A baseline is one JSON file with the guarded metrics of every cell and category, the protocol they
were measured under, and a tolerance per metric with its reason. Any move beyond its tolerance
fails, up or down: a metric that rises without a known cause is as broken as one that drops.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ..code_hash import made_by_other_code
from ..errors import UsageError, ZsadError, shortened, unknown_name
from ..files import read_json, write_json
from ..metric_table import METRICS
from ..names import display_name, registry_name
from ..records.record import Record, current_protocol

BASELINE_SCHEMA = 1
DIGITS = 6  # of stored metrics: far below any tolerance, and diffs stay readable
ANY_METRIC = "*"
FORMATS = ("text", "json", "github")
# The hash of weights that the run itself has learned: it follows platform noise, which the metrics'
# tolerances measure. Weights that were given to the run are guarded by their hash.
AUXILIARY, GIVEN = "auxiliary", "auxiliary_source"
CHECKPOINT = "checkpoint_sha256"

Kind = Literal["dropped", "rose", "missing", "failed", "protocol", "new", "note"]
FAILING: tuple[Kind, ...] = ("dropped", "rose", "missing", "failed", "protocol")


class BaselineError(ZsadError):
    """A baseline file is missing, broken, or of an unknown schema."""


@dataclass(frozen=True)
class Tolerance:
    """How far a metric may move, in [0, 1], and why so far."""

    value: float
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
    """What a record must give again.

    Attributes:
        cell: method, variant, dataset, seed and options, to be read by people.
        protocol: of the record.
        categories: category -> metric -> value; a metric that was undefined is absent.
        counts: category -> [normal, anomalous] images.
    """

    cell: Mapping[str, Any]
    protocol: Mapping[str, Any]
    categories: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, list[int]]


@dataclass(frozen=True)
class Baseline:
    """A baseline file: tolerances, cells by key, and its history.

    A tolerance is for a metric, for "*" (all others), or with "METHOD." before it for one method.
    """

    tolerances: Mapping[str, Tolerance]
    cells: Mapping[str, BaselineCell]
    history: tuple[Change, ...] = ()
    schema: int = BASELINE_SCHEMA

    def tolerance(self, metric: str, method: str = "") -> Tolerance:
        """The tolerance of a metric, the most specific one that is given."""
        name = _most_specific(self.tolerances, metric, method)
        return DEFAULT_TOLERANCE if name is None else self.tolerances[name]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as in the baseline.

    Attributes:
        kind: dropped, rose, missing, failed and protocol fail the check; new and note do not.
        cell: key of the cell.
        category, metric: where it applies, else "".
        old, new: values as JSON has them, metrics in [0, 1]; None where there is none.
        tolerance: the one that was exceeded.
        message: one sentence.
    """

    kind: Kind
    cell: str
    message: str
    category: str = ""
    metric: str = ""
    old: Any = None
    new: Any = None
    tolerance: float | None = None

    @property
    def fails(self) -> bool:
        """The check fails because of this."""
        return self.kind in FAILING


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check: all findings, and how much was compared."""

    findings: tuple[Finding, ...]
    cells: int
    numbers: int

    @property
    def passed(self) -> bool:
        """No finding fails the check."""
        return not any(finding.fails for finding in self.findings)

    def render(self, fmt: str = "text") -> str:
        """The verdict as text, JSON, or GitHub workflow commands.

        Raises:
            UsageError: no such format.
        """
        if fmt not in FORMATS:
            raise unknown_name("format", fmt, FORMATS)
        return {"text": _as_text, "json": _as_json, "github": _as_github}[fmt](self)


def check_run(
    records: Iterable[Record], baseline: Baseline, tolerances: Mapping[str, float] | None = None
) -> Verdict:
    """Compare a run with a baseline.

    Args:
        records: of the run.
        baseline: what it must give.
        tolerances: replace the baseline's for single metrics, or with "*" for all others; with
            "METHOD." before the name for one method.
    """
    _limits(baseline, tolerances or {})  # refuses wrong names before anything is compared
    found = {record.cell.key: record for record in records}
    findings: list[Finding] = []
    numbers = 0
    for key, expected in baseline.cells.items():
        record = found.get(key)
        if record is None:
            findings.append(Finding("missing", key, "the run has no record of this cell"))
        elif record.error is not None:
            why = f"the cell failed: {record.error.type}: {record.error.message}"
            findings.append(Finding("failed", key, why))
        else:
            findings += _protocol_findings(key, expected, record)
            limits = _limits(baseline, tolerances or {}, str(expected.cell.get("method", "")))
            moved, compared = _metric_findings(key, expected, record, limits)
            findings += moved
            numbers += compared
            findings += _code_findings(key, record)
    for key in found.keys() - baseline.cells.keys():
        findings.append(
            Finding("new", key, "the baseline does not know this cell: --update adds it")
        )
    order = sorted(findings, key=lambda f: (not f.fails, f.cell, f.category, f.metric))
    return Verdict(tuple(order), len(baseline.cells), numbers)


def _most_specific(names: Iterable[str], metric: str, method: str) -> str | None:
    """The name of a tolerance that applies: METHOD.metric, METHOD.*, metric, *."""
    order = (f"{method}.{metric}", f"{method}.{ANY_METRIC}", metric, ANY_METRIC)
    given = set(names)
    return next((name for name in order if name in given), None)


def _check_name(name: str) -> None:
    if name.rpartition(".")[2] not in (*METRICS, ANY_METRIC):
        raise unknown_name("metric", name, map(display_name, (*METRICS, ANY_METRIC)))


def _limits(
    baseline: Baseline, tolerances: Mapping[str, float], method: str = ""
) -> dict[str, float]:
    """The tolerance of every metric for a method: the call's, else the baseline's."""
    for name, value in tolerances.items():
        _check_name(name)
        if not 0 <= value <= 1:
            raise UsageError(f"the tolerance of {name} lies in [0, 1], not at {value}")
    limits = {}
    for metric in METRICS:
        name_given = _most_specific(tolerances, metric, method)
        if name_given is None:
            limits[metric] = baseline.tolerance(metric, method).value
        else:
            limits[metric] = tolerances[name_given]
    return limits


def learned_in_run(protocol: Mapping[str, Any]) -> bool:
    """Whether a protocol is of weights that the run itself learned, not of a given checkpoint."""
    return AUXILIARY in protocol and GIVEN not in protocol


def _protocol_findings(key: str, expected: BaselineCell, record: Record) -> list[Finding]:
    findings = []
    learned = learned_in_run(expected.protocol) and learned_in_run(record.protocol)
    for name, old in expected.protocol.items():
        new = record.protocol.get(name)
        if _same(old, new) or (name == CHECKPOINT and learned):
            continue
        findings.append(
            Finding(
                "protocol",
                key,
                f"protocol: {name} was {_shown(old)}, is {_shown(new)}",
                metric=name,
                old=old,
                new=new,
            )
        )
    findings += [
        Finding("note", key, f"protocol: {name} is new: {_shown(new)}", metric=name)
        for name, new in record.protocol.items()
        if name not in expected.protocol
    ]
    return findings


def _code_findings(key: str, record: Record) -> list[Finding]:
    """A note where the run was made by other code than the installed one.

    Baselines store no hash of code: what a run must give again does not depend on how it is
    written.
    """
    if not made_by_other_code(record.cell.method, record.cell.dataset, record.identity):
        return []
    why = (
        "the record was made by other code than the one installed now: run again to check this one"
    )
    return [Finding("note", key, why)]


def _metric_findings(
    key: str, expected: BaselineCell, record: Record, limits: Mapping[str, float]
) -> tuple[list[Finding], int]:
    findings: list[Finding] = []
    compared = 0
    results = {result.category: result for result in record.categories}
    for category, metrics in expected.categories.items():
        result = results.get(category)
        if result is None:
            message = f"category {category} is missing"
            findings.append(Finding("missing", key, message, category))
            continue
        counts = [result.n_normal, result.n_anomalous]
        old_counts = list(expected.counts.get(category, counts))
        if counts != old_counts:
            message = f"normal and anomalous images were {old_counts}, are {counts}"
            findings.append(
                Finding("protocol", key, message, category, "images", old_counts, counts)
            )
        for metric, old in metrics.items():
            compared += 1
            new = result.metrics.get(metric)
            if new is None:
                why = result.undefined.get(metric, "not recorded")
                message = f"{metric} was {old:.4f}, is undefined: {why}"
                findings.append(
                    Finding("missing", key, message, category, metric, round(old, DIGITS))
                )
            elif abs(new - old) > limits[metric] + 0.5 * 10**-DIGITS:
                findings.append(_moved(key, category, metric, old, new, limits[metric]))
        findings += [
            Finding("note", key, f"{metric} is not in the baseline", category, metric)
            for metric in result.metrics
            if metric in METRICS and metric not in metrics
        ]
    for category in results.keys() - expected.categories.keys():
        findings.append(Finding("new", key, "the category is not in the baseline", category))
    return findings, compared


def _moved(
    key: str, category: str, metric: str, old: float, new: float, tolerance: float
) -> Finding:
    kind: Kind = "dropped" if new < old else "rose"
    message = (
        f"{metric} {kind} by {abs(new - old):.4f}: {old:.4f} -> {new:.4f}, tolerance {tolerance:g}"
    )
    shown = round(old, DIGITS), round(new, DIGITS)
    return Finding(kind, key, message, category, metric, *shown, tolerance)


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
    kept = dict(before.tolerances) if before else {ANY_METRIC: DEFAULT_TOLERANCE}
    set_now = {name: Tolerance(value, reason) for name, value in (tolerances or {}).items()}
    change = Change(
        datetime.now(UTC).date().isoformat(),
        str(records[0].provenance.get("commit", "")),
        reason.strip(),
    )
    baseline = Baseline(
        {**kept, **set_now},
        {record.cell.key: _guarded(record) for record in records},
        (*(before.history if before else ()), change),
    )
    _limits(baseline, tolerances or {})
    return baseline


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
    )


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Store a baseline, whole or not at all.

    Raises:
        FileError: the file cannot be written.
    """
    write_json(path, dataclasses.asdict(baseline))


def read_baseline(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        BaselineError: missing, no JSON, of a wrong form or a newer schema; names the file.
    """
    try:
        raw = read_json(path)
    except FileNotFoundError as error:
        raise BaselineError(
            f"baseline {path} does not exist: zsad check RUN --baseline {path} --update --reason "
            "TEXT makes it"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BaselineError(f"baseline {path} is not readable ({error})") from error
    try:
        return _baseline(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BaselineError(f"{path} is no baseline ({error}): write it with --update") from error


def _baseline(raw: Any) -> Baseline:
    schema = raw["schema"]
    if schema != BASELINE_SCHEMA:
        raise ValueError(f"schema {schema!r}, this version reads {BASELINE_SCHEMA}")
    tolerances = {
        str(name): Tolerance(_fraction(item["value"]), str(item["reason"]))
        for name, item in raw["tolerances"].items()
    }
    cells = {
        str(key): BaselineCell(
            dict(item["cell"]),
            current_protocol(item["protocol"]),
            {
                str(category): {str(m): _fraction(v) for m, v in metrics.items() if m in METRICS}
                for category, metrics in item["categories"].items()
            },
            {str(category): list(pair) for category, pair in item["counts"].items()},
        )
        for key, item in raw["cells"].items()
    }
    if not cells:
        raise ValueError("it guards no cell")
    for key, cell in cells.items():
        if not any(cell.categories.values()):
            raise ValueError(f"cell {key} has no metric")
    history = tuple(
        Change(str(c["date"]), str(c["commit"]), str(c["reason"])) for c in raw["history"]
    )
    return Baseline(tolerances, cells, history)


def _fraction(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{value!r} is no number in [0, 1]")
    return float(value)


def parse_tolerances(texts: Iterable[str]) -> dict[str, float]:
    """METRIC=X, METHOD.METRIC=X or X for all metrics; X in [0, 1].

    >>> parse_tolerances(["0.01", "pixel_pro=0.02"])
    {'*': 0.01, 'pixel_pro': 0.02}

    Raises:
        UsageError: an unknown metric, or no number in [0, 1].
    """
    found = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        metric = registry_name(name) if equals else ANY_METRIC
        _check_name(metric)
        try:
            found[metric] = _fraction(float(number))
        except ValueError as error:
            raise UsageError(
                f"--tolerance takes METRIC=X with X in [0, 1], not '{text}'"
            ) from error
    return found


# -- rendering ----------------------------------------------------------------------------------


def _as_text(verdict: Verdict) -> str:
    lines = []
    for finding in verdict.findings:
        head = "FAIL" if finding.fails else "note"
        lines.append(f"{head} {_where(finding)}: {finding.message}")
    failing = [finding for finding in verdict.findings if finding.fails]
    cells = len({finding.cell for finding in failing})
    compared = f"{verdict.numbers} numbers of {verdict.cells} cells compared"
    lines.append(
        f"passed: {compared}, none moved beyond its tolerance"
        if verdict.passed
        else f"FAILED: {compared}, {len(failing)} findings in {cells} cells"
    )
    return "\n".join(lines)


def _as_json(verdict: Verdict) -> str:
    return json.dumps(
        {
            "passed": verdict.passed,
            "cells": verdict.cells,
            "numbers": verdict.numbers,
            "findings": [
                {**dataclasses.asdict(finding), "fails": finding.fails}
                for finding in verdict.findings
            ],
        },
        indent=1,
    )


def _as_github(verdict: Verdict) -> str:
    """One annotation per finding. Source: GitHub's workflow commands (::error, ::notice)."""
    lines = []
    for finding in verdict.findings:
        level = "error" if finding.fails else "notice"
        title = _github_property(f"zsad check: {_where(finding)}")
        lines.append(f"::{level} title={title}::{_github_data(finding.message)}")
    summary = _as_text(dataclasses.replace(verdict, findings=())) if verdict.passed else ""
    return "\n".join([*lines, summary or _as_text(verdict).splitlines()[-1]])


def _github_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _github_property(text: str) -> str:
    return _github_data(text).replace(":", "%3A").replace(",", "%2C")


def _where(finding: Finding) -> str:
    return " ".join(part for part in (finding.cell, finding.category) if part)


def _same(old: Any, new: Any) -> bool:
    return json.dumps(old, sort_keys=True, default=str) == json.dumps(
        new, sort_keys=True, default=str
    )


def _shown(value: Any) -> str:
    return "absent" if value is None else shortened(str(value), 60)
