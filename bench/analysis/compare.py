"""Two runs or two methods side by side: differences, how sure they are, and ranks of many methods.

Image-level metrics are resampled over images, the same images for both sides, from the per-image
scores that every record keeps. Pixel-level metrics have no such scores: they are compared over
datasets only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UsageError
from ..metric_table import HEADLINES, checked_metrics
from ..names import normalize_name
from ..records.record import ImageScores, Record
from .formats import DASH, Column, Row, Table, TableCell
from .matrix import EvaluatedMethod, Matrix, TargetDataset, arrange
from .protocol_notes import protocol_difference
from .statistics import (
    ImageMetric,
    Interval,
    PairedTest,
    Ranking,
    Resampling,
    Sampled,
    SignedRank,
    StatsError,
    bootstrap,
    holm,
    interval,
    paired,
    rank_methods,
    signed_rank,
)
from .values import measure

RESAMPLED: tuple[ImageMetric, ...] = ("image_auroc", "image_ap")


@dataclass(frozen=True)
class Settings:
    """How uncertainty is estimated.

    Attributes:
        metrics: names of records' metrics.
        replicates: bootstrap resamples.
        seed: of the resampling.
        level: of intervals, such as 0.95.
        resampling: stratified keeps the numbers of normal and anomalous images.
        allow_incomplete: let incomplete datasets into what is said over all datasets.
    """

    metrics: tuple[str, ...] = HEADLINES
    replicates: int = 2000
    seed: int = 0
    level: float = 0.95
    resampling: Resampling = "stratified"
    allow_incomplete: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", checked_metrics(self.metrics))


@dataclass(frozen=True)
class Difference:
    """One metric on one dataset: a - b in [-1, 1].

    Attributes:
        a, b: in [0, 1]; None where undefined, with the reason in the notes.
        test: the paired bootstrap; None for pixel-level metrics and where images do not match.
        p_holm: its p-value corrected over the datasets of the comparison.
        notes: why there is no test, and what of the protocol differs.
        left_out: takes no part in what is said over all datasets: a side's copy is incomplete.
    """

    dataset: str
    metric: str
    a: float | None
    b: float | None
    test: PairedTest | None = None
    p_holm: float | None = None
    notes: tuple[str, ...] = ()
    left_out: bool = False

    @property
    def gap(self) -> float | None:
        """The difference a - b; None where one is undefined."""
        return None if self.a is None or self.b is None else self.a - self.b


@dataclass(frozen=True)
class OverDatasets:
    """A metric's differences over all datasets.

    Attributes:
        mean: mean difference.
        wins, losses: datasets where a is greater, where b is.
        test: Wilcoxon's test; None where no dataset differs.
        p_holm: its p-value corrected over everything that was compared in one go.
    """

    metric: str
    mean: float
    wins: int
    losses: int
    test: SignedRank | None
    p_holm: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Side a against side b."""

    a: str
    b: str
    differences: tuple[Difference, ...]
    over_datasets: tuple[OverDatasets, ...]
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class _Side:
    """One side: a method of a matrix, under a label."""

    label: str
    matrix: Matrix
    method: EvaluatedMethod

    @property
    def finished(self) -> dict[str, TargetDataset]:
        """The datasets with a finished cell, by normalized name."""
        return {
            normalize_name(dataset.name): dataset
            for dataset in self.matrix.datasets
            if self.matrix.finished(self.method, dataset)
        }


@dataclass
class _Images:
    """The scores of both sides on the images of one dataset, or why they cannot be paired."""

    categories: list[Sampled] = field(default_factory=list)
    n_a: int = 0
    why_not: str = ""


def compare_runs(
    run_a: Sequence[Record],
    run_b: Sequence[Record] | None = None,
    method_a: str | None = None,
    method_b: str | None = None,
    settings: Settings | None = None,
) -> list[Comparison]:
    """Compare two methods of one run, a method of two runs, or all methods that two runs share.

    Args:
        run_a: records of the first run.
        run_b: records of the second run; None compares within the first.
        method_a: NAME or NAME@VARIANT of side a; None takes every method that both runs have.
        method_b: the same for side b; None is `method_a`.
        settings: metrics and bootstrap.

    Raises:
        UsageError: a method is not in the run, is ambiguous, or the two sides are the same.
    """
    settings = settings or Settings()
    pairs = _sides(run_a, run_b, method_a, method_b)
    return _corrected([_compare(a, b, settings) for a, b in pairs])


