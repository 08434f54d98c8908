"""The ranking of methods in each domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..analysis.formats import Row
from ..analysis.matrix import EvaluatedMethod, Matrix
from .level_tables import LevelTable

DOMAIN_TITLES = {"synthetic": "Built-in", "custom": "Own", "other": "Other"}


@dataclass(frozen=True)
class Rank:
    """A method's mean AUROC; `position` is the place of its dot in percent of the axis."""

    method: EvaluatedMethod
    text: str
    position: float


@dataclass(frozen=True)
class Ranking:
    """The methods by their AUROC over the datasets of a domain, best first.

    Attributes:
        over: what the mean is over, in words.
        low: where the axis begins, in percent; it ends at 100.
    """

    title: str
    domain: str
    over: str
    low: int
    ranks: list[Rank]


def rankings(matrix: Matrix, tables: Sequence[LevelTable]) -> list[Ranking]:
    """For each level and domain the mean row of the table.

    A domain with a single dataset shows that one; one with several and no mean shows nothing.
    """
    found = []
    for own in tables:
        for domain, rows in own.domains:
            means = [row for row in rows if row.summary] or (rows if len(rows) == 1 else [])
            title = f"{domain_title(domain)}, {own.level} level"
            found += [_ranking(matrix, title, row) for row in means[:1]]
    return [ranking for ranking in found if ranking.ranks]


def _ranking(matrix: Matrix, title: str, row: Row) -> Ranking:
    values = [
        (method, cell.numbers[0].value)
        for method, cell in zip(matrix.methods, row.cells, strict=True)
        if cell.numbers and cell.numbers[0].value is not None
    ]
    values.sort(key=lambda item: -item[1])
    low = 10 * int(min((value for _, value in values), default=0) // 10)
    ranks = [
        Rank(method, f"{value:.1f}", 100 * (value - low) / max(100 - low, 1))
        for method, value in values
    ]
    over = "; ".join([row.label, *row.notes]) if row.summary else row.label
    return Ranking(title, row.group, over, low, ranks)


def domain_title(domain: str) -> str:
    """A domain as a heading."""
    return DOMAIN_TITLES.get(domain, domain.capitalize())
