"""Comparisons, intervals and ranks as tables and as plain values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..names import display_name
from ..records.record import Record
from ..track import Track
from .compare import Comparison, Difference, OverDatasets
from .findings_frame import findings_frame
from .formats import render
from .frame_formats import frame_bytes
from .layout import in_track, titled
from .matrix import EvaluatedMethod, Matrix, TargetDataset, arrange
from .resampling import DEFAULT_SETTINGS, Settings, pair_images
from .statistics import ImageMetric, Interval, Ranking
from .table_data import DASH, Column, Row, Table, TableCell
from .uncertainty import intervals


def render_findings(
    comparisons: Sequence[Comparison],
    rankings: Mapping[tuple[Track, str], Ranking],
    records: Sequence[Record],
    metrics: Sequence[ImageMetric],
    settings: Settings,
    format: str,  # noqa: A002
    remarks: Sequence[str] = (),
) -> bytes:
    """All that a comparison found: tables in percent, or plain values in [0, 1].

    Args:
        comparisons: of runs or methods.
        rankings: by track and metric.
        records: of the run whose values are shown with intervals.
        metrics: those of its metrics that are shown so; none where runs or methods are compared.
        settings: how uncertainty is estimated.
        format: csv or parquet (a row for each finding, see `findings_frame`), json, or another one
            of `formats.render`.
        remarks: what else a reader must know.

    Raises:
        UsageError: no such format, or the package that writes it is missing.
    """
    if format in ("csv", "json", "parquet"):
        found = [row for m in metrics for row in intervals_json(records, m, settings)]
    if format == "json":
        content = {
            "settings": dataclasses.asdict(settings),
            "intervals": found,
            "comparisons": [dataclasses.asdict(comparison) for comparison in comparisons],
            "rankings": {
                titled(metric, track): dataclasses.asdict(ranking)
                for (track, metric), ranking in rankings.items()
            },
            "remarks": list(remarks),
        }
        return (json.dumps(content, indent=1) + "\n").encode()
    if format in ("csv", "parquet"):
        frame = findings_frame(comparisons, rankings, found, settings, remarks)
        return frame_bytes(frame, format)
    tables = [comparison_table(comparison, settings.level) for comparison in comparisons]
    tables += [interval_table(records, metric, settings) for metric in metrics]
    tables += [ranking_table(r, metric, track) for (track, metric), r in rankings.items()]
    if tables:
        last = tables[-1]
        tables[-1] = dataclasses.replace(last, remarks=(*last.remarks, *remarks))
    return "\n".join(render(table, format) for table in tables).encode()


def comparison_table(comparison: Comparison, level: float = 0.95) -> Table:
    """A comparison in percent, the rows of a metric together, the mean over datasets last."""
    summaries = {over.metric: over for over in comparison.over_datasets}
    rows = []
    for metric in dict.fromkeys(d.metric for d in comparison.differences):
        rows += [_difference_row(d) for d in comparison.differences if d.metric == metric]
        rows += [_summary_row(summaries[metric])] if metric in summaries else []
    remarks = [
        f"Differences are a - b in percentage points with {100 * level:g} % intervals from a "
        "bootstrap over images, paired; p of the same bootstrap, corrected over datasets (Holm). "
        "Last rows: mean difference, and Wilcoxon's signed-rank test over datasets, corrected over "
        "all that is compared here in one track.",
    ]
    left_out = dict.fromkeys(d.dataset for d in comparison.differences if d.left_out)
    if left_out:
        remarks.append(f"Incomplete and left out of the last rows: {', '.join(left_out)}.")
    for side, names in (("a", comparison.only_a), ("b", comparison.only_b)):
        remarks += [f"Only in {side}: {', '.join(names)}."] * bool(names)
    table = Table(
        "compare",
        f"a = {comparison.a}, b = {comparison.b}",
        ("Metric", "Dataset"),
        tuple(map(Column, ("a", "b", "a - b", "interval", "p", "p (Holm)"))),
        tuple(rows),
        tuple(remarks),
    )
    return in_track(table, comparison.track)


def _difference_row(d: Difference) -> Row:
    span, p = DASH, None
    if d.test is not None:
        at, p = d.test.difference, d.test.p
        span = f"{_signed(at.low)} to {_signed(at.high)}"
    texts = (_percent(d.a), _percent(d.b), _signed(d.gap), span, _p(p), _p(d.p_holm))
    return Row(d.dataset, _cells(texts), display_name(d.metric), d.notes)


def _summary_row(over: OverDatasets) -> Row:
    p = _p(None if over.test is None else over.test.p)
    counts = f"{over.wins} up, {over.losses} down"
    texts = ("", "", _signed(over.mean), counts, p, _p(over.p_holm))
    return Row("all datasets", _cells(texts), display_name(over.metric), summary=True)


def interval_table(
    records: Sequence[Record], metric: ImageMetric, settings: Settings = DEFAULT_SETTINGS
) -> Table:
    """Values of a run's methods with their bootstrap intervals, in percent, a table per track."""
    matrix = arrange(records)
    found = intervals(records, metric, settings)
    first, *others = [
        in_track(_intervals_of(matrix.of_track(track), found, metric, settings), track)
        for track in matrix.tracks
    ]
    return dataclasses.replace(first, other_tracks=tuple(others))