def _sides(
    run_a: Sequence[Record],
    run_b: Sequence[Record] | None,
    method_a: str | None,
    method_b: str | None,
) -> list[tuple[_Side, _Side]]:
    matrix_a = arrange(run_a)
    if run_b is None:
        if method_a is None or method_b is None:
            raise UsageError("name two methods of the run (--method-a, --method-b) or a second run")
        a, b = (_side(matrix_a, name, "") for name in (method_a, method_b))
        if a.method == b.method:
            raise UsageError(f"'{method_a}' and '{method_b}' are the same method of this run")
        return [(a, b)]
    matrix_b = arrange(run_b)
    if method_a is not None or method_b is not None:
        first, second = method_a or method_b or "", method_b or method_a or ""
        return [(_side(matrix_a, first, " (run a)"), _side(matrix_b, second, " (run b)"))]
    shared = [c for c in matrix_a.methods if c in matrix_b.methods]
    if not shared:
        raise UsageError("the runs share no method: name one of each (--method-a, --method-b)")
    return [
        (_Side(f"{m.label} (run a)", matrix_a, m), _Side(f"{m.label} (run b)", matrix_b, m))
        for m in shared
    ]


def _side(matrix: Matrix, name: str, suffix: str) -> _Side:
    method = find_method(matrix, name)
    return _Side(method.label + suffix, matrix, method)


def find_method(matrix: Matrix, name: str) -> EvaluatedMethod:
    """The method that NAME or NAME@VARIANT means.

    Raises:
        UsageError: there is none or several.
    """
    found = matrix.select_methods([name])
    plain = [m for m in found if not m.options]
    titled = normalize_name(name.partition("@")[0])
    plain = [m for m in plain if normalize_name(m.title) == titled] or plain
    if len(found) > 1 and len(plain) != 1:
        rivals = ", ".join(f"{m.method}@{m.variant} {m.options_text} ({m.title})" for m in found)
        raise UsageError(f"'{name}' means several methods of this run: {rivals}")
    return found[0] if len(found) == 1 else plain[0]


def _compare(a: _Side, b: _Side, settings: Settings) -> Comparison:
    of_a, of_b = a.finished, b.finished
    differences = []
    for name in [name for name in of_a if name in of_b]:
        left = a.matrix.cell(a.method, of_a[name])
        right = b.matrix.cell(b.method, of_b[name])
        differences += _dataset_differences(of_a[name].title, left, right, settings)
    return Comparison(
        a.label,
        b.label,
        tuple(differences),
        tuple(o for m in settings.metrics if (o := _over_datasets(m, differences)) is not None),
        tuple(dataset.title for name, dataset in of_a.items() if name not in of_b),
        tuple(dataset.title for name, dataset in of_b.items() if name not in of_a),
    )


def _dataset_differences(
    title: str, left: Sequence[Record], right: Sequence[Record], settings: Settings
) -> list[Difference]:
    images = _pair_images(left, right)
    protocol = [*protocol_difference(left, right), *_code_difference(left, right)]
    pairs = {m: (measure(left, m), measure(right, m)) for m in settings.metrics}
    tests = _tests(
        images,
        [m for m, sides in pairs.items() if all(v.value is not None for v in sides)],
        settings,
    )
    found = []
    for metric, (a, b) in pairs.items():
        if a.value is None or b.value is None:
            reasons = [f"{side}: {n}" for side, v in (("a", a), ("b", b)) for n in v.notes]
            found.append(Difference(title, metric, a.value, b.value, notes=tuple(reasons)))
            continue
        notes, test = [*a.notes, *b.notes, *protocol], tests.get(metric)
        if metric in RESAMPLED and images.why_not:
            notes.append(images.why_not)
        left_out = (a.incomplete or b.incomplete) and not settings.allow_incomplete
        unique = tuple(dict.fromkeys(notes))
        found.append(Difference(title, metric, a.value, b.value, test, None, unique, left_out))
    return found


