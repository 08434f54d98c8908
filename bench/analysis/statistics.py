"""How sure a difference is: bootstrap over images, tests over datasets, average ranks.

Everything takes arrays and numbers, knows no records, and is seeded. Bootstrap replicates of AUROC
and AP are computed for all replicates at once, from the weights that a resample gives each image.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import UsageError, ZsadError
from ..files import output_file

Floats = NDArray[np.float64]
Resampling = Literal["stratified", "plain"]
ImageMetric = Literal["image_auroc", "image_ap"]
RESAMPLED: tuple[ImageMetric, ...] = get_args(ImageMetric)  # metrics that have intervals
RESAMPLINGS: tuple[Resampling, ...] = get_args(Resampling)
CHUNK = 4_000_000  # weights held at once, 8 bytes each
MIN_FOR_RANKS = 3


class StatsError(ZsadError):
    """A test cannot be made: too few methods or datasets, or a package is missing."""


@dataclass(frozen=True)
class Interval:
    """A percentile interval of bootstrap replicates.

    Attributes:
        value: on the images as they are.
        low, high: ends of the interval.
        level: share of the replicates inside, such as 0.95.
    """

    value: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class PairedTest:
    """A difference a - b with its interval and its two-sided p-value."""

    difference: Interval
    p: float


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test over datasets.

    Attributes:
        n: datasets that differ.
        statistic: the smaller sum of ranks.
        p: two-sided, exact for few datasets.
    """

    n: int
    statistic: float
    p: float


@dataclass(frozen=True)
class Ranking:
    """Methods ranked on every dataset, 1 is best, ties share.

    Attributes:
        names: methods, best average rank first.
        ranks: average ranks in that order.
        n_datasets: datasets that all methods have.
        friedman_p: that all methods are equal.
        nemenyi: p-values of all pairs, in the order of `names`.
        critical_difference: average ranks further apart differ at level alpha.
        alpha: of the critical difference.
        left_out: datasets that do not count, each with the reason.
    """

    names: tuple[str, ...]
    ranks: tuple[float, ...]
    n_datasets: int
    friedman_p: float
    nemenyi: tuple[tuple[float, ...], ...]
    critical_difference: float
    alpha: float
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sampled:
    """Images of one category: labels [N], and scores [S, N] of S methods or seeds."""

    labels: NDArray[np.bool_]
    scores: Floats

    @classmethod
    def of(cls, labels: ArrayLike, scores: Sequence[ArrayLike]) -> Sampled:
        """From plain sequences.

        Raises:
            StatsError: lengths differ, or a score is not finite.
        """
        flags = np.asarray(labels).astype(bool)
        values = np.asarray([np.asarray(row, dtype=np.float64) for row in scores])
        if flags.ndim != 1 or values.ndim != 2 or values.shape[1] != len(flags):
            raise StatsError("labels and scores differ in length")
        if not np.isfinite(values).all():
            raise StatsError("a score is NaN or infinite")
        return cls(flags, values)

    @property
    def has_both(self) -> bool:
        """Normal and anomalous images exist, so that metrics do."""
        return bool(self.labels.any() and not self.labels.all())


def bootstrap(
    categories: Sequence[Sampled],
    metrics: Sequence[ImageMetric],
    replicates: int = 2000,
    seed: int = 0,
    resampling: Resampling = "stratified",
) -> dict[ImageMetric, tuple[Floats, Floats]]:
    """Metrics' means over categories, on the images as they are and on resampled ones.

    Images are drawn with replacement within each category, the same ones for all metrics and all S
    rows of scores, so that rows can be compared pair by pair. Stratified draws as many normal and
    as many anomalous images as there are; plain draws from all, and a replicate without one of the
    two is left out.

    Args:
        categories: each with both labels and the same number S of rows.
        metrics: image_auroc, image_ap.
        replicates: how many resamples R.
        seed: of the resampling.
        resampling: stratified or plain.

    Returns:
        metric -> values [S] and replicates [S, R'], R' <= R.

    Raises:
        StatsError: no category, or one without both labels.
        UsageError: an unknown resampling or too few replicates.
    """
    _check_bootstrap(categories, replicates, resampling)
    generator = np.random.default_rng(seed)
    rows = len(categories[0].scores)
    values = {metric: np.empty((len(categories), rows)) for metric in metrics}
    sums = {metric: np.zeros((rows, replicates)) for metric in metrics}
    for number, category in enumerate(categories):
        for part, weights in _resamples(category.labels, replicates, generator, resampling):
            for row, scores in enumerate(category.scores):
                weighed = _by_score(category.labels, scores, weights)
                for metric in metrics:
                    found = _metric(metric, *weighed)
                    values[metric][number, row] = found[0]
                    sums[metric][row, part] += found[1:]
    means = {metric: total / len(categories) for metric, total in sums.items()}
    return {
        metric: (values[metric].mean(axis=0), mean[:, np.isfinite(mean).all(axis=0)])
        for metric, mean in means.items()
    }


