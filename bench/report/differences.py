"""The numbers of a run compared with the printed ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from ..analysis.layout import DOUBTFUL
from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset
from ..analysis.table_data import Number, Row
from ..metric_table import HEADLINES, METRICS, Level, of_level
from .tables import ReportTable

LONGEST_BAR = 10.0  # points


@dataclass(frozen=True)
class Difference:
    """A number with its printed one, in percent.

    Attributes:
        metric: its title.
        erratum: why the printed number is doubtful, or "".
    """

    dataset: TargetDataset
    method: EvaluatedMethod
    metric: str
    number: Number
    erratum: str

    @property
    def points(self) -> float:
        """The number of the run minus the printed one."""
        return float(self.number.delta_text)

    @property
    def width(self) -> float:
        """Length of the bar in percent of half the axis."""
        return 100 * min(abs(self.points), LONGEST_BAR) / LONGEST_BAR


def differences(tables: Sequence[Sequence[ReportTable]]) -> list[Difference]:
    """Every number of the run that the paper prints too and that is comparable."""
    found: list[Difference] = []
    for own in (table for tables_of_level in tables for table in tables_of_level):
        by_title = {dataset.title: dataset for dataset in own.matrix.datasets}
        for row in own.table.rows:
            if row.label in by_title and not row.summary:
                found += _of_row(own.matrix, own.level, by_title[row.label], row)
    return found


def _of_row(matrix: Matrix, level: Level, dataset: TargetDataset, row: Row) -> Iterator[Difference]:
    titles = [METRICS[name].title for name in of_level(level, HEADLINES)]
    for method, cell in zip(matrix.methods, row.cells, strict=True):
        errata = [note for note in cell.notes if note.startswith(DOUBTFUL)]
        for title, number in zip(titles, cell.numbers, strict=True):
            if number.value is not None and number.printed is not None:
                yield Difference(dataset, method, title, number, "".join(errata[:1]))


def summary(found: Sequence[Difference]) -> str:
    """How large the differences are, in one sentence; there must be one."""
    sizes = [abs(difference.points) for difference in found]
    largest = max(found, key=lambda difference: abs(difference.points))
    return (
        f"{len(found)} numbers have a printed counterpart; {sum(s <= 0.5 for s in sizes)} of them "
        f"lie within 0.5 points of it. The median distance is {median(sizes):.1f} points, the "
        f"largest difference {signed(largest.number)} ({largest.method.label}, "
        f"{largest.dataset.title}, {largest.metric})."
    )


def signed(number: Number) -> str:
    """The difference from the printed number with a real minus sign, "" without one."""
    if number.value is None or number.printed is None:
        return ""
    return number.delta_text.replace("-", "−").replace("+0.0", "0.0")


def direction(number: Number) -> str:
    """The class of a difference: up, down, same or ""."""
    return {"": "", "+": "up", "−": "down"}.get(signed(number)[:1], "same")