def _code_difference(left: Sequence[Record], right: Sequence[Record]) -> list[str]:
    """A note where one method's records were made by different code.

    Different methods are different code anyway, and records of earlier versions state none.
    """
    if {r.cell.method for r in left} != {r.cell.method for r in right}:
        return []
    for name in ("code", "training code"):
        a, b = ({r.identity[name] for r in side if name in r.identity} for side in (left, right))
        if a and b and a != b:
            return ["a and b were made by different code"]
    return []


def _tests(images: _Images, metrics: Sequence[str], settings: Settings) -> dict[str, PairedTest]:
    """The paired tests of the metrics that can be resampled; none where images do not match."""
    chosen = [metric for metric in RESAMPLED if metric in metrics]
    if images.why_not or not chosen:
        return {}
    found = bootstrap(
        images.categories, chosen, settings.replicates, settings.seed, settings.resampling
    )
    n = images.n_a
    return {
        metric: paired(
            float(values[:n].mean() - values[n:].mean()),
            replicates[:n].mean(axis=0) - replicates[n:].mean(axis=0),
            settings.level,
        )
        for metric, (values, replicates) in found.items()
    }


def _pair_images(left: Sequence[Record], right: Sequence[Record]) -> _Images:
    """Scores of all records (seeds) of both sides, on the same images in the same order."""
    ok_left = [r for r in left if r.status == "ok"]
    records = [*ok_left, *(r for r in right if r.status == "ok")]
    by_category = [{c.category: c.images for c in r.categories} for r in records]
    if len({frozenset(categories) for categories in by_category}) != 1:
        return _Images(why_not="no interval: the categories differ")
    images = _Images(n_a=len(ok_left))
    for name in by_category[0]:
        scored = [categories[name] for categories in by_category]
        reference = scored[0]
        if reference is None:
            return _Images(why_not="no interval: per-image scores were not kept")
        aligned = [_aligned(reference, other) for other in scored]
        if any(row is None for row in aligned):
            return _Images(why_not="no interval: the images differ or have no scores")
        sampled = Sampled.of(reference.labels, [row for row in aligned if row is not None])
        if sampled.has_both:
            images.categories.append(sampled)
    if not images.categories:
        return _Images(why_not="no interval: no category has normal and anomalous images")
    return images


def _aligned(reference: ImageScores, other: ImageScores | None) -> list[float] | None:
    """The scores of `other` in the order of the reference's images; None if they do not match."""
    if other is None or other.scores is None or len(reference.names) != len(other.names):
        return None
    if reference.names == other.names:
        return other.scores if reference.labels == other.labels else None
    place = {name: i for i, name in enumerate(other.names)}
    if len(place) != len(other.names) or set(place) != set(reference.names):
        return None
    order = [place[name] for name in reference.names]
    if [other.labels[i] for i in order] != list(reference.labels):
        return None
    return [other.scores[i] for i in order]


