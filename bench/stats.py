"""How sure a difference is: bootstrap over images, tests over datasets, average ranks.

Everything takes arrays and numbers, knows no records, and is seeded. Bootstrap replicates of AUROC
and AP are computed for all replicates at once, from the weights that a resample gives each image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import UsageError, ZsadError
from .records import output_file

if TYPE_CHECKING:
    from types import ModuleType

Floats = NDArray[np.float64]
Resampling = Literal["stratified", "plain"]
ImageMetric = Literal["image_auroc", "image_ap"]
RESAMPLINGS = ("stratified", "plain")
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
    """

    names: tuple[str, ...]
    ranks: tuple[float, ...]
    n_datasets: int
    friedman_p: float
    nemenyi: tuple[tuple[float, ...], ...]
    critical_difference: float
    alpha: float


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
    metric: ImageMetric,
    replicates: int = 2000,
    seed: int = 0,
    resampling: Resampling = "stratified",
) -> tuple[Floats, Floats]:
    """A metric's mean over categories, on the images as they are and on resampled ones.

    Images are drawn with replacement within each category, the same ones for all S rows of scores,
    so that rows can be compared pair by pair. Stratified draws as many normal and as many anomalous
    images as there are; plain draws from all, and a replicate without one of the two is left out.

    Args:
        categories: each with both labels and the same number S of rows.
        metric: image_auroc or image_ap.
        replicates: how many resamples R.
        seed: of the resampling.
        resampling: stratified or plain.

    Returns:
        values [S] and replicates [S, R'], R' <= R.

    Raises:
        StatsError: no category, or one without both labels.
        UsageError: an unknown resampling or too few replicates.
    """
    if resampling not in RESAMPLINGS:
        raise UsageError(f"resampling is stratified or plain, not '{resampling}'")
    if replicates < 1:
        raise UsageError(f"bootstrap needs at least one replicate, not {replicates}")
    if not categories or not all(category.has_both for category in categories):
        raise StatsError("a bootstrap needs normal and anomalous images in every category")
    generator = np.random.default_rng(seed)
    values, replicated = [], []
    for category in categories:
        ones = np.ones((1, len(category.labels)))
        values.append([_weighted(metric, category.labels, row, ones)[0] for row in category.scores])
        parts = [
            [_weighted(metric, category.labels, row, weights) for row in category.scores]
            for weights in _resamples(category.labels, replicates, generator, resampling)
        ]
        replicated.append(np.concatenate(parts, axis=1))
    means = np.mean(replicated, axis=0)
    return np.mean(values, axis=0), means[:, np.isfinite(means).all(axis=0)]


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
    corrected = [0.0] * len(p_values)
    greatest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = greatest
    return corrected


def rank_methods(values: Mapping[str, Sequence[float]], alpha: float = 0.05) -> Ranking:
    """Friedman's test and Nemenyi's post-hoc test over datasets.

    Source: Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006.

    Args:
        values: method -> its metric on the same datasets in the same order, greater is better.
        alpha: level of the critical difference.

    Raises:
        StatsError: fewer than three methods or two datasets, or scikit-posthocs is missing.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    posthocs = _posthocs()
    if len(values) < MIN_FOR_RANKS:
        raise StatsError(f"ranks need at least three methods, there are {len(values)}")
    table = np.asarray([list(row) for row in values.values()], dtype=np.float64).T
    n_datasets, n_methods = table.shape
    if n_datasets < 2:
        raise StatsError(f"ranks need at least two datasets that all methods have: {n_datasets}")
    average = rankdata(-table, axis=1).mean(axis=0)
    all_tied = not np.ptp(table, axis=1).any()  # then Friedman's statistic is 0/0
    friedman_p = 1.0 if all_tied else float(friedmanchisquare(*table.T).pvalue)
    nemenyi = posthocs.posthoc_nemenyi_friedman(table).to_numpy()
    quantile = studentized_range.ppf(1 - alpha, n_methods, np.inf) / math.sqrt(2)
    distance = quantile * math.sqrt(n_methods * (n_methods + 1) / (6 * n_datasets))
    names = list(values)
    order = sorted(range(n_methods), key=lambda i: (average[i], names[i]))
    return Ranking(
        tuple(names[i] for i in order),
        tuple(float(average[i]) for i in order),
        n_datasets,
        friedman_p,
        tuple(tuple(float(nemenyi[i, j]) for j in order) for i in order),
        float(distance),
        alpha,
    )


def draw_critical_difference(ranking: Ranking, path: Path, title: str = "") -> None:
    """Write the critical-difference diagram (PNG, PDF or SVG, by the suffix).

    Raises:
        StatsError: scikit-posthocs is missing, or the file's suffix is not a kind of picture.
        RecordError: the file cannot be written.
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


def _posthocs() -> ModuleType:
    try:
        import scikit_posthocs
    except ImportError as error:
        raise StatsError(
            "ranks need scikit-posthocs: pip install 'zsad[stats]' (the extra 'stats')"
        ) from error
    found: ModuleType = scikit_posthocs
    return found


def _resamples(
    labels: NDArray[np.bool_],
    replicates: int,
    generator: np.random.Generator,
    resampling: Resampling,
) -> Iterator[Floats]:
    """How often each image is drawn [r, N], in chunks of r replicates.

    Each group draws from a stream of its own, so that the size of the chunks changes nothing.
    """
    size = max(CHUNK // len(labels), 1)
    groups = [labels, ~labels] if resampling == "stratified" else [np.ones_like(labels)]
    streams = generator.spawn(len(groups))
    for start in range(0, replicates, size):
        count = min(size, replicates - start)
        weights = np.zeros((count, len(labels)))
        for group, stream in zip(groups, streams, strict=True):
            members = int(group.sum())
            weights[:, group] = stream.multinomial(members, np.full(members, 1 / members), count)
        yield weights


def _weighted(metric: ImageMetric, labels: NDArray[np.bool_], scores: Floats, w: Floats) -> Floats:
    """A metric of weighted images for each row of weights [R, N]; NaN without both labels."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    weights, flags = w[:, order], labels[order]
    anomalous = np.add.reduceat(weights * flags, starts, axis=1)  # [R, distinct scores]
    normal = np.add.reduceat(weights * ~flags, starts, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        if metric == "image_auroc":
            below = np.cumsum(normal, axis=1) - normal
            wins = (anomalous * (below + normal / 2)).sum(axis=1)
            return np.asarray(wins / (anomalous.sum(axis=1) * normal.sum(axis=1)))
        hits = np.cumsum(anomalous[:, ::-1], axis=1)
        reported = hits + np.cumsum(normal[:, ::-1], axis=1)
        precision = np.divide(hits, reported, out=np.zeros_like(hits), where=reported > 0)
        gained = (anomalous[:, ::-1] * precision).sum(axis=1) / anomalous.sum(axis=1)
        # AP exists without normal images, but no comparison of methods does.
        return np.where(normal.sum(axis=1) > 0, gained, np.nan)
