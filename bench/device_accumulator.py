"""The pixels of a category's maps, gathered and ranked on the device that the maps lie on.

The device sorts, searches and counts; what comes to the host is the table of ranks, from which all
metrics are computed as from that of the host's own accumulator, equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .device_runs import DeviceRuns, again_on_host
from .mask_regions import MaskRegions, Regions, regions_of
from .pixel_accumulator import Accumulator
from .ranks import (
    Counts,
    Flags,
    MetricInputError,
    Overlaps,
    Ranks,
    Scores,
    checked_maps,
    mean_overlaps,
)

_ROWS_AT_A_TIME: Final = 1 << 22  # that are searched for, with 16 bytes each


@dataclass(frozen=True)
class _Split:
    """What is kept of some images.

    Attributes:
        images: how many.
        normal_images: the pixels of those without regions.
        normal: the other pixels of those with regions.
        anomalous: the pixels in regions.
        regions: that these belong to, in the same order.
        image_sizes: how many pixels those without regions have.
    """

    images: int
    normal_images: Tensor
    normal: Tensor
    anomalous: Tensor
    regions: Sequence[Regions]
    image_sizes: frozenset[int]


class DeviceAccumulator(Accumulator):
    """`PixelAccumulator` for maps on a device.

    Anomalous pixels, a few percent of all, stay on the device at 4 bytes each. Where memory of the
    device runs out all pixels go to the host, where they are counted likewise.

    Args:
        device: that the maps lie on.
        budget_bytes: of the device, for normal pixels and for sorting them.
        host_bytes: memory of the host for what exceeds that.
        spill_dir: folder of a temporary file for the rest; the system's temporary folder if None.
    """

    def __init__(
        self,
        device: torch.device,
        budget_bytes: int = 1 << 30,
        host_bytes: int = 1 << 30,
        spill_dir: str | Path | None = None,
    ) -> None:
        if budget_bytes <= 0:
            raise MetricInputError(f"budget_bytes must be positive, not {budget_bytes}")
        self._asked = self._device = device
        self._normal = DeviceRuns(budget_bytes // 2, host_bytes // 2, spill_dir)
        self._normal_images = DeviceRuns(budget_bytes // 2, host_bytes // 2, spill_dir)
        self._anomalous: list[Tensor] = []
        self._regions: list[Regions] = []
        self._image_sizes: frozenset[int] = frozenset()
        self._images = 0
        self._counts: DeviceCounts | None = None
        self.left = False

    def update(
        self, masks: ArrayLike, maps: Tensor, regions: Sequence[MaskRegions] | None = None
    ) -> None:
        """Add images; arguments and errors as `PixelAccumulator.update`, the maps on the device."""
        split = again_on_host(lambda: self._split(masks, maps.to(self._device), regions), self)
        self._counts = None
        self._images += split.images
        self._normal_images.append(split.normal_images)
        self._normal.append(split.normal)
        self._anomalous.append(split.anomalous)
        self._regions += split.regions
        self._image_sizes |= split.image_sizes

    def _split(
        self, masks: ArrayLike, maps: Tensor, regions: Sequence[MaskRegions] | None
    ) -> _Split:
        """What is kept of some images; arguments as of `update`."""
        flags = _checked(masks, maps, self._images)
        if regions is None:
            regions = [regions_of(mask) for mask in flags]
        if len(regions) != len(flags):
            raise MetricInputError(f"regions of {len(regions)} masks came with {len(flags)} masks")
        flat = maps.detach().to(torch.float32).reshape(len(flags), -1)
        area = flags[0].size if len(flags) else 0
        with_regions = [i for i, known in enumerate(regions) if known.pixels.size]
        without = [i for i, known in enumerate(regions) if not known.pixels.size]
        chosen = [regions[i] for i in with_regions]
        places = [k * area + one.pixels for k, one in enumerate(chosen)]
        pixels = flat[with_regions].flatten()
        anomalous = torch.from_numpy(np.concatenate([np.empty(0, np.int64), *places]))
        anomalous = anomalous.to(pixels.device)
        is_normal = torch.ones_like(pixels, dtype=torch.bool)
        is_normal[anomalous] = False
        return _Split(
            len(flags),
            flat[without].flatten(),
            pixels[is_normal],
            pixels[anomalous],
            [one.in_image(area) for one in chosen],
            frozenset({area} if without else ()),
        )

    def counts(self) -> DeviceCounts:
        """What the metrics are computed from; valid until the next update."""
        if self._counts is None:
            self._anomalous = [again_on_host(self._joined, self)]
            self._regions = [Regions.joined(self._regions)]
            self._counts = DeviceCounts(
                self._normal,
                self._normal_images,
                self._anomalous[0],
                self._regions[0],
                len(self._image_sizes),
            )
        return self._counts

    def _joined(self) -> Tensor:
        return torch.cat([torch.empty(0, device=self._device), *self._anomalous])

    def leave(self) -> None:
        """Take all pixels to the host, where all go from now on."""
        self.left = True
        self._device = torch.device("cpu")
        self._anomalous = [pixels.cpu() for pixels in self._anomalous]
        self._normal.leave()
        self._normal_images.leave()

    def remarks(self) -> list[str]:
        """See `Accumulator`."""
        parts = (self, self._normal, self._normal_images, self._counts)
        if not any(part is not None and part.left for part in parts):
            return []
        return [
            f"memory of {self._asked} did not hold the pixels of all maps: they were sorted and "
            "counted on the host"
        ]

    def release(self) -> None:
        """Forget all images and give back memory and temporary files."""
        self._normal.release()
        self._normal_images.release()
        self._anomalous, self._regions = [], []
        self._image_sizes = frozenset()
        self._images = 0
        self._counts = None


class DeviceCounts:
    """The counts of pixels that lie on a device, or have left it; see `PixelCounts`.

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
        self.left = False

    def leave(self) -> None:
        """Go on from the host, with all pixels."""
        self.left = True
        self._anomalous = self._anomalous.cpu()
        self._normal.leave()
        self._normal_images.leave()

    @cached_property
    def ranks(self) -> Ranks:
        """The table, on the host."""
        return again_on_host(self._ranks, self)

    def _ranks(self) -> Ranks:
        rising, order = self._anomalous.sort()
        is_first = torch.ones_like(rising, dtype=torch.bool)
        is_first[1:] = rising[1:] != rising[:-1]
        starts = is_first.nonzero().flatten()
        values = rising[starts]
        n_anomalous, n_images = len(rising), len(self._normal_images)
        edges = np.append(_host(starts), n_anomalous)
        shares = mean_overlaps(self.regions, self.regions.of_pixel[_host(order)], edges)
        del rising, order, is_first, starts
        below, equal = _looked_up(values, self._normal)
        below_images, equal_images = _looked_up(values, self._normal_images)
        return Ranks(
            values=_host(values),
            anomalous=edges[1:] - edges[:-1],
            normal_below=below + below_images,
            normal_equal=equal + equal_images,
            n_normal=len(self._normal) + n_images,
            n_anomalous=n_anomalous,
            unit="pixel",
            overlaps=Overlaps(*shares, n_images - below_images, n_images, self._n_image_sizes),
        )

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


def _looked_up(values: Tensor, runs: DeviceRuns) -> tuple[Counts, Counts]:
    """How many pixels lie below and at each of some rising values [rows]."""
    below = torch.zeros(len(values), dtype=torch.int64, device=values.device)
    until = torch.zeros_like(below)
    for run in runs.on_device(values.device):
        for start in range(0, len(values), _ROWS_AT_A_TIME):
            rows = slice(start, start + _ROWS_AT_A_TIME)
            below[rows] += torch.searchsorted(run, values[rows])
            until[rows] += torch.searchsorted(run, values[rows], right=True)
    return _host(below), _host(until - below)


def _checked(masks: ArrayLike, maps: Tensor, first_image: int) -> Flags:
    """Masks as booleans [B, H, W]; errors as `checked_maps` has them."""
    flags = np.asarray(masks)
    fits = flags.dtype == np.bool_ and flags.shape == tuple(maps.shape) and flags.ndim == 3
    single = maps.to(torch.float32)
    if not fits or not bool(torch.isfinite(single).all()):
        flags, _ = checked_maps(masks, maps.detach().cpu().numpy(), first_image, np.float32)
    return flags


def _host(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()