def _over_datasets(metric: str, differences: Sequence[Difference]) -> OverDatasets | None:
    known = [d.gap for d in differences if d.metric == metric and not d.left_out]
    gaps = [gap for gap in known if gap is not None]
    if not gaps:
        return None
    wins, losses = sum(g > 0 for g in gaps), sum(g < 0 for g in gaps)
    return OverDatasets(metric, float(np.mean(gaps)), wins, losses, signed_rank(gaps))


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with Holm's correction.

    The bootstrap's p-values are corrected over the datasets of a comparison and metric, Wilcoxon's
    over all comparisons and metrics.
    """
    tests = [o.test.p for c in comparisons for o in c.over_datasets if o.test is not None]
    over = iter(holm(tests))
    corrected = []
    for comparison in comparisons:
        differences = list(comparison.differences)
        for metric in dict.fromkeys(d.metric for d in differences):
            places = [i for i, d in enumerate(differences) if d.metric == metric and d.test]
            ps = holm([t.p for i in places if (t := differences[i].test) is not None])
            for i, p in zip(places, ps, strict=True):
                differences[i] = dataclasses.replace(differences[i], p_holm=p)
        summaries = tuple(
            o if o.test is None else dataclasses.replace(o, p_holm=next(over))
            for o in comparison.over_datasets
        )
        corrected.append(
            dataclasses.replace(comparison, differences=tuple(differences), over_datasets=summaries)
        )
    return corrected


# -- one run: intervals and ranks ---------------------------------------------------------------


def intervals(
    records: Sequence[Record], metric: ImageMetric, settings: Settings | None = None
) -> dict[tuple[EvaluatedMethod, TargetDataset], Interval]:
    """The interval of an image-level metric for every method and dataset of a run.

    Cells without scores or without both labels have none. Seeds are averaged.
    """
    settings = settings or Settings()
    matrix = arrange(records)
    found = {}
    for (method, dataset), cell in matrix.cells.items():
        images = _pair_images(cell, ())
        if images.why_not:
            continue
        values, replicates = bootstrap(
            images.categories, [metric], settings.replicates, settings.seed, settings.resampling
        )[metric]
        found[method, dataset] = interval(
            float(values.mean()), replicates.mean(axis=0), settings.level
        )
    return found


def rank(
    records: Sequence[Record], metric: str, alpha: float = 0.05, allow_incomplete: bool = False
) -> Ranking:
    """Average ranks of a run's methods over the datasets that all of them have.

    Datasets whose copy is incomplete do not count unless they are allowed.

    Raises:
        UsageError: no such metric.
        StatsError: too few methods or datasets, or the extra `stats` is missing.
    """
    (metric,) = checked_metrics([metric])
    matrix = arrange(records, allow_incomplete=allow_incomplete)
    columns: dict[str, list[float | None]] = {}
    for method in matrix.methods:
        measured = [matrix.value(method, d, metric) for d in matrix.datasets]
        if any(value.value is not None for value in measured):
            columns[method.label] = [
                None if matrix.leaves_out(value) else value.value for value in measured
            ]
    complete = [
        i for i in range(len(matrix.datasets)) if all(v[i] is not None for v in columns.values())
    ]
    if not columns:
        raise StatsError(f"no method of this run has {metric}")
    table = {
        name: [v for i in complete if (v := values[i]) is not None]
        for name, values in columns.items()
    }
    return rank_methods(table, alpha)


# -- as tables ----------------------------------------------------------------------------------


def comparison_table(comparison: Comparison, level: float = 0.95) -> Table:
    """A comparison in percent, the rows of a metric together, the mean over datasets last."""
    rows = []
    metrics = list(dict.fromkeys(d.metric for d in comparison.differences))
    summary = {o.metric: o for o in comparison.over_datasets}
    for metric in metrics:
        for d in comparison.differences:
            if d.metric != metric:
                continue
            test = d.test
            texts = [
                DASH if d.a is None else _percent(d.a),
                DASH if d.b is None else _percent(d.b),
                DASH if d.gap is None else _signed(d.gap),
                DASH if test is None else _range(test.difference),
                DASH if test is None else _p(test.p),
                _p(d.p_holm),
            ]
            cells = tuple(TableCell(text=text) for text in texts)
            rows.append(Row(d.dataset, cells, metric, d.notes))
        if metric in summary:
            rows.append(_summary_row(summary[metric]))
    remarks = [
        f"Differences are a - b in percentage points with {100 * level:g} % intervals from a "
        "bootstrap over images, paired; p of the same bootstrap, corrected over datasets (Holm). "
        "Last rows: mean difference, and Wilcoxon's signed-rank test over datasets, corrected over "
        "all that is compared here.",
    ]
    left_out = dict.fromkeys(d.dataset for d in comparison.differences if d.left_out)
    if left_out:
        remarks.append(f"Incomplete and left out of the last rows: {', '.join(left_out)}.")
    for side, names in (("a", comparison.only_a), ("b", comparison.only_b)):
        remarks += [f"Only in {side}: {', '.join(names)}."] * bool(names)
    return Table(
        "compare",
        f"a = {comparison.a}, b = {comparison.b}",
        ("Metric", "Dataset"),
        tuple(Column(name) for name in ("a", "b", "a - b", "interval", "p", "p (Holm)")),
        tuple(rows),
        tuple(remarks),
    )


def _summary_row(over: OverDatasets) -> Row:
    counts = f"{over.wins} up, {over.losses} down"
    p = DASH if over.test is None else _p(over.test.p)
    texts = ("", "", _signed(over.mean), counts, p, _p(over.p_holm))
    cells = tuple(TableCell(text=text) for text in texts)
    return Row("all datasets", cells, over.metric, summary=True)


def interval_table(
    records: Sequence[Record], metric: ImageMetric, settings: Settings | None = None
) -> Table:
    """Values of a run's methods with their bootstrap intervals, in percent."""
    settings = settings or Settings()
    matrix = arrange(records)
    found = intervals(records, metric, settings)
    rows = []
    for dataset in matrix.datasets:
        cells = []
        for method in matrix.methods:
            at = found.get((method, dataset))
            text = DASH if at is None else f"{_percent(at.value)} ({_range(at, signed=False)})"
            notes = matrix.value(method, dataset, metric).notes
            cells.append(TableCell(text=text, notes=notes))
        rows.append(Row(dataset.title, tuple(cells)))
    remark = (
        f"{metric} in percent with {100 * settings.level:g} % percentile intervals from "
        f"{settings.replicates} {settings.resampling} resamples of the images (seed "
        f"{settings.seed})."
    )
    columns = tuple(Column(method.label) for method in matrix.methods)
    return Table("uncertainty", metric, ("Dataset",), columns, tuple(rows), (remark,))


