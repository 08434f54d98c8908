"""What `compare` finds as rows with every digit: values, differences, summaries and ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..track import Track
from .compare import Comparison
from .resampling import Settings
from .statistics import Ranking

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
COLUMNS = (
    *("kind", "track", "metric", "dataset", "method", "a", "b"),
    *("value", "value_a", "value_b", "difference", "low", "high", "p", "p_holm"),
    *("wins", "losses", "rank", "critical_difference", "n_datasets"),
    *("level", "replicates", "resampling", "bootstrap_seed", "notes"),
)
"""Of every row; a column that says nothing of a kind of row is empty there."""


def findings_frame(
    comparisons: Sequence[Comparison],
    rankings: Mapping[tuple[Track, str], Ranking],
    intervals: Sequence[Mapping[str, Any]],
    settings: Settings,
    remarks: Sequence[str] = (),
) -> pd.DataFrame:
    """A row for each finding; the column `kind` says which.

    Kinds: interval (of a method's value on a dataset), difference (a - b on a dataset), summary
    (their mean, and the test over datasets), rank (a method's average rank), pair (p of Nemenyi's
    test of two methods) and remark (in notes). Values are in [0, 1].

    Args:
        comparisons: of runs or methods.
        rankings: by track and metric.
        intervals: of `comparison_tables.intervals_json`.
        settings: how uncertainty is estimated.
        remarks: what else a reader must know.
    """
    import pandas as pd

    rows = [
        *(_interval(row, settings) for row in intervals),
        *(row for comparison in comparisons for row in _differences(comparison, settings)),
        *(row for (track, metric), r in rankings.items() for row in _ranks(r, track, metric)),
        *({"kind": "remark", "notes": remark} for remark in remarks),
    ]
    # as objects, counts stay whole where other rows have none
    columns = {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in COLUMNS}
    return pd.DataFrame(columns)


def _interval(row: Mapping[str, Any], settings: Settings) -> Row:
    taken = ("track", "metric", "dataset", "value", "low", "high")
    return {
        "kind": "interval",
        **{name: row[name] for name in taken},
        "track": str(row["track"]),
        "method": row["label"],
        **(_resampled(settings) if row["low"] is not None else {}),
        "notes": "; ".join(row["notes"]),
    }


def _differences(comparison: Comparison, settings: Settings) -> Iterator[Row]:
    """The differences on datasets, what they say together, and what only one side has."""
    sides = {"track": str(comparison.track), "a": comparison.a, "b": comparison.b}
    for d in comparison.differences:
        test = d.test
        notes = [*d.notes, *["left out of the summary: incomplete"] * d.left_out]
        yield {
            "kind": "difference",
            **sides,
            "metric": d.metric,
            "dataset": d.dataset,
            "value_a": d.a,
            "value_b": d.b,
            "difference": d.gap,
            "low": test and test.difference.low,
            "high": test and test.difference.high,
            "p": test and test.p,
            "p_holm": d.p_holm,
            **(_resampled(settings) if test else {}),
            "notes": "; ".join(notes),
        }
    for over in comparison.over_datasets:
        yield {
            "kind": "summary",
            **sides,
            "metric": over.metric,
            "difference": over.mean,
            "wins": over.wins,
            "losses": over.losses,
            "p": over.test and over.test.p,
            "p_holm": over.p_holm,
        }
    for side, names in (("a", comparison.only_a), ("b", comparison.only_b)):
        for name in names:
            yield {"kind": "difference", **sides, "dataset": name, "notes": f"only in {side}"}


def _ranks(ranking: Ranking, track: Track, metric: str) -> Iterator[Row]:
    """Average ranks with the p-value of Friedman's test, then every pair of methods."""
    common = {"track": str(track), "metric": metric, "n_datasets": ranking.n_datasets}
    for name, average in zip(ranking.names, ranking.ranks, strict=True):
        yield {
            "kind": "rank",
            **common,
            "method": name,
            "rank": average,
            "p": ranking.friedman_p,
            "critical_difference": ranking.critical_difference,
            "level": 1 - ranking.alpha,
            "notes": f"left out: {', '.join(ranking.left_out)}" if ranking.left_out else None,
        }
    for i, a in enumerate(ranking.names):
        for j, b in enumerate(ranking.names[i + 1 :], start=i + 1):
            yield {"kind": "pair", **common, "a": a, "b": b, "p": ranking.nemenyi[i][j]}


def _resampled(settings: Settings) -> Row:
    return {
        "level": settings.level,
        "replicates": settings.replicates,
        "resampling": settings.resampling,
        "bootstrap_seed": settings.seed,
    }
