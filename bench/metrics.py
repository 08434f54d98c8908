"""Exact metrics of anomaly detection: AUROC, AP, F1-max and PRO, and the released codes' PRO.

Every distinct score is a threshold and equal scores are one threshold. All metrics read one small
table with a row per distinct score of the *anomalous* samples: how many anomalous samples have it
and how many normal samples lie below it or share it. So only the normal samples, nearly all pixels
of a dataset, are sorted (in place, 4 bytes a pixel), and nothing is binned.

Values are fractions in [0, 1]; a metric that is undefined raises `UndefinedMetric`, or is absent
with its reason in a result object. It is never 0 and never NaN.

>>> labels, scores = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]
>>> auroc(labels, scores), f1_max(labels, scores)
(0.75, 0.8)
>>> mask = [[0, 0, 1], [0, 0, 0], [1, 1, 0]]  # two regions: one pixel, two pixels
>>> anomaly_map = [[0.0, 0.1, 0.9], [0.2, 0.3, 0.1], [0.8, 0.0, 0.0]]
>>> pro(mask, anomaly_map)  # finds all of one region and half of the other before a false alarm
0.75
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from .errors import ContractError, ZsadError

METRIC_VERSION: Final = 1
"""Grows whenever a metric's definition changes, so that records of different definitions differ."""

Scores = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]
Counts = NDArray[np.int64]
Fractions = NDArray[np.float64]

_EIGHT_NEIGHBOURS: Final = np.ones((3, 3), dtype=int)
_SMALLEST_BUFFER: Final = 1 << 16
_ROWS_AT_A_TIME: Final = 1 << 15


class UndefinedMetric(ZsadError, ValueError):
    """The metric has no value on this data; the message is the reason."""


class MetricInputError(ContractError, ValueError):
    """Labels, masks, scores or maps that no metric may be computed from."""


# ------------------------------------------------------------------------------ array functions


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve; equals `sklearn.metrics.roc_auc_score`.

    Args:
        labels: 0 (normal) or 1 (anomalous), any shape.
        scores: same shape, greater is more anomalous. float64 is compared as float64.

    Raises:
        UndefinedMetric: all labels are the same.
        MetricInputError: shapes differ, labels are not 0 or 1, scores are NaN or infinite.
    """
    return _auroc(_rank_labelled(labels, scores))


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision, sum of (R_k - R_(k-1)) P_k; equals scikit-learn's function of that name.

    Arguments and errors as `auroc`.
    """
    return _average_precision(_rank_labelled(labels, scores))


def f1_max(labels: ArrayLike, scores: ArrayLike) -> float:
    """Greatest F1 score, 2PR / (P + R), over all thresholds of the precision-recall curve.

    Arguments and errors as `auroc`.
    """
    return _f1_max(_rank_labelled(labels, scores))


def pro(masks: ArrayLike, maps: ArrayLike, fpr_limit: float = 0.3) -> float:
    """Area under the per-region overlap curve up to a false positive rate, over that rate.

    The curve (mean over all regions of the detected share of a region, against the pooled false
    positive rate) starts at (0, 0), has a point per distinct value of the maps and is linear
    between two of them and at the limit. Regions are 8-connected.
    Source: Bergmann et al., "Uninformed Students", CVPR 2020, and "The MVTec Anomaly Detection
    Dataset", IJCV 2021.

    Args:
        masks: 0 or 1, [N, H, W] or [H, W].
        maps: same shape, greater is more anomalous.
        fpr_limit: where the integration ends, in (0, 1].

    Raises:
        UndefinedMetric: no anomalous or no normal pixel.
        MetricInputError: shapes differ, masks are not 0 or 1, maps are NaN or infinite, or the
            limit is not in (0, 1].
    """
    return _pro(_rank_maps(masks, maps)[1], fpr_limit)


def pro_official200(masks: ArrayLike, maps: ArrayLike) -> float:
    """PRO as the released codes compute it, which the printed tables of the field were made with.

    200 equal steps, rounded to the dtype of the maps, from their least to their greatest value; the
    points with a false positive rate under 0.3 are kept and their rates stretched to [0, 1].
    Source: `cal_pro_score` in the `metrics.py` of AnomalyCLIP (FAPrompt and APRIL-GAN share it),
    which took it from CFLOW-AD. The released codes count normal pixels in float32 and so may be
    off by about 1e-7 of the false positive rate beyond 2**24 of them; this function counts exactly.

    Args:
        masks: 0 or 1, [N, H, W] or [H, W].
        maps: same shape, greater is more anomalous.

    Raises:
        UndefinedMetric: no anomalous or no normal pixel, a constant map, or fewer than two
            different false positive rates under 0.3.
        MetricInputError: as `pro`.
    """
    return _released_pro(*_rank_maps(masks, maps))