def _intervals_of(
    matrix: Matrix,
    found: Mapping[tuple[EvaluatedMethod, TargetDataset], Interval],
    metric: ImageMetric,
    settings: Settings,
) -> Table:
    rows = []
    for dataset in matrix.datasets:
        within = [_within(found.get((method, dataset))) for method in matrix.methods]
        notes = [_notes(matrix, method, dataset, metric) for method in matrix.methods]
        cells = (TableCell(text=w, notes=n) for w, n in zip(within, notes, strict=True))
        rows.append(Row(dataset.title, tuple(cells)))
    title = display_name(metric)
    remark = (
        f"{title} in percent with {100 * settings.level:g} % percentile intervals from "
        f"{settings.replicates} {settings.resampling} resamples of the images (seed "
        f"{settings.seed})."
    )
    columns = tuple(Column(method.label) for method in matrix.methods)
    return Table("uncertainty", title, ("Dataset",), columns, tuple(rows), (remark,))


def ranking_table(ranking: Ranking, metric: str, track: Track = Track.ZERO_SHOT) -> Table:
    """Average ranks of one track's methods and the p-values of Nemenyi's test."""
    rows = []
    for name, average, ps in zip(ranking.names, ranking.ranks, ranking.nemenyi, strict=True):
        others = (DASH if o == name else _p(p) for o, p in zip(ranking.names, ps, strict=True))
        rows.append(Row(name, _cells((f"{average:.2f}", *others))))
    remark = (
        f"Average ranks over {ranking.n_datasets} datasets, 1 is best; Friedman p = "
        f"{_p(ranking.friedman_p)}; other columns: p of Nemenyi's test. Ranks further apart than "
        f"{ranking.critical_difference:.2f} differ at level {ranking.alpha:g}."
    )
    remarks = [remark, *[f"Left out: {', '.join(ranking.left_out)}."] * bool(ranking.left_out)]
    columns = tuple(map(Column, ("Rank", *ranking.names)))
    title = f"Ranks by {display_name(metric)}"
    return in_track(Table("ranks", title, ("Method",), columns, tuple(rows), tuple(remarks)), track)


def intervals_json(
    records: Sequence[Record], metric: ImageMetric, settings: Settings = DEFAULT_SETTINGS
) -> list[dict[str, Any]]:
    """What `interval_table` shows as plain values in [0, 1], an object per method and dataset."""
    matrix = arrange(records)
    found = intervals(records, metric, settings)
    rows = []
    for method, dataset in matrix.cells:
        at = found.get((method, dataset))
        value = matrix.value(method, dataset, metric)
        rows.append(
            {
                "method": method.method,
                "variant": method.variant,
                "title": method.title,
                "label": method.label,
                "options": method.options,
                "track": method.track,
                "dataset": dataset.name,
                "metric": metric,
                "value": value.value if at is None else at.value,
                "low": None if at is None else at.low,
                "high": None if at is None else at.high,
                "notes": list(_notes(matrix, method, dataset, metric)),
            }
        )
    return rows


def _notes(
    matrix: Matrix, method: EvaluatedMethod, dataset: TargetDataset, metric: ImageMetric
) -> tuple[str, ...]:
    """What a reader must know of a value, and why it has no interval."""
    value = matrix.value(method, dataset, metric)
    why_not = pair_images(matrix.cell(method, dataset), ()).why_not
    return (*value.notes, *[why_not] * bool(why_not and value.value is not None))


def _cells(texts: Iterable[str]) -> tuple[TableCell, ...]:
    return tuple(TableCell(text=text) for text in texts)


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.1f}"


def _signed(value: float | None) -> str:
    return DASH if value is None else f"{round(100 * value, 1) + 0.0:+.1f}"


def _within(at: Interval | None) -> str:
    if at is None:
        return DASH
    return f"{_percent(at.value)} ({_percent(at.low)} to {_percent(at.high)})"


def _p(value: float | None) -> str:
    if value is None:
        return DASH
    return "<0.001" if value < 0.001 else f"{value:.3f}"