def _check_bootstrap(
    categories: Sequence[Sampled], replicates: int, resampling: Resampling
) -> None:
    if resampling not in RESAMPLINGS:
        raise UsageError(f"resampling is stratified or plain, not '{resampling}'")
    if replicates < 1:
        raise UsageError(f"bootstrap needs at least one replicate, not {replicates}")
    if not categories or not all(category.has_both for category in categories):
        raise StatsError("a bootstrap needs normal and anomalous images in every category")


def interval(value: float, replicates: Floats, level: float = 0.95) -> Interval:
    """The percentile interval of replicates [R].

    Raises:
        StatsError: there are no replicates.
        UsageError: the level is not within (0, 1).
    """
    if not 0 < level < 1:
        raise UsageError(f"a confidence level lies between 0 and 1, not at {level}")
    if not replicates.size:
        raise StatsError("no resample had normal and anomalous images: use stratified")
    tail = (1 - level) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high), level)


def paired(difference: float, replicates: Floats, level: float = 0.95) -> PairedTest:
    """A difference with its percentile interval, and the two-sided p-value that it is zero.

    p is twice the smaller share of replicates on either side of zero, where the sample itself
    counts as one replicate, so that p is never 0. Source: Davison and Hinkley, "Bootstrap Methods
    and their Application", 1997, section 4.4.
    """
    found = interval(difference, replicates, level)
    below = (1 + np.count_nonzero(replicates <= 0)) / (1 + replicates.size)
    above = (1 + np.count_nonzero(replicates >= 0)) / (1 + replicates.size)
    return PairedTest(found, float(min(1.0, 2 * min(below, above))))


