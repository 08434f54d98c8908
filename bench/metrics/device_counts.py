"""The counts of a category's pixels that lie on a device: its metrics' table and thinned curves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from .device_runs import DeviceRuns, again_on_host
from .formulas import check_limit
from .mask_regions import Regions
from .ranks import Counts, Overlaps, Ranks, Scores, mean_overlaps
from .thinned_curve import Corners, Curve, thinned

_ROWS_AT_A_TIME: Final = 1 << 22  # that are searched for, with 16 bytes each
_WHOLE: Final = 2.0**62  # the mean overlap of all regions in the units in which it is summed


@dataclass(frozen=True)
class _Table:
    """The columns of `Ranks` that curves are thinned from, on the device.

    Attributes:
        edges: where each distinct score begins among rising anomalous pixels, and where the last
            ends [rows + 1].
        normal_below, normal_equal: [rows].
        regions: of each anomalous pixel, in the order of rising scores [pixels].
    """

    edges: Tensor
    normal_below: Tensor
    normal_equal: Tensor
    regions: Tensor

    def on_host(self) -> _Table:
        """The same, out of the device's memory."""
        return _Table(*(column.cpu() for column in vars(self).values()))


class DeviceCounts:
    """The counts of pixels that lie on a device, or have left it; see `PixelCounts`.

    The table stays there for the curves, with 24 bytes a row and 4 an anomalous pixel.

    Args:
        normal: pixels of images with regions.
        normal_images: the pixels of the other images.
        anomalous: [pixels], in any order.
        regions: that they belong to, in the same order.
        n_image_sizes: how many different numbers of pixels images without regions have.
    """

    def __init__(
        self,
        normal: DeviceRuns,
        normal_images: DeviceRuns,
        anomalous: Tensor,
        regions: Regions,
        n_image_sizes: int,
    ) -> None:
        self._normal, self._normal_images = normal, normal_images
        self._anomalous, self.regions = anomalous, regions
        self._n_image_sizes = n_image_sizes
        self._known: tuple[Ranks, _Table] | None = None
        self.left = False

    def leave(self) -> None:
        """Go on from the host, with all pixels."""
        self.left = True
        self._anomalous = self._anomalous.cpu()
        self._normal.leave()
        self._normal_images.leave()
        if self._known is not None:
            ranks, table = self._known
            self._known = ranks, table.on_host()

    @property
    def ranks(self) -> Ranks:
        """The table, on the host."""
        return self._tables()[0]

    def _tables(self) -> tuple[Ranks, _Table]:
        """The table on the host, and what of it stays on the device."""
        if self._known is None:
            self._known = again_on_host(self._ranked, self)
        return self._known

    def _ranked(self) -> tuple[Ranks, _Table]:
        numbers = torch.from_numpy(self.regions.of_pixel).to(self._anomalous.device)
        rising, order = self._anomalous.sort()
        numbers = numbers[order]
        differs = torch.ones(len(rising) + 1, dtype=torch.bool, device=rising.device)
        differs[1:-1] = rising[1:] != rising[:-1]
        edges = differs.nonzero().flatten()
        values = rising[edges[:-1]]
        del rising, order, differs
        below, equal = _looked_up(values, self._normal)
        below_images, equal_images = _looked_up(values, self._normal_images)
        n_images = len(self._normal_images)
        ends = _host(edges)
        shares = mean_overlaps(self.regions, _host(numbers), ends)
        alarms = _host(n_images - below_images)
        table = _Table(edges, below.add_(below_images), equal.add_(equal_images), numbers)
        ranks = Ranks(
            values=_host(values),
            anomalous=ends[1:] - ends[:-1],
            normal_below=_host(table.normal_below),
            normal_equal=_host(table.normal_equal),
            n_normal=len(self._normal) + n_images,
            n_anomalous=len(self._anomalous),
            unit="pixel",
            overlaps=Overlaps(*shares, alarms, n_images, self._n_image_sizes),
        )
        return ranks, table

    def roc_curve(self, max_points: int) -> Curve:
        """The ROC curve, thinned on the device."""

        def curve() -> Curve:
            ranks, table = self._tables()
            ranks.require_both_classes()
            corners = _corners(table, table.edges, ranks.n_normal)
            return thinned(corners, max_points, 1.0)

        return again_on_host(curve, self)

    def pro_curve(self, max_points: int, fpr_limit: float) -> Curve:
        """The per-region overlap curve up to the limit, thinned on the device.

        Overlaps are summed as integers: sums of floats on a GPU differ from run to run.
        """
        check_limit(fpr_limit)

        def curve() -> Curve:
            ranks, table = self._tables()
            ranks.require_both_classes()
            sizes = self.regions.sizes.astype(np.float64)
            of_regions = np.rint(_WHOLE / (sizes * sizes.size)).astype(np.int64)
            weights = torch.from_numpy(of_regions).to(table.regions.device)[table.regions]
            sums = torch.cat([weights.new_zeros(1), weights.cumsum(0)])[table.edges]
            return thinned(_corners(table, sums, ranks.n_normal), max_points, fpr_limit)

        return again_on_host(curve, self)

    def normal_range(self) -> tuple[np.floating[Any], np.floating[Any]] | None:
        """The least and the greatest normal pixel."""
        ends = [(float(run[0]), float(run[-1])) for run in self._runs()]
        if not ends:
            return None
        return np.float32(min(ends)[0]), np.float32(max(end for _, end in ends))

    def normal_above(self, thresholds: Scores) -> Counts:
        """Normal pixels greater than each threshold."""

        def count() -> Counts:
            above = np.zeros(thresholds.size, np.int64)
            wanted = torch.from_numpy(np.ascontiguousarray(thresholds))
            for run in self._runs():
                found = torch.searchsorted(run, wanted.to(run.device), right=True)
                above += len(run) - _host(found)
            return above

        return again_on_host(count, self)

    def found_in_regions(self, threshold: np.floating[Any]) -> Counts:
        """Pixels of each region that are at least the threshold [regions]."""
        marked = again_on_host(lambda: _host(self._anomalous >= float(threshold)), self)
        found = self.regions.of_pixel[marked]
        return np.bincount(found, minlength=self.regions.sizes.size).astype(np.int64)

    def _runs(self) -> Iterator[Tensor]:
        yield from self._normal.where_they_lie()
        yield from self._normal_images.where_they_lie()


def _corners(table: _Table, sums: Tensor, n_normal: int) -> Corners:
    """Corners of a curve that the anomalous pixels raise by `sums` up to each edge [rows + 1]."""
    heights = (sums[-1] - sums).flip(0).to(torch.float64)
    return Corners(
        heights,
        table.normal_below,
        table.normal_equal,
        n_normal,
        library=torch,
        placed=lambda places: torch.from_numpy(places).to(heights.device),
    )


def _looked_up(values: Tensor, runs: DeviceRuns) -> tuple[Tensor, Tensor]:
    """How many pixels lie below and at each of some rising values [rows]."""
    below = torch.zeros(len(values), dtype=torch.int64, device=values.device)
    until = torch.zeros_like(below)
    for run in runs.on_device(values.device):
        for start in range(0, len(values), _ROWS_AT_A_TIME):
            rows = slice(start, start + _ROWS_AT_A_TIME)
            below[rows] += torch.searchsorted(run, values[rows])
            until[rows] += torch.searchsorted(run, values[rows], right=True)
    return below, until.sub_(below)


def _host(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()