@dataclass(frozen=True)
class Curve:
    """A curve against the false positive rate, both rising.

    Attributes:
        fpr: false positive rate [M], in [0, 1].
        hit_rate: [M], the true positive rate (ROC) or the mean overlap of the regions (PRO).
    """

    fpr: Fractions
    hit_rate: Fractions


def roc_curve_points(labels: ArrayLike, scores: ArrayLike, max_points: int = 200) -> Curve:
    """The ROC curve, thinned to points of the exact curve at even distances along it.

    Arguments and errors as `auroc`; the two ends always belong to the at most `max_points` points.
    """
    return _roc_curve(_rank_labelled(labels, scores), max_points)


# ------------------------------------------------------------------------------ result objects


@dataclass(frozen=True)
class _Measured:
    """Metrics by name; None where `undefined` holds a reason."""

    undefined: Mapping[str, str] = field(kw_only=True)

    def defined(self) -> dict[str, float]:
        """The metrics that have a value, by name, in the order of the fields."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "undefined"}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class ImageMetrics(_Measured):
    """Image-level metrics in [0, 1]; one that is None has its reason in `undefined`."""

    image_auroc: float | None
    image_ap: float | None
    image_f1max: float | None


@dataclass(frozen=True)
class PixelMetrics(_Measured):
    """Pixel-level metrics in [0, 1]; one that is None has its reason in `undefined`."""

    pixel_auroc: float | None
    pixel_ap: float | None
    pixel_f1max: float | None
    pixel_pro: float | None
    pixel_pro_official200: float | None


def image_metrics(labels: ArrayLike, scores: ArrayLike) -> ImageMetrics:
    """All image-level metrics of one category.

    Args:
        labels: 0 (normal) or 1 (anomalous) [N].
        scores: [N], greater is more anomalous.

    Raises:
        MetricInputError: as `auroc`; undefined metrics do not raise here.
    """
    ranks = _rank_labelled(labels, scores, unit="image")
    values, undefined = _evaluate(
        {
            "image_auroc": lambda: _auroc(ranks),
            "image_ap": lambda: _average_precision(ranks),
            "image_f1max": lambda: _f1_max(ranks),
        }
    )
    return ImageMetrics(**values, undefined=undefined)


def _evaluate(
    formulas: Mapping[str, Callable[[], float]],
) -> tuple[dict[str, float | None], dict[str, str]]:
    values: dict[str, float | None] = dict.fromkeys(formulas)
    undefined = {}
    for name, formula in formulas.items():
        try:
            values[name] = formula()
        except UndefinedMetric as reason:
            undefined[name] = str(reason)
    return values, undefined


# ------------------------------------------------------------------------------ accumulator


class PixelAccumulator:
    """Pixel-level metrics of one category, from batches, in bounded memory.

    Maps are kept as float32, normal pixels at 4 bytes each and anomalous ones at 8. The result
    depends neither on the order or the batching of the images nor on what was spilled to disk.

    Args:
        budget_bytes: memory for normal pixels (at least 256 KiB are used); what exceeds it goes,
            sorted, to an unnamed temporary file that vanishes with the process.
        spill_dir: folder of that file; the system's temporary folder if None.
    """

    def __init__(self, budget_bytes: int = 1 << 30, spill_dir: str | Path | None = None) -> None:
        if budget_bytes <= 0:
            raise MetricInputError(f"budget_bytes must be positive, not {budget_bytes}")
        self._normal = _NormalPixels(budget_bytes, spill_dir)
        self._anomalous: list[Scores] = []
        self._sizes: list[NDArray[np.int32]] = []
        self._regions = 0
        self._images = 0
        self._ranks: _Ranks | None = None

    def update(self, masks: ArrayLike, maps: ArrayLike) -> None:
        """Add images; a batch that is refused changes nothing.

        Args:
            masks: 0 or 1, [B, H, W] or [H, W]; H and W may differ from update to update.
            maps: same shape, greater is more anomalous.

        Raises:
            MetricInputError: shapes differ, masks are not 0 or 1, or maps are NaN or infinite (in
                float32); images are counted from 0 over all updates.
            ZsadError: the temporary file cannot be written; release the accumulator then.
        """
        flags, values = _checked_maps(masks, maps, first_image=self._images, dtype=np.float32)
        self._ranks = None
        for mask, anomaly_map in zip(flags, values, strict=True):
            self._images += 1
            self._normal.append(anomaly_map[~mask])
            if mask.any():
                sizes, n_regions = _region_sizes(mask)
                self._anomalous.append(anomaly_map[mask])
                self._sizes.append(sizes)
                self._regions += n_regions

    def result(self) -> PixelMetrics:
        """The metrics of all images so far; more may be added afterwards."""
        ranks = self._ranked()
        values, undefined = _evaluate(
            {
                "pixel_auroc": lambda: _auroc(ranks),
                "pixel_ap": lambda: _average_precision(ranks),
                "pixel_f1max": lambda: _f1_max(ranks),
                "pixel_pro": lambda: _pro(ranks, 0.3),
                "pixel_pro_official200": lambda: _released_pro(list(self._normal.runs()), ranks),
            }
        )
        return PixelMetrics(**values, undefined=undefined)

    def roc_curve(self, max_points: int = 200) -> Curve:
        """The pixel-level ROC curve as `roc_curve_points` gives it.

        Raises:
            UndefinedMetric: no anomalous or no normal pixel.
        """
        return _roc_curve(self._ranked(), max_points)

    def pro_curve(self, max_points: int = 200, fpr_limit: float = 0.3) -> Curve:
        """The per-region overlap curve up to `fpr_limit`, thinned as `roc_curve_points` does.

        Raises:
            UndefinedMetric: no anomalous or no normal pixel.
        """
        return _pro_curve(self._ranked(), max_points, fpr_limit)

    def release(self) -> None:
        """Forget all images and give back memory and temporary file."""
        self._normal.release()
        self._anomalous, self._sizes = [], []
        self._regions = self._images = 0
        self._ranks = None

    def __enter__(self) -> PixelAccumulator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _ranked(self) -> _Ranks:
        if self._ranks is None:
            # The pieces are let go, so that they and the whole are never both held for long.
            self._anomalous = [np.concatenate([np.empty(0, np.float32), *self._anomalous])]
            self._sizes = [np.concatenate([np.empty(0, np.int32), *self._sizes])]
            self._ranks = _rank(
                list(self._normal.runs()),
                self._anomalous[0],
                self._sizes[0],
                self._regions,
                unit="pixel",
            )
        return self._ranks


class _NormalPixels:
    """Normal pixels as sorted runs: one in memory, the older ones in a temporary file.

    The buffer grows by `ndarray.resize`, because joining blocks at the end would hold every
    pixel twice; a large reallocation moves memory pages instead of copying them.
    """

    def __init__(self, budget_bytes: int, spill_dir: str | Path | None) -> None:
        self._capacity = max(budget_bytes // 4, _SMALLEST_BUFFER)
        self._spill_dir = spill_dir
        self._file: Any = None
        self.release()

    def append(self, values: Scores) -> None:
        self._sorted = False
        while values.size > self._capacity - self._filled:
            room = self._capacity - self._filled
            self._append_to_buffer(values[:room])
            self._spill()
            values = values[room:]
        self._append_to_buffer(values)

    def runs(self) -> Iterator[Scores]:
        """Sorted arrays that hold every pixel once; valid until the next `append`."""
        offset = 0
        for length in self._spilled:
            yield np.memmap(self._file, np.float32, mode="r", offset=offset, shape=(length,))
            offset += 4 * length
        if self._filled:
            yield self._sorted_buffer()

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None
        self._spilled: list[int] = []
        self._buffer = np.empty(0, np.float32)
        self._filled = 0
        self._sorted = False

    def _append_to_buffer(self, values: Scores) -> None:
        end = self._filled + values.size
        if end > self._buffer.size:
            grown = max(end, self._buffer.size * 17 // 16)
            self._buffer.resize(min(grown, self._capacity), refcheck=False)
        self._buffer[self._filled : end] = values
        self._filled = end

    def _sorted_buffer(self) -> Scores:
        run = self._buffer[: self._filled]
        if not self._sorted:
            run.sort()
            self._sorted = True
        return run

    def _spill(self) -> None:
        run = self._sorted_buffer()
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._spill_dir)  # noqa: SIM115
            self._file.write(run.data)
            self._file.flush()
        except OSError as error:
            folder = self._spill_dir or tempfile.gettempdir()
            raise ZsadError(
                f"cannot spill normal pixels to '{folder}' ({error}): "
                "name another spill_dir or raise budget_bytes"
            ) from error
        self._spilled.append(run.size)
        self._filled = 0
        self._sorted = False


# ------------------------------------------------------------------------------ rank table


@dataclass(frozen=True)
class _Ranks:
    """Where the anomalous samples stand among the normal ones: a row per distinct score of them.

    Attributes:
        values: the scores, rising [K].
        anomalous: anomalous samples with that score [K].
        overlap: share of the mean region overlap that they make [K], sums to 1; None without masks.
        normal_below, normal_equal: normal samples below and at that score [K].
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
        if not self.n_normal and not self.n_anomalous:
            raise UndefinedMetric(f"there is no {self.unit}")
        if not self.n_anomalous:
            raise UndefinedMetric(f"there is no anomalous {self.unit}")
        if not self.n_normal:
            raise UndefinedMetric(f"there is no normal {self.unit}")

    def region_overlap(self) -> Fractions:
        self.require_both_classes()
        assert self.overlap is not None, "ranked without masks"
        return self.overlap


