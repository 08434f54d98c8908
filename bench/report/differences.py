"""The numbers of a run compared with the printed ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from ..analysis.layout import DOUBTFUL
from ..analysis.matrix import EvaluatedMethod, TargetDataset
from ..analysis.table_data import Number
from ..metric_table import HEADLINES, Metric
from .tables import ReportTable


@dataclass(frozen=True)
class Difference:
    """A number with its printed one, in percent.

    Attributes:
        erratum: why the printed number is doubtful, or "".
    """

    dataset: TargetDataset
    method: EvaluatedMethod
    metric: Metric
    number: Number
    erratum: str

    @property
    def points(self) -> float:
        """The number of the run minus the printed one."""
        return float(self.number.delta_text)


def differences(tables: Sequence[ReportTable]) -> list[Difference]:
    """Every number that the paper prints too and that is comparable, the largest first."""
    found = [own for table in tables if table.metric.name in HEADLINES for own in _of_table(table)]
    return sorted(found, key=lambda difference: -abs(difference.points))


def _of_table(table: ReportTable) -> Iterator[Difference]:
    for row in table.rows:
        if row.dataset is None:
            continue
        for entry in row.entries:
            errata = [note for note in entry.cell.notes if note.startswith(DOUBTFUL)]
            number = entry.number
            if number.value is not None and number.printed is not None:
                doubt = "".join(errata[:1])
                yield Difference(row.dataset, entry.method, table.metric, number, doubt)


def summary(found: Sequence[Difference]) -> str:
    """How large the differences are, in one sentence; there must be one."""
    sizes = [abs(difference.points) for difference in found]
    largest = max(found, key=lambda difference: abs(difference.points))
    return (
        f"{len(found)} numbers have a printed counterpart; {sum(s <= 0.5 for s in sizes)} of them "
        f"lie within 0.5 points of it. The median distance is {median(sizes):.1f} points, the "
        f"largest difference {signed(largest.number)} ({largest.method.label}, "
        f"{largest.dataset.title}, {largest.metric.title})."
    )


def signed(number: Number) -> str:
    """The difference from the printed number with a real minus sign, "" without one."""
    if number.value is None or number.printed is None:
        return ""
    return number.delta_text.replace("-", "−").replace("+0.0", "0.0")


def direction(number: Number) -> str:
    """The class of a difference: up, down, same or ""."""
    return {"": "", "+": "up", "−": "down"}.get(signed(number)[:1], "same")
