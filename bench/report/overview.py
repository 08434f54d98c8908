"""The overview of a report: which method is best where, how sure that is, where methods fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ..analysis.layout import titled
from ..analysis.matrix import Matrix, TargetDataset
from ..analysis.statistics import Ranking, StatsError
from ..analysis.uncertainty import rank
from ..metric_table import METRICS, Metric
from ..track import Track
from .tables import Entry, ReportRow, ReportTable, domain_title


@dataclass(frozen=True)
class Card:
    """The methods of a track by a metric on a dataset or in the mean over a domain.

    Attributes:
        over: what the values are over, in words.
        entries: those with a value, best first.
        dataset: None for a mean.
        leads: it stands for its domain: the mean, or the only dataset.
    """

    title: str
    metric: Metric
    domain: str
    over: str
    entries: tuple[Entry, ...]
    dataset: TargetDataset | None
    leads: bool

    @property
    def low(self) -> int:
        """Where the axis begins, in percent; it ends at 100."""
        ends = [100 * e.standing.interval.low for e in self.entries if e.standing is not None]
        values = [e.number.value for e in self.entries if e.number.value is not None]
        seeds = [value for e in self.entries for value in e.seeds]
        return min(10 * int(min([*ends, *values, *seeds]) // 10), 90)

    def position(self, value: float) -> float:
        """The place of a value in percent of the axis."""
        return 100 * (value - self.low) / (100 - self.low)

    @property
    def verdict(self) -> str:
        """Who is best, and who cannot be told from it."""
        if len(self.entries) < 2:
            return ""
        best = [e.method.label for e in self.entries if e.mark == "best"]
        near = [e.method.label for e in self.entries if e.mark == "near"]
        leader = " and ".join(best) if 0 < len(best) < 3 else f"{len(best)} methods"
        tested = [e for e in self.entries if e.standing is not None]
        if len(tested) < len(self.entries):
            return f"Best: {leader}; differences are not tested."
        if near:
            shown = ", ".join(near) if len(near) < 4 else f"{len(near)} others"
            return f"Best: {leader}; not distinguishable: {shown}."
        return f"Best: {leader}; all others are distinguishably worse."


def cards(tables: Sequence[ReportTable]) -> list[Card]:
    """A card for each row of the tables that has a value: those that stand for a domain first.

    Of metrics beside the paper's only these.
    """
    found = []
    for table in tables:
        for row in table.rows:
            own = [e for e in row.entries if e.number.value is not None]
            if own:
                found.append(_card(table, row, own))
    return sorted(
        (card for card in found if card.leads or card.metric.headline),
        key=lambda card: not card.leads,
    )


def _card(table: ReportTable, row: ReportRow, entries: Sequence[Entry]) -> Card:
    domain = row.row.group
    siblings = [other for other in table.rows if other.row.group == domain]
    where = domain_title(domain) if row.dataset is None else row.dataset.title
    title = titled(f"{where}, {table.metric.title}", table.track)
    over = "; ".join([row.row.label, *row.row.notes]) if row.dataset is None else ""
    sign = -1 if table.metric.higher_is_better else 1
    ordered = sorted(entries, key=lambda e: sign * (e.number.value or 0.0))
    leads = row.dataset is None or len(siblings) == 1
    return Card(title, table.metric, domain, over, tuple(ordered), row.dataset, leads)


@dataclass(frozen=True)
class Hard:
    """A category on which methods do badly: values in percent of the best one and in the middle."""

    dataset: TargetDataset
    category: str
    best: str
    value: float
    middle: float


def hardest(matrix: Matrix, metric: Metric) -> list[Hard]:
    """All categories of one track, those in which even the best method does badly first."""
    best_of, sign = (max, 1) if metric.higher_is_better else (min, -1)
    found = []
    for dataset in matrix.datasets:
        for category in matrix.categories(dataset):
            measured = {
                method.label: value
                for method in matrix.methods
                if (value := matrix.value(method, dataset, metric.name, category).value) is not None
            }
            if measured:
                best = best_of(measured, key=measured.__getitem__)
                middle = 100 * median(measured.values())
                found.append(Hard(dataset, category, best, 100 * measured[best], middle))
    return sorted(found, key=lambda hard: sign * hard.value)


@dataclass(frozen=True)
class Ranks:
    """Average ranks of the methods of a track, and which of them differ by no more than chance.

    Attributes:
        ranking: as `zsad compare --ranks` gives it.
        groups: first and last place of methods, from 0, that are not told apart, at least two.
    """

    metric: Metric
    track: Track
    ranking: Ranking
    groups: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> list[tuple[str, float]]:
        """Methods with their average ranks, the best first."""
        return list(zip(self.ranking.names, self.ranking.ranks, strict=True))

    def position(self, place: float) -> float:
        """A rank in percent of the axis from 1 to the number of methods."""
        return 100 * (place - 1) / max(len(self.ranking.names) - 1, 1)


def average_ranks(matrix: Matrix, tables: Sequence[ReportTable]) -> tuple[list[Ranks], str]:
    """The ranks by every metric of the tables, and why there are none where there are none."""
    found, why = [], ""
    for table in tables:
        try:
            ranking = rank(
                table.matrix.records,
                table.metric.name,
                allow_incomplete=matrix.allow_incomplete,
            )
        except StatsError as error:
            why = str(error)
        else:
            metric = METRICS[table.metric.name]
            found.append(Ranks(metric, table.track, ranking, groups_of(ranking)))
    return found, "" if found else why


def groups_of(ranking: Ranking) -> tuple[tuple[int, int], ...]:
    """The longest rows of methods, by rank, whose ends Nemenyi's test does not tell apart."""
    found: list[tuple[int, int]] = []
    count = len(ranking.names)
    for first in range(count):
        last = max(i for i in range(first, count) if ranking.nemenyi[first][i] >= ranking.alpha)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)