def _rank(
    normal_runs: Sequence[Scores],
    anomalous: Scores,
    sizes: NDArray[np.int32] | None = None,
    n_regions: int = 0,
    unit: str = "sample",
) -> _Ranks:
    """Look the anomalous scores up among sorted runs of normal ones.

    Args:
        normal_runs: rising arrays; a score may occur in several.
        anomalous: [A], in any order.
        sizes: pixels of the region that each anomalous pixel belongs to [A].
        n_regions: regions of all images.
        unit: what a sample is, for messages.
    """
    if sizes is None:
        anomalous = np.sort(anomalous)
        is_first = _differs_from_last(anomalous)
    else:
        order = np.argsort(anomalous)
        anomalous = anomalous[order]
        is_first = _differs_from_last(anomalous)
        sizes = _by_size_within_ties(sizes[order], anomalous, is_first)
        del order
    n_anomalous = anomalous.size
    starts = np.flatnonzero(is_first)
    values = anomalous[starts]
    del anomalous, is_first
    overlap = None if sizes is None else _overlap(sizes, starts, n_regions)
    counts = np.diff(starts, append=n_anomalous)
    del sizes, starts
    below = np.zeros(values.size, np.int64)
    equal = np.zeros(values.size, np.int64)
    for run in normal_runs:
        for rows in _row_slices(values.size):
            left = np.searchsorted(run, values[rows], side="left")
            below[rows] += left
            equal[rows] += np.searchsorted(run, values[rows], side="right") - left
    return _Ranks(
        values=values,
        anomalous=counts,
        overlap=overlap,
        normal_below=below,
        normal_equal=equal,
        n_normal=sum(run.size for run in normal_runs),
        n_anomalous=n_anomalous,
        unit=unit,
    )


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


