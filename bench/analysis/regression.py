"""The regression check: a run against a committed baseline, cell by cell.

Any move beyond its tolerance fails, up or down: a metric that rises without a known cause is as
broken as one that drops.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..code_hash import made_by_other_code
from ..errors import shortened
from ..metric_table import METRICS
from ..names import display_name, known_name
from ..records.protocol import VERSIONS, differing_entries, version_of
from ..records.record import CategoryResult, Record
from .baseline import DIGITS, Baseline, BaselineCell, checked_tolerances

Kind = Literal["dropped", "rose", "missing", "failed", "protocol", "new", "note"]
FAILING: tuple[Kind, ...] = ("dropped", "rose", "missing", "failed", "protocol")


@dataclass(frozen=True)
class Finding:
    """One thing that is not as in the baseline.

    Attributes:
        kind: dropped, rose, missing, failed and protocol fail the check; new and note do not.
        cell: key of the cell; "" is the whole run.
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

    @property
    def place(self) -> str:
        """The cell, and the category where it is about one; "" is the whole run."""
        return f"{self.cell} {self.category}".strip()


@dataclass(frozen=True)
class Verdict:
    """The outcome of a check: all findings, and how much was compared."""

    findings: tuple[Finding, ...]
    cells: int
    numbers: int

    @property
    def failing(self) -> list[Finding]:
        """The findings that fail the check."""
        return [finding for finding in self.findings if finding.fails]

    @property
    def passed(self) -> bool:
        """No finding fails the check."""
        return not self.failing

    @property
    def summary(self) -> str:
        """One line."""
        compared = f"{self.numbers} numbers of {self.cells} cells compared"
        if self.passed:
            return f"passed: {compared}, none moved beyond its tolerance"
        failing_cells = len({finding.cell for finding in self.failing})
        return f"FAILED: {compared}, {len(self.failing)} findings in {failing_cells} cells"

    def render(self, fmt: str = "text") -> str:
        """The verdict as text, JSON, or GitHub workflow commands.

        Raises:
            UsageError: the format is unknown.
        """
        return FORMATS[known_name("format", fmt, FORMATS)](self)


def check_run(
    records: Iterable[Record],
    baseline: Baseline,
    tolerances: Mapping[str, float] | None = None,
) -> Verdict:
    """Compare a run with a baseline.

    Records that were made by other code than the installed one are noted. Baselines store no hash
    of code: what a run must reproduce does not depend on how it is written.

    Args:
        records: of the run.
        baseline: what it must give.
        tolerances: replace the baseline's for single metrics, or with "*" for all others; with
            "METHOD." before the name for one method.

    Raises:
        UsageError: a tolerance is of an unknown metric, or outside [0, 1].
    """
    given = checked_tolerances(tolerances or {})
    found = {record.cell.key: record for record in records}
    guarded = baseline.metrics
    findings: list[Finding] = []
    numbers = 0
    for key, expected in baseline.cells.items():
        if key in found:
            every = baseline.limits(expected.method, given)
            limits = {metric: limit for metric, limit in every.items() if metric in guarded}
            findings += _cell_findings(key, expected, found[key], limits)
            compared = expected.categories.keys() & found[key].by_category.keys()
            numbers += sum(len(METRICS.keys() & expected.categories[c].keys()) for c in compared)
        else:
            findings.append(Finding("missing", key, "the run has no record of this cell"))
    for key in found.keys() - baseline.cells.keys():
        why = "the baseline does not know this cell: --update adds it"
        findings.append(Finding("new", key, why))
    findings += _new_metrics(found.values(), guarded)
    findings.sort(key=lambda f: (not f.fails, f.cell, f.category, f.metric))
    return Verdict(tuple(findings), len(baseline.cells), numbers)


def _new_metrics(records: Iterable[Record], guarded: Collection[str]) -> Iterator[Finding]:
    """A note for each metric that the records have and no cell of the baseline."""
    measured = {m for record in records for result in record.categories for m in result.metrics}
    for metric in METRICS:
        if metric in measured and metric not in guarded:
            why = f"{display_name(metric)} is not in the baseline: --update adds it"
            yield Finding("note", "", why, metric=metric)


