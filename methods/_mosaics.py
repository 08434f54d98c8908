"""Mosaics of training images: four of the same class, two by two at half the size.

Axes: B images, C channels, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.method import Options, TrainableMethod
from ..bench.options import Share

TILES = 4


@dataclass(frozen=True)
class MosaicOptions(Options):
    """What can be asked of a method that learns from mosaics, too.

    Attributes:
        mosaic_rate: share of training images that become a mosaic of four.
    """

    mosaic_rate: Share = 0.0


class MosaicMethod(TrainableMethod):
    """Base of methods some of whose training images become mosaics of four of their class."""

    mosaic_partners = TILES
    options: MosaicOptions

    def augment(
        self, images: Tensor, masks: Tensor, class_names: Sequence[str], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Two by two at half the size, of four partners; see `TrainableMethod`.

        They are drawn uniformly from all images of the class; APRIL-GAN's released code draws a
        kind of anomaly first, and then an image of it.
        """
        return with_mosaics(images, masks, self.options.mosaic_rate, generator)


def with_mosaics(
    images: Tensor, masks: Tensor, rate: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Some images of a batch become a mosaic of their four partners; see `augment`.

    Args:
        images: [B + 4 B, 3, S, S].
        masks: [B + 4 B, M, M] bool.
        rate: share of images that become a mosaic.
        generator: to draw from.

    Returns:
        Images and masks of the same shapes, of which the first B are changed.
    """
    count = len(images) // (1 + TILES)
    chosen = torch.rand(count, generator=generator) < rate
    images, masks = images.clone(), masks.clone()
    tiled = _mosaic(images[count:], "bicubic")
    marked = _mosaic(masks[count:].float()[:, None], "bilinear")[:, 0] > 0.5
    images[:count] = torch.where(chosen[:, None, None, None], tiled, images[:count])
    masks[:count] = torch.where(chosen[:, None, None], marked, masks[:count])
    return images, masks


def anomalous_partners(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """The same batch in which anomalous partners stand for the normal ones beside them.

    The four partners of an image stay as they are where none of them is anomalous.
    """
    count = len(images) // (1 + TILES)
    places = list(range(count))
    marked = masks.flatten(1).any(dim=1).tolist()
    for first in range(count, len(images), TILES):
        four = range(first, first + TILES)
        kept = [place for place in four if marked[place]] or list(four)
        places += [kept[i % len(kept)] for i in range(TILES)]
    return images[places], masks[places]


def _mosaic(pictures: Tensor, mode: str) -> Tensor:
    """Each four pictures of [4 B, C, S, S] as one: [B, C, S, S]."""
    four = pictures.reshape(-1, TILES, *pictures.shape[1:])  # [B, 4, C, S, S]
    rows = [torch.cat([four[:, 2 * i], four[:, 2 * i + 1]], dim=-1) for i in range(2)]
    canvas = torch.cat(rows, dim=-2)  # [B, C, 2 S, 2 S]
    return F.interpolate(
        canvas, size=pictures.shape[-2:], mode=mode, align_corners=False, antialias=True
    )