def _overlap(sizes: NDArray[np.int32], starts: NDArray[np.intp], n_regions: int) -> Fractions:
    """Mean overlap that the pixels from each start to the next make; each weighs 1 / its region."""
    shares = sizes * float(n_regions)
    np.divide(1.0, shares, out=shares)
    return np.add.reduceat(shares, starts)


def _row_slices(n_rows: int) -> list[slice]:
    """Slices of a table: what is computed from a slice at a time takes next to no memory."""
    starts = range(0, n_rows, _ROWS_AT_A_TIME)
    return [slice(start, min(start + _ROWS_AT_A_TIME, n_rows)) for start in starts]


def _rank_labelled(labels: ArrayLike, scores: ArrayLike, unit: str = "sample") -> _Ranks:
    flags, values = _checked(labels, scores, ("labels", "scores"))
    normal = values[~flags]
    normal.sort()
    return _rank([normal], values[flags], unit=unit)


def _rank_maps(masks: ArrayLike, maps: ArrayLike) -> tuple[list[Scores], _Ranks]:
    flags, values = _checked_maps(masks, maps)
    regions = [_region_sizes(mask) for mask in flags]
    sizes = np.concatenate([np.empty(0, np.int32), *(sizes for sizes, _ in regions)])
    normal = values[~flags]
    normal.sort()
    n_regions = sum(n for _, n in regions)
    return [normal], _rank([normal], values[flags], sizes, n_regions, unit="pixel")


