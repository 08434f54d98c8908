"""What the records of one cell say of a metric, and what a reader must know of the data behind it.

A dataset's value is the unweighted mean over its categories, as in the paper; several seeds give a
mean and a standard deviation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ..records.record import UNDECLARED, CategoryResult, Record

NOT_RUN = "not run"
UNDEFINED = "undefined: "
NOT_MEASURED = "not measured: 'zsad rescore' adds it where the run has kept what it needs"


@dataclass(frozen=True)
class Value:
    """A metric of a method on a dataset or a category: in [0, 1], or None and why.

    Attributes:
        incomplete: measured on, or learned from, an incomplete copy of a dataset: not to be set
            beside numbers of the whole one.
    """

    value: float | None = None
    spread: float | None = None
    notes: tuple[str, ...] = ()
    incomplete: bool = False


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


def _measure_one(record: Record, metric: str, category: str | None) -> Value:
    if record.error is not None:
        first_line = (record.error.message.strip().splitlines() or [""])[0]
        return Value(notes=(f"failed: {record.error.type}: {first_line}",))
    results = record.categories
    if category is not None:
        results = [r for r in (record.by_category.get(category),) if r is not None]
    if not results:
        return Value(notes=(NOT_RUN if category else "the record has no categories",))
    defined = [r.metrics[metric] for r in results if metric in r.metrics]
    missing = [r for r in results if metric not in r.metrics]
    if missing and not any(metric in r.undefined for r in missing) and not defined:
        return Value(notes=(NOT_MEASURED,))
    reasons = [r.undefined.get(metric, NOT_MEASURED) for r in missing]
    if not defined:
        return Value(notes=(UNDEFINED + "; ".join(dict.fromkeys(reasons)),))
    notes = _threshold_notes(results, metric)
    if missing:
        why = "; ".join(f"{r.category}: {own}" for r, own in zip(missing, reasons, strict=True))
        notes += (f"over {len(defined)} of {len(results)} categories ({why})",)
    return Value(fmean(defined), notes=notes)


def _threshold_notes(results: Iterable[CategoryResult], metric: str) -> tuple[str, ...]:
    """What the thresholds of a metric were learned from, each source once."""
    found = (r.thresholds[metric].source for r in results if metric in r.thresholds)
    return tuple(f"threshold: {source}" for source in dict.fromkeys(found))


def notes_of(values: Iterable[Value]) -> tuple[str, ...]:
    """The notes of several values, each once."""
    return tuple(dict.fromkeys(note for value in values for note in value.notes))


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
        if chosen and category is None:  # a remark below the table states the limit
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