def _cell_findings(
    key: str, expected: BaselineCell, record: Record, limits: Mapping[str, float]
) -> Iterator[Finding]:
    """What of a cell is not as in the baseline."""
    if record.error is not None:
        why = f"the cell failed: {record.error.type}: {record.error.message}"
        yield Finding("failed", key, why)
        return
    yield from _protocol_findings(key, expected, record)
    for category, metrics in expected.categories.items():
        result = record.by_category.get(category)
        if result is None:
            yield Finding("missing", key, f"category {category} is missing", category)
            continue
        new = [result.n_normal, result.n_anomalous]
        old = expected.counts.get(category, new)
        if new != old:
            message = f"normal and anomalous images were {old}, are {new}"
            yield Finding("protocol", key, message, category, "images", old, new)
        yield from _metric_findings(key, metrics, result, limits)
    for category in record.by_category.keys() - expected.categories.keys():
        yield Finding("new", key, "the category is not in the baseline", category)
    if made_by_other_code(expected.method, record.cell.dataset, record.identity):
        why = "the record was made by other code than is installed: run again to check this"
        yield Finding("note", key, why)


def _protocol_findings(key: str, expected: BaselineCell, record: Record) -> Iterator[Finding]:
    if record.track is not expected.track:
        message = f"track was {expected.track}, is {record.track}: what the method may see changed"
        yield Finding("protocol", key, message, "", "track", expected.track, record.track)
    for name in differing_entries(expected.protocol, record.protocol):
        old, new = expected.protocol.get(name), record.protocol.get(name)
        if name == VERSIONS:
            yield from _version_findings(key, expected, record)
        elif name in expected.protocol:
            message = f"protocol: {name} was {_shown(old)}, is {_shown(new)}"
            yield Finding("protocol", key, message, metric=name, old=old, new=new)
        else:
            yield Finding("note", key, f"protocol: {name} is new: {_shown(new)}", metric=name)


def _version_findings(key: str, expected: BaselineCell, record: Record) -> Iterator[Finding]:
    """Guarded metrics whose definition has changed; those of further metrics do not count."""
    guarded = {metric for metrics in expected.categories.values() for metric in metrics}
    for metric in METRICS:
        old, new = (version_of(side.protocol, metric) for side in (expected, record))
        if metric in guarded and old != new:
            message = f"protocol: {display_name(metric)} was of version {old}, is of {new}"
            yield Finding("protocol", key, message, metric=metric, old=old, new=new)


def _metric_findings(
    key: str, metrics: Mapping[str, float], result: CategoryResult, limits: Mapping[str, float]
) -> Iterator[Finding]:
    for metric, limit in limits.items():
        old, new = metrics.get(metric), result.metrics.get(metric)
        name, place = display_name(metric), (result.category, metric)
        if old is None:
            if new is not None:
                yield Finding("note", key, f"{name} is not in the baseline", *place)
        elif new is None:
            measured = metric in result.undefined
            now = f"undefined: {result.undefined[metric]}" if measured else "not measured"
            message = f"{name} was {old:.4f}, is {now}"
            yield Finding("missing", key, message, *place, round(old, DIGITS))
        elif abs(new - old) > limit + 0.5 * 10**-DIGITS:
            kind: Kind = "dropped" if new < old else "rose"
            moved = f"{name} {kind} by {abs(new - old):.4f}: {old:.4f} -> {new:.4f}"
            values = round(old, DIGITS), round(new, DIGITS)
            yield Finding(kind, key, f"{moved}, tolerance {limit:g}", *place, *values, limit)


def _shown(value: Any) -> str:
    return "absent" if value is None else shortened(str(value), 60)


# -- rendering ----------------------------------------------------------------------------------


def _as_text(verdict: Verdict) -> str:
    lines = []
    for finding in verdict.findings:
        words = ("FAIL" if finding.fails else "note", finding.place)
        lines.append(f"{' '.join(filter(None, words))}: {finding.message}")
    return "\n".join([*lines, verdict.summary])


def _as_json(verdict: Verdict) -> str:
    findings = [{**dataclasses.asdict(f), "fails": f.fails} for f in verdict.findings]
    counts = {"passed": verdict.passed, "cells": verdict.cells, "numbers": verdict.numbers}
    return json.dumps({**counts, "findings": findings}, indent=1)


def _as_github(verdict: Verdict) -> str:
    """One annotation per finding. Source: GitHub's workflow commands (::error, ::notice)."""
    lines = []
    for finding in verdict.findings:
        level = "error" if finding.fails else "notice"
        title = _escaped(": ".join(filter(None, ("zsad check", finding.place))))
        title = title.replace(":", "%3A").replace(",", "%2C")
        lines.append(f"::{level} title={title}::{_escaped(finding.message)}")
    return "\n".join([*lines, verdict.summary])


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


FORMATS: Mapping[str, Callable[[Verdict], str]] = {
    "text": _as_text,
    "json": _as_json,
    "github": _as_github,
}
