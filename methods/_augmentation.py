"""Random changes of a training image and its mask together, at the image's own size.

Those of VCP-CLIP and Bayes-PFL, whose released codes take them from albumentations 1.3.1 in this
order and with its default ranges. Axes: H, W of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor
from torch.nn import functional as F

from ..bench.images import Mask
from ._mosaics import MosaicMethod, MosaicOptions, anomalous_partners

SHARE = 0.5  # of the images that each change is made to
ANGLE = 30.0  # degrees to either side
CONTRAST = 0.2  # of brightness and contrast, to either side
VARIANCE = (10.0, 50.0)  # of Gaussian noise, in grey levels squared
JITTER = 0.2  # of brightness, contrast, saturation and hue, to either side
KERNELS = (3, 5, 7)  # sides of Gaussian kernels

Pixels = NDArray[np.floating[Any]]  # [H, W, 3] grey levels


@dataclass(frozen=True)
class ChangeOptions(MosaicOptions):
    """What can be asked of both methods; mosaics are of anomalous images.

    Attributes:
        changes_images: turn, recolour and blur training images at random, as released; without,
            frozen features serve.
    """

    changes_images: bool = True


class ChangingMethod(MosaicMethod):
    """Base of both methods."""

    options: ChangeOptions

    @property
    def makes_mosaics(self) -> bool:
        """Whether some training images become mosaics."""
        return self.options.changes_images and self.options.mosaic_rate > 0

    def augment_image(
        self, image: Image.Image, mask: Mask, class_name: str, generator: torch.Generator
    ) -> tuple[Image.Image, Mask]:
        """Turn, recolour and blur, each by chance; see `TrainableMethod`."""
        return changed(image, mask, generator)

    def augment(
        self, images: Tensor, masks: Tensor, class_names: Sequence[str], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Some images become a mosaic of their anomalous partners, as many as there are.

        VCP-CLIP's released code makes mosaics of four different anomalous images, before it changes
        them.
        """
        images, masks = anomalous_partners(images, masks)
        return super().augment(images, masks, class_names, generator)


def changed(image: Image.Image, mask: Mask, generator: torch.Generator) -> tuple[Image.Image, Mask]:
    """An RGB image and its mask [H, W] after all changes, each with a chance of its own."""
    if _chance(generator):
        image, mask = _turned(image, mask, _uniform(generator, -ANGLE, ANGLE))
    if _chance(generator):
        quarters = int(torch.randint(4, (), generator=generator))
        image = Image.fromarray(np.ascontiguousarray(np.rot90(np.asarray(image), quarters)))
        mask = np.ascontiguousarray(np.rot90(mask, quarters))
    if _chance(generator):
        contrast = 1 + _uniform(generator, -CONTRAST, CONTRAST)
        brightness = 255 * _uniform(generator, -CONTRAST, CONTRAST)
        image = _picture(np.asarray(image, np.float32) * contrast + brightness)
    if _chance(generator):
        deviation = math.sqrt(_uniform(generator, *VARIANCE))
        noise = torch.randn(image.height, image.width, 3, generator=generator).numpy()
        image = _picture(np.asarray(image, np.float32) + deviation * noise)
    if _chance(generator):
        change = (_blurred, _jittered, _softened)[int(torch.randint(3, (), generator=generator))]
        image = change(image, generator)
    return image, mask


def _turned(image: Image.Image, mask: Mask, degrees: float) -> tuple[Image.Image, Mask]:
    """Image and mask about the middle, what lies outside mirrored at the border pixel."""
    pixels = torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1)[None]
    marks = torch.from_numpy(mask.astype(np.float32))[None, None]
    grid = _turning_grid(image.height, image.width, degrees)
    turned, marked = (
        F.grid_sample(x, grid, mode=mode, padding_mode="reflection", align_corners=True)
        for x, mode in ((pixels, "bilinear"), (marks, "nearest"))
    )
    return _picture(turned[0].permute(1, 2, 0).numpy()), (marked[0, 0] > 0.5).numpy()


def _turning_grid(height: int, width: int, degrees: float) -> Tensor:
    """[1, H, W, 2] places in -1..1 that the pixels of a picture turned anticlockwise come from."""
    angle = math.radians(degrees)
    half = (width - 1) / 2, (height - 1) / 2
    y, x = torch.meshgrid(
        torch.arange(height) - half[1], torch.arange(width) - half[0], indexing="ij"
    )
    across = math.cos(angle) * x - math.sin(angle) * y
    down = math.sin(angle) * x + math.cos(angle) * y
    return torch.stack([across / max(half[0], 0.5), down / max(half[1], 0.5)], dim=-1)[None]


def _blurred(image: Image.Image, generator: torch.Generator) -> Image.Image:
    """The mean of 3 x 3 pixels."""
    return image.filter(ImageFilter.BoxBlur(1))


def _softened(image: Image.Image, generator: torch.Generator) -> Image.Image:
    """A Gaussian blur, whose width follows from the side of its kernel as in OpenCV."""
    side = KERNELS[int(torch.randint(len(KERNELS), (), generator=generator))]
    return image.filter(ImageFilter.GaussianBlur(0.3 * ((side - 1) / 2 - 1) + 0.8))


def _jittered(image: Image.Image, generator: torch.Generator) -> Image.Image:
    """Brightness, contrast, saturation and hue in random order."""
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for change in torch.randperm(len(enhancers) + 1, generator=generator).tolist():
        amount = _uniform(generator, -JITTER, JITTER)
        if change < len(enhancers):
            image = enhancers[change](image).enhance(1 + amount)
        else:
            hue, saturation, value = image.convert("HSV").split()
            shifted = (np.asarray(hue, np.int32) + round(255 * amount)) % 256
            channels = (Image.fromarray(shifted.astype(np.uint8)), saturation, value)
            image = Image.merge("HSV", channels).convert("RGB")
    return image


def _picture(pixels: Pixels) -> Image.Image:
    return Image.fromarray(np.rint(pixels.clip(0, 255)).astype(np.uint8))


def _chance(generator: torch.Generator) -> bool:
    return _uniform(generator, 0, 1) < SHARE


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