def _region_sizes(mask: Flags) -> tuple[NDArray[np.int32], int]:
    """Size of the region of each anomalous pixel in row-major order [A], and number of regions."""
    regions, n_regions = ndimage.label(mask, structure=_EIGHT_NEIGHBOURS)
    of_pixel = regions[mask]
    return np.bincount(of_pixel).astype(np.int32)[of_pixel], int(n_regions)


# ------------------------------------------------------------------------------ formulas


def _auroc(ranks: _Ranks) -> float:
    ranks.require_both_classes()
    return _area(ranks, ranks.anomalous, fpr_limit=1.0) / ranks.n_anomalous


def _pro(ranks: _Ranks, fpr_limit: float) -> float:
    _check_limit(fpr_limit)
    return _area(ranks, ranks.region_overlap(), fpr_limit)


def _area(ranks: _Ranks, rise: Fractions | Counts, fpr_limit: float) -> float:
    """Area under the curve up to the limit, over the limit.

    The area is summed in horizontal slices: a score at which the curve rises by `rise` adds a
    slice from there to the limit. Where normal samples share the score the curve is a slope and
    the slice has its mean length; the slope that crosses the limit adds a triangle.

    Args:
        ranks: the table.
        rise: how much the curve rises at each score [K].
        fpr_limit: in (0, 1].
    """
    limit = fpr_limit * ranks.n_normal  # lengths are counted in normal samples
    area = 0.0
    for rows in _row_slices(rise.size):
        slope_end = ranks.n_normal - ranks.normal_below[rows]
        slope_length = ranks.normal_equal[rows]
        slope_start = slope_end - slope_length
        whole = limit - (slope_start + slope_end) / 2
        cut = np.maximum(limit - slope_start, 0.0) ** 2 / (2 * np.maximum(slope_length, 1))
        area += float(np.sum(rise[rows] * np.where(slope_end <= limit, whole, cut)))
    return area / limit


def _average_precision(ranks: _Ranks) -> float:
    ranks.require_both_classes()
    sums = (float(np.sum(new * (found / reported))) for new, found, reported in _falling(ranks))
    return sum(sums) / ranks.n_anomalous


def _f1_max(ranks: _Ranks) -> float:
    ranks.require_both_classes()
    return max(
        float(np.max(2 * found / (reported + ranks.n_anomalous)))
        for _, found, reported in _falling(ranks)
    )


def _falling(ranks: _Ranks) -> Iterator[tuple[Counts, Counts, Counts]]:
    """Slices of thresholds from the greatest down: anomalous samples at each, those found, all."""
    before = 0
    for rows in reversed(_row_slices(ranks.values.size)):
        new = ranks.anomalous[rows][::-1]
        found = before + np.cumsum(new)
        before = int(found[-1])
        yield new, found, found + (ranks.n_normal - ranks.normal_below[rows][::-1])


def _released_pro(
    normal_runs: Sequence[Scores], ranks: _Ranks, steps: int = 200, fpr_limit: float = 0.3
) -> float:
    """`cal_pro_score` of the released codes, by looking its thresholds up in the sorted pixels."""
    overlap = ranks.region_overlap()
    # NumPy scalars of the maps' dtype: the released step is rounded to it.
    low = min(ranks.values[0], *(run[0] for run in normal_runs if run.size))
    high = max(ranks.values[-1], *(run[-1] for run in normal_runs if run.size))
    with np.errstate(over="ignore"):
        step = (high - low) / steps
    if not step > 0:
        raise UndefinedMetric("all maps have one and the same value, so there are no thresholds")
    if np.isinf(step):
        raise UndefinedMetric(f"the maps span more than {step.dtype} holds, so there are no steps")
    thresholds = _rounded_down(np.arange(low, high, step), ranks.values.dtype)
    edges = [*np.searchsorted(ranks.values, thresholds, side="right"), ranks.values.size]
    between = [overlap[start:end].sum() for start, end in pairwise(edges)]
    hit_rate = np.cumsum(between[::-1])[::-1]
    alarms = np.zeros(thresholds.size, np.int64)
    for run in normal_runs:
        alarms += run.size - np.searchsorted(run, thresholds, side="right")
    fpr = alarms / ranks.n_normal
    kept = fpr < fpr_limit
    if np.unique(fpr[kept]).size < 2:
        raise UndefinedMetric(
            f"fewer than two different false positive rates under {fpr_limit} "
            f"at the {steps} thresholds"
        )
    fpr, hit_rate = fpr[kept], hit_rate[kept]
    fpr = (fpr - fpr.min()) / (fpr.max() - fpr.min())
    return float(np.sum((fpr[:-1] - fpr[1:]) * (hit_rate[:-1] + hit_rate[1:]))) / 2