def signed_rank(differences: Sequence[float]) -> SignedRank | None:
    """Wilcoxon's signed-rank test that differences are symmetric about zero.

    Zero differences are left out (Wilcoxon's own treatment); None if nothing is left.
    """
    from scipy.stats import wilcoxon

    nonzero = [d for d in differences if d != 0]
    if not nonzero:
        return None
    result = wilcoxon(nonzero)
    return SignedRank(len(nonzero), float(result.statistic), float(result.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p-values for testing several hypotheses.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    steps = np.arange(len(order), 0, -1) * np.asarray(p_values)[order]
    corrected = np.empty(len(order))
    corrected[order] = np.maximum.accumulate(np.minimum(1.0, steps))
    return [float(p) for p in corrected]


def rank_methods(values: Mapping[str, Sequence[float]], alpha: float = 0.05) -> Ranking:
    """Friedman's test and Nemenyi's post-hoc test over datasets.

    Source: Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006.

    Args:
        values: method -> its metric on the same datasets in the same order, greater is better.
        alpha: level of the critical difference.

    Raises:
        StatsError: fewer than three methods or two datasets, or scikit-posthocs is missing.
    """
    import pandas as pd
    from scipy.stats import friedmanchisquare, studentized_range

    posthocs = _posthocs()
    if len(values) < MIN_FOR_RANKS:
        raise StatsError(f"ranks need at least three methods, there are {len(values)}")
    table = pd.DataFrame(values, dtype=float)
    n_datasets, n_methods = table.shape
    if n_datasets < 2:
        raise StatsError(f"ranks need at least two datasets that all methods have: {n_datasets}")
    average = table.rank(axis=1, ascending=False).mean()
    average = average.sort_index().sort_values(kind="stable")
    all_tied = (table.nunique(axis=1) == 1).all()  # then Friedman's statistic is 0/0
    friedman_p = 1.0 if all_tied else float(friedmanchisquare(*table.to_numpy().T).pvalue)
    nemenyi = posthocs.posthoc_nemenyi_friedman(table).loc[average.index, average.index]
    quantile = studentized_range.ppf(1 - alpha, n_methods, np.inf) / math.sqrt(2)
    distance = quantile * math.sqrt(n_methods * (n_methods + 1) / (6 * n_datasets))
    return Ranking(
        tuple(average.index),
        tuple(average),
        n_datasets,
        friedman_p,
        tuple(nemenyi.itertuples(index=False, name=None)),
        float(distance),
        alpha,
    )


def draw_critical_difference(ranking: Ranking, path: Path, title: str = "") -> None:
    """Write the critical-difference diagram (PNG, PDF or SVG, by the suffix).

    Raises:
        StatsError: scikit-posthocs is missing, or the file's suffix is not a kind of picture.
        FileError: the file cannot be written.
    """
    import pandas as pd

    posthocs = _posthocs()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(ranking.names)
    figure = Figure(figsize=(8, 1 + 0.3 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    posthocs.critical_difference_diagram(
        dict(zip(names, ranking.ranks, strict=True)),
        pd.DataFrame(ranking.nemenyi, index=names, columns=names),
        ax=axes,
        alpha=ranking.alpha,
    )
    distance = f"critical difference {ranking.critical_difference:.2f}"
    axes.set_title(f"{title}: {distance}" if title else distance)
    try:
        with output_file(path) as file:
            figure.savefig(file, format=path.suffix.removeprefix("."))
    except ValueError as error:  # no kind of picture
        raise StatsError(f"cannot write {path} ({error})") from error


def _posthocs() -> Any:
    try:
        return importlib.import_module("scikit_posthocs")
    except ImportError as error:
        raise StatsError(
            "ranks need scikit-posthocs: pip install 'zsad[stats]' (the extra 'stats')"
        ) from error


def _resamples(
    labels: NDArray[np.bool_],
    replicates: int,
    generator: np.random.Generator,
    resampling: Resampling,
) -> Iterator[tuple[slice, Floats]]:
    """Which replicates, and how often each draws each image, in chunks of r replicates.

    Weights [N, 1 + r] begin with a column of the images as they are, once each. Each group draws
    from a stream of its own, so that the size of the chunks changes nothing.
    """
    size = max(CHUNK // len(labels), 1)
    groups = [labels, ~labels] if resampling == "stratified" else [np.ones_like(labels)]
    streams = generator.spawn(len(groups))
    for start in range(0, replicates, size):
        count = min(size, replicates - start)
        weights = np.ones((len(labels), 1 + count))
        for group, stream in zip(groups, streams, strict=True):
            members = int(group.sum())
            drawn = stream.multinomial(members, np.full(members, 1 / members), count)
            weights[group, 1:] = drawn.T
        yield slice(start, start + count), weights


def _by_score(labels: NDArray[np.bool_], scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weights [N, R] of the anomalous and of the normal images, added up by rising score.

    Images come first so that every operation runs over whole rows of replicates: with few images
    in a category, operations along rows of [R, N] take several times as long.

    Returns:
        Two arrays [distinct scores, R].
    """
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    ordered, flags = weights[order], labels[order, None]
    anomalous, normal = ordered * flags, ordered * ~flags
    if len(starts) == len(order):
        return anomalous, normal
    return np.add.reduceat(anomalous, starts, axis=0), np.add.reduceat(normal, starts, axis=0)


def _metric(metric: ImageMetric, anomalous: Floats, normal: Floats) -> Floats:
    """A metric [R] of images whose weights `_by_score` has added up; NaN without both labels."""
    with np.errstate(invalid="ignore", divide="ignore"):
        if metric == "image_auroc":
            below = _running_sum(normal) - normal
            wins = (anomalous * (below + normal / 2)).sum(axis=0)
            return np.asarray(wins / (anomalous.sum(axis=0) * normal.sum(axis=0)))
        hits = _running_sum(anomalous[::-1])
        reported = hits + _running_sum(normal[::-1])
        gains = anomalous[::-1] * (hits / np.maximum(reported, 1))
        gained = _column_sums(gains) / anomalous.sum(axis=0)
        # AP exists without normal images, but no comparison of methods does.
        return np.where(normal.sum(axis=0) > 0, gained, np.nan)


def _running_sum(rows: Floats) -> Floats:
    """Cumulative sums over the first axis of [N, R]; np.cumsum takes ten times as long there."""
    total = np.array(rows)
    for i in range(1, len(total)):
        total[i] += total[i - 1]
    return total


def _column_sums(values: Floats) -> Floats:
    """Sums over the first axis of [N, R], of each column as numpy sums one array."""
    if len(values) < 8:  # numpy adds so few one after the other, along either axis
        return np.asarray(values.sum(axis=0))
    return np.asarray(np.ascontiguousarray(values.T).sum(axis=1))
