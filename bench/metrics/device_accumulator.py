"""The pixels of a category's maps, gathered and ranked on the device that the maps lie on.

The device sorts, searches, counts and thins curves; what comes to the host is the table of ranks,
from which all metrics are computed as from that of the host's own accumulator, equal to the last
bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from .device_counts import DeviceCounts
from .device_runs import DeviceRuns, again_on_host
from .mask_regions import MaskRegions, Regions, regions_of
from .pixel_accumulator import Accumulator
from .ranks import Flags, MetricInputError, checked_maps


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


def _checked(masks: ArrayLike, maps: Tensor, first_image: int) -> Flags:
    """Masks as booleans [B, H, W]; errors as `checked_maps` has them."""
    flags = np.asarray(masks)
    fits = flags.dtype == np.bool_ and flags.shape == tuple(maps.shape) and flags.ndim == 3
    single = maps.to(torch.float32)
    if not fits or not bool(torch.isfinite(single).all()):
        flags, _ = checked_maps(masks, maps.detach().cpu().numpy(), first_image, np.float32)
    return flags