def _rounded_down(thresholds: Fractions, dtype: np.dtype[Any]) -> Scores:
    """The greatest values of the maps' dtype that are not above the thresholds.

    NumPy makes float64 thresholds from float32 ends; a float32 score exceeds one of them exactly
    if it exceeds the rounded one. Sorted scores then need no float64 copy to be searched.
    """
    rounded = thresholds.astype(dtype)
    too_great = rounded > thresholds
    rounded[too_great] = np.nextafter(rounded[too_great], dtype.type(-np.inf))
    return rounded


def _roc_curve(ranks: _Ranks, max_points: int) -> Curve:
    ranks.require_both_classes()
    return _thinned(_corners(ranks, ranks.anomalous, ranks.n_anomalous), max_points, 1.0)


def _pro_curve(ranks: _Ranks, max_points: int, fpr_limit: float) -> Curve:
    _check_limit(fpr_limit)
    return _thinned(_corners(ranks, ranks.region_overlap(), 1.0), max_points, fpr_limit)


def _corners(ranks: _Ranks, rise: Fractions | Counts, top: float) -> Iterator[Curve]:
    """Corners of the exact curve from (0, 0) to (1, 1), in pieces; `rise` [K] sums to `top`."""
    yield Curve(np.zeros(1), np.zeros(1))
    height = rise[:0].sum()
    for rows in reversed(_row_slices(rise.size)):
        heights = np.append(height, height + np.cumsum(rise[rows][::-1]))
        height = heights[-1]
        at_least = (ranks.n_normal - ranks.normal_below[rows])[::-1]
        above = at_least - ranks.normal_equal[rows][::-1]
        fpr = np.stack([above, at_least], axis=1).ravel() / ranks.n_normal
        hit_rate = np.stack([heights[:-1], heights[1:]], axis=1).ravel() / top
        yield Curve(fpr, np.minimum(hit_rate, 1.0))
    yield Curve(np.ones(1), np.ones(1))


def _thinned(pieces: Iterable[Curve], max_points: int, fpr_limit: float) -> Curve:
    """The start, the first corner in each of equal stretches of the curve, and its end.

    Distance along the curve is fpr + hit_rate; the end is interpolated at the limit.
    """
    if max_points < 2:
        raise MetricInputError(f"max_points must be at least 2, not {max_points}")
    stops = np.linspace(0.0, fpr_limit + 1.0, max_points - 1)
    points: list[tuple[float, float]] = []
    last, stretch = (0.0, 0.0), 0
    for piece in pieces:
        corners = np.stack([piece.fpr, piece.hit_rate], axis=1)
        within = corners[: np.searchsorted(piece.fpr, fpr_limit, side="right")]
        if len(within):
            stretches = np.searchsorted(stops, within.sum(axis=1), side="right")
            is_first = np.diff(stretches, prepend=stretch) > 0
            points += [(float(x), float(y)) for x, y in within[is_first]]
            last, stretch = (float(within[-1, 0]), float(within[-1, 1])), int(stretches[-1])
        if len(within) < len(corners):
            beyond = corners[len(within)]
            share = (fpr_limit - last[0]) / (beyond[0] - last[0])
            last = (fpr_limit, float(last[1] + share * (beyond[1] - last[1])))
            break
    if points[-1] != last:
        points.append(last)
    fpr, hit_rate = np.array(points).T
    return Curve(fpr, hit_rate)


# ------------------------------------------------------------------------------ input checks


def _check_limit(fpr_limit: float) -> None:
    if not 0 < fpr_limit <= 1:
        raise MetricInputError(f"fpr_limit must lie in (0, 1], not {fpr_limit}")


def _checked_maps(
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
