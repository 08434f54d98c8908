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

from .errors import ContractError, ZsadError
from .mask_regions import regions_of

Scores = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]
Fractions = NDArray[np.float64]

_ROWS_AT_A_TIME: Final = 1 << 15
_LOOKED_UP_AT_A_TIME: Final = 1 << 11


class UndefinedMetric(ZsadError, ValueError):
    """The metric has no value on this data; the message is the reason."""


class MetricInputError(ContractError, ValueError):
    """Labels, masks, scores or maps that no metric may be computed from."""


@dataclass(frozen=True)
class Ranks:
    """How the anomalous samples rank among the normal ones: a row per distinct score of them.

    Attributes:
        values: the scores, rising [rows].
        anomalous: anomalous samples with that score [rows].
        overlap: share of the mean per-region overlap that they make [rows], sums to 1; None without
            masks.
        normal_below, normal_equal: normal samples below and at that score [rows].
        n_normal, n_anomalous: all samples.
        unit: what a sample is, for messages.
    """

    values: Scores
    anomalous: Counts
    overlap: Fractions | None
    normal_below: Counts
    normal_equal: Counts
    n_normal: int
    n_anomalous: int
    unit: str

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
        self.require_both_classes()
        assert self.overlap is not None, "ranked without masks"
        return self.overlap


def rank(
    normal_runs: Sequence[Scores],
    anomalous: Scores,
    sizes: NDArray[np.int32] | None = None,
    n_regions: int = 0,
    unit: str = "sample",
) -> Ranks:
    """Look the anomalous scores up among sorted runs of normal ones.

    Args:
        normal_runs: rising arrays; a score may occur in several.
        anomalous: [n_anomalous], in any order.
        sizes: pixels of the region that each anomalous pixel belongs to [n_anomalous].
        n_regions: regions of all images.
        unit: what a sample is, for messages.
    """
    order = np.argsort(anomalous)
    anomalous = anomalous[order]
    is_first = _differs_from_last(anomalous)
    if sizes is not None:
        sizes = _by_size_within_ties(sizes[order], anomalous, is_first)
    del order
    n_anomalous = anomalous.size
    starts = np.flatnonzero(is_first)
    values = anomalous[starts]
    del anomalous, is_first
    overlap = None if sizes is None else _per_region_overlap(sizes, starts, n_regions)
    counts = np.diff(starts, append=n_anomalous)
    del sizes, starts
    below = np.zeros(values.size, np.int64)
    equal = np.zeros(values.size, np.int64)
    for run in normal_runs:
        _count(run, values, below, equal)
    return Ranks(
        values=values,
        anomalous=counts,
        overlap=overlap,
        normal_below=below,
        normal_equal=equal,
        n_normal=sum(run.size for run in normal_runs),
        n_anomalous=n_anomalous,
        unit=unit,
    )


def _count(run: Scores, values: Scores, below: Counts, equal: Counts) -> None:
    """Add to two columns how many values of a sorted run lie below rising scores and at them.

    A few scores at a time are searched in the stretch of the run that they lie in, which takes half
    of the time of a search in all of it. Few are shared; for these alone the other end is searched.
    """
    starts = range(0, values.size, _LOOKED_UP_AT_A_TIME)
    edges = [*np.searchsorted(run, values[starts]), run.size]
    for start, low, high in zip(starts, edges[:-1], edges[1:], strict=True):
        stretch = run[low:high]
        some = values[start : start + _LOOKED_UP_AT_A_TIME]
        left = np.searchsorted(stretch, some)
        below[start : start + some.size] += low + left
        if stretch.size:
            shared = np.flatnonzero(stretch.take(left, mode="clip") == some)
            right = np.searchsorted(stretch, some[shared], side="right")
            equal[start + shared] += right - left[shared]


def _differs_from_last(values: Scores) -> Flags:
    differs = np.ones(values.size, dtype=bool)
    np.not_equal(values[1:], values[:-1], out=differs[1:])
    return differs


def _by_size_within_ties(
    sizes: NDArray[np.int32], values: Scores, is_first: Flags
) -> NDArray[np.int32]:
    """Sizes in an order that no order of images changes, so that rounding does not depend on it."""
    tied = ~is_first
    tied[:-1] |= tied[1:]
    sizes[tied] = sizes[tied][np.lexsort((sizes[tied], values[tied]))]
    return sizes


def _per_region_overlap(
    sizes: NDArray[np.int32], starts: NDArray[np.intp], n_regions: int
) -> Fractions:
    """Share of the pixels from each start to the next; a pixel weighs 1 / its region's size."""
    shares = sizes * float(n_regions)
    np.divide(1.0, shares, out=shares)
    return np.add.reduceat(shares, starts)


def row_slices(n_rows: int) -> list[slice]:
    """Slices of a table: what is computed from a slice at a time takes next to no memory."""
    starts = range(0, n_rows, _ROWS_AT_A_TIME)
    return [slice(start, min(start + _ROWS_AT_A_TIME, n_rows)) for start in starts]


def rank_labelled(labels: ArrayLike, scores: ArrayLike, unit: str = "sample") -> Ranks:
    """The table of labels, 0 or 1, and scores of the same shape; `unit` is what a sample is."""
    flags, values = _checked(labels, scores, ("labels", "scores"))
    normal = values[~flags]
    normal.sort()
    return rank([normal], values[flags], unit=unit)


def rank_maps(masks: ArrayLike, maps: ArrayLike) -> tuple[list[Scores], Ranks]:
    """The normal pixels as sorted arrays, and the table, of masks and maps [N, H, W] or [H, W]."""
    flags, values = checked_maps(masks, maps)
    regions = [regions_of(mask) for mask in flags]
    sizes = np.concatenate([np.empty(0, np.int32), *(one.size_at_pixels() for one in regions)])
    normal = values[~flags]
    normal.sort()
    n_regions = sum(one.sizes.size for one in regions)
    return [normal], rank([normal], values[flags], sizes, n_regions, unit="pixel")


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
