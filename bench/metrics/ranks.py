"""How the anomalous samples of a category rank among its normal ones: what all metrics read.

A row for each distinct score of the anomalous samples says how many of them have it and how many
normal samples lie below it or share it. So only the normal samples, nearly all pixels of a dataset,
are sorted, and nothing is binned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ContractError, ZsadError
from .lookup import count, release_pages
from .mask_regions import Indices, Regions

Scores = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]
Fractions = NDArray[np.float64]

_ROWS_AT_A_TIME: Final = 1 << 15


class UndefinedMetric(ZsadError, ValueError):
    """The metric has no value on this data; the message is the reason."""


class MetricInputError(ContractError, ValueError):
    """Labels, masks, scores or maps that no metric may be computed from."""


@dataclass(frozen=True)
class Overlaps:
    """What pixels add to the table: the regions and the images that they belong to.

    Attributes:
        of_regions: share of the mean per-region overlap that the anomalous pixels with a score make
            [rows], sums to 1.
        of_images: share of the mean per-image overlap, over the images that have regions [rows],
            sums to 1.
        alarms: pixels of normal images, those without regions, with at least that score [rows].
        n_in_normal_images: all pixels of normal images.
        n_image_sizes: how many different numbers of pixels normal images have.
    """

    of_regions: Fractions
    of_images: Fractions
    alarms: Counts
    n_in_normal_images: int
    n_image_sizes: int


@dataclass(frozen=True)
class Ranks:
    """How the anomalous samples rank among the normal ones: a row per distinct score of them.

    Attributes:
        values: the scores, rising [rows].
        anomalous: anomalous samples with that score [rows].
        normal_below, normal_equal: normal samples below and at that score [rows].
        n_normal, n_anomalous: all samples.
        unit: what a sample is, for messages.
        overlaps: of pixels; None without masks.
    """

    values: Scores
    anomalous: Counts
    normal_below: Counts
    normal_equal: Counts
    n_normal: int
    n_anomalous: int
    unit: str
    overlaps: Overlaps | None = None

    def require_both_classes(self) -> None:
        """Raise `UndefinedMetric` where there are no normal or no anomalous samples."""
        if not self.n_normal and not self.n_anomalous:
            raise UndefinedMetric(f"there is no {self.unit}")
        if not self.n_anomalous:
            raise UndefinedMetric(f"there is no anomalous {self.unit}")
        if not self.n_normal:
            raise UndefinedMetric(f"there is no normal {self.unit}")

    def per_region_overlap(self) -> Fractions:
        """Share of the mean per-region overlap at each score [rows]."""
        return self.of_pixels().of_regions

    def of_pixels(self) -> Overlaps:
        """What a table of pixels has; raises `UndefinedMetric` where one class is missing."""
        self.require_both_classes()
        assert self.overlaps is not None, "ranked without masks"
        return self.overlaps


@dataclass(frozen=True)
class NormalImages:
    """The pixels of images without regions: rising arrays, and the images' different sizes."""

    runs: Sequence[Scores] = ()
    sizes: frozenset[int] = frozenset()


def rank(
    normal_runs: Sequence[Scores],
    anomalous: Scores,
    regions: Regions | None = None,
    normal_images: NormalImages = NormalImages(),
    unit: str = "sample",
) -> Ranks:
    """Look the anomalous scores up among sorted runs of normal ones.

    Args:
        normal_runs: rising arrays; a score may occur in several.
        anomalous: [n_anomalous], rising.
        regions: that the anomalous pixels belong to, in the same order.
        normal_images: further normal samples, where images without regions are told apart.
        unit: what a sample is, for messages.
    """
    edges = edges_of_rows(anomalous)
    values = anomalous[edges[:-1]]
    below, below_images, equal = _looked_up(values, normal_runs, normal_images.runs)
    n_images = sum(run.size for run in normal_images.runs)
    overlaps = None
    if regions is not None:
        shares = mean_overlaps(regions, regions.of_pixel, edges)
        alarms = np.subtract(n_images, below_images, out=below_images)
        overlaps = Overlaps(*shares, alarms, n_images, len(normal_images.sizes))
    return Ranks(
        values=values,
        anomalous=edges[1:] - edges[:-1],
        normal_below=below,
        normal_equal=equal,
        n_normal=sum(run.size for run in normal_runs) + n_images,
        n_anomalous=anomalous.size,
        unit=unit,
        overlaps=overlaps,
    )


def _looked_up(
    values: Scores, normal_runs: Sequence[Scores], image_runs: Sequence[Scores]
) -> tuple[Counts, Counts, Counts]:
    """Normal scores below each value, those of normal images, and all that equal it [rows]."""
    below, below_images, equal = (np.zeros(values.size, np.int64) for _ in range(3))
    for runs, column in ((image_runs, below_images), (normal_runs, below)):
        for run in runs:
            count(run, values, column, equal)
            release_pages(run)
    below += below_images
    return below, below_images, equal


def edges_of_rows(rising: Scores) -> Counts:
    """Where each distinct score begins among rising ones, and where the last ends [rows + 1]."""
    differs = np.ones(rising.size, dtype=bool)
    np.not_equal(rising[1:], rising[:-1], out=differs[1:])
    return np.append(np.flatnonzero(differs), rising.size)