def ranking_table(ranking: Ranking, metric: str) -> Table:
    """Average ranks and the p-values of Nemenyi's test."""
    rows = []
    for name, average, ps in zip(ranking.names, ranking.ranks, ranking.nemenyi, strict=True):
        texts = [f"{average:.2f}"]
        texts += [DASH if o == name else _p(p) for o, p in zip(ranking.names, ps, strict=True)]
        rows.append(Row(name, tuple(TableCell(text=text) for text in texts)))
    remark = (
        f"Average ranks over {ranking.n_datasets} datasets, 1 is best; Friedman p = "
        f"{_p(ranking.friedman_p)}; other columns: p of Nemenyi's test. Ranks further apart than "
        f"{ranking.critical_difference:.2f} differ at level {ranking.alpha:g}."
    )
    columns = tuple(Column(name) for name in ("Rank", *ranking.names))
    return Table("ranks", f"Ranks by {metric}", ("Method",), columns, tuple(rows), (remark,))


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _signed(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def _range(at: Interval, signed: bool = True) -> str:
    show = _signed if signed else _percent
    return f"{show(at.low)} to {show(at.high)}"


def _p(value: float | None) -> str:
    if value is None:
        return DASH
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def intervals_json(
    records: Sequence[Record], metric: ImageMetric, settings: Settings | None = None
) -> list[dict[str, Any]]:
    """What `interval_table` shows as plain values in [0, 1], an object per method and dataset."""
    matrix = arrange(records)
    found = intervals(records, metric, settings)
    rows = []
    for (method, dataset), cell in matrix.cells.items():
        at = found.get((method, dataset))
        value = measure(cell, metric)
        rows.append(
            {
                "method": method.method,
                "variant": method.variant,
                "title": method.title,
                "options": method.options,
                "dataset": dataset.name,
                "metric": metric,
                "value": value.value if at is None else at.value,
                "low": None if at is None else at.low,
                "high": None if at is None else at.high,
                "notes": list(value.notes),
            }
        )
    return rows


def to_json(
    comparisons: Sequence[Comparison],
    rankings: Mapping[str, Ranking],
    rows: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Everything as plain values, in [0, 1]; `rows` are those of `intervals_json`."""
    return {
        "intervals": list(rows),
        "comparisons": [comparison.to_json() for comparison in comparisons],
        "rankings": {metric: dataclasses.asdict(r) for metric, r in rankings.items()},
    }