def mean_overlaps(regions: Regions, numbers: Indices, edges: Counts) -> tuple[Fractions, Fractions]:
    """Shares of the mean overlap of regions, and of images, that each distinct score makes [rows].

    A pixel weighs 1 / the size of its region, or of all regions of its image.

    Args:
        regions: of the anomalous pixels.
        numbers: the region of each pixel, in the order of rising scores [pixels].
        edges: see `edges_of_rows`.
    """
    image_sizes = regions.image_sizes()
    of_region = 1.0 / (regions.sizes.astype(np.float64) * regions.sizes.size)
    of_image = (1.0 / (image_sizes.astype(np.float64) * image_sizes.size))[regions.images]
    sums = np.empty(edges.size - 1), np.empty(edges.size - 1)
    for rows in row_slices(edges.size - 1):
        bounds = edges[rows.start : rows.stop + 1]
        some = numbers[bounds[0] : bounds[-1]].astype(np.intp)
        for weights, found in zip((of_region, of_image), sums, strict=True):
            found[rows] = _sums_of_rows(weights.take(some), bounds - bounds[0])
    return sums


def _sums_of_rows(weights: Fractions, edges: Counts) -> Fractions:
    """Sums of the weights from each edge to the next [rows], of which most are of a single weight.

    Within a row they are put into an order that no order of images changes, so that rounding does
    not depend on it.
    """
    sums = weights.take(edges[:-1])
    lengths = np.diff(edges)
    tied = np.flatnonzero(lengths > 1)
    if tied.size:
        lengths = lengths[tied]
        starts = np.append(0, np.cumsum(lengths)[:-1])
        row = np.repeat(np.arange(tied.size), lengths)
        some = weights[np.arange(row.size) + np.repeat(edges[tied] - starts, lengths)]
        sums[tied] = np.add.reduceat(some[np.lexsort((-some, row))], starts)
    return sums


def row_slices(n_rows: int) -> list[slice]:
    """Slices of a table: what is computed from a slice at a time takes next to no memory."""
    starts = range(0, n_rows, _ROWS_AT_A_TIME)
    return [slice(start, min(start + _ROWS_AT_A_TIME, n_rows)) for start in starts]


def rank_labelled(labels: ArrayLike, scores: ArrayLike, unit: str = "sample") -> Ranks:
    """The table of labels, 0 or 1, and scores of the same shape; `unit` is what a sample is."""
    flags, values = _checked(labels, scores, ("labels", "scores"))
    normal, anomalous = np.sort(values[~flags]), np.sort(values[flags])
    return rank([normal], anomalous, unit=unit)


# ------------------------------------------------------------------------------ input checks


def checked_maps(
    masks: ArrayLike,
    maps: ArrayLike,
    first_image: int = 0,
    dtype: type[np.floating[Any]] | None = None,
) -> tuple[Flags, Scores]:
    """Masks and maps as [N, H, W]; a single image may come as [H, W]."""
    flags, values = _checked(masks, maps, ("masks", "maps"), first_image, dtype)
    if flags.ndim not in (2, 3):
        raise MetricInputError(f"masks and maps must be [N, H, W] or [H, W], not {flags.shape}")
    return (flags, values) if flags.ndim == 3 else (flags[np.newaxis], values[np.newaxis])


def _checked(
    truth: ArrayLike,
    scores: ArrayLike,
    names: tuple[str, str],
    first_image: int = 0,
    dtype: type[np.floating[Any]] | None = None,
) -> tuple[Flags, Scores]:
    """Truth as booleans and scores as finite float32 or float64 of the same shape."""
    flags, values = np.asarray(truth), np.asarray(scores)
    if flags.shape != values.shape:
        raise MetricInputError(
            f"{names[0]} {flags.shape} and {names[1]} {values.shape} must have the same shape"
        )
    return _as_flags(flags, names[0]), _as_finite(values, names[1], first_image, dtype)


def _as_flags(truth: NDArray[Any], name: str) -> Flags:
    if truth.dtype == np.bool_:
        return truth
    flags: Flags = truth != 0
    if not np.array_equal(flags, truth):
        odd = truth[flags != truth].flat[0]
        raise MetricInputError(f"{name} must be 0 or 1, found {odd}: binarise them, as in mask > 0")
    return flags


def _as_finite(
    scores: NDArray[Any], name: str, first_image: int, dtype: type[np.floating[Any]] | None
) -> Scores:
    if dtype is None:
        dtype = np.float32 if scores.dtype in (np.float16, np.float32) else np.float64
    if scores.dtype.kind not in "buif":
        raise MetricInputError(f"{name} are of type {scores.dtype}: give real numbers")
    with np.errstate(over="ignore"):
        values = scores.astype(dtype, copy=False)
    # NaN and infinity survive min and max, which need no array of booleans.
    if values.size and not (np.isfinite(values.min()) and np.isfinite(values.max())):
        raise MetricInputError(_non_finite_message(values, name, first_image))
    return values


def _non_finite_message(values: Scores, name: str, first_image: int) -> str:
    n_nan = int(np.isnan(values).sum())
    n_infinite = int(np.isinf(values).sum())
    parts = [f"{n} {kind}" for n, kind in ((n_nan, "NaN"), (n_infinite, "infinite")) if n]
    message = f"{name} hold {' and '.join(parts)} values"
    if values.ndim in (1, 3):
        bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        message += f", first at index {first_image + int(bad[0])} ({bad.size} of {len(values)})"
    return f"{message}: a method must give finite scores"
