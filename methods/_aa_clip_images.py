"""How AA-CLIP changes its training images: colours before resizing, places after it.

Turning takes torchvision's defaults: nearest pixels, zeros beyond the image, no larger canvas.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image, ImageEnhance
from torch import Tensor

JITTER_RATE = 0.7
MOVE_RATE = 0.5
GREATEST_ANGLE = 30.0  # degrees
GREATEST_SHIFT = 0.15  # of a side


@dataclass(frozen=True)
class Move:
    """How an image is moved: turned, then shifted, then flipped.

    Attributes:
        angle: degrees, counter-clockwise; 0 is not at all.
        shift: pixels to the right and down.
        flips: left to right, and upside down.
    """

    angle: float = 0.0
    shift: tuple[int, int] = (0, 0)
    flips: tuple[bool, bool] = (False, False)

    @classmethod
    def drawn(cls, side: int, generator: torch.Generator) -> Move:
        """Each part by chance.

        Args:
            side: of the image in pixels.
            generator: to draw from.
        """
        turns, shifts, mirrors, topples = (torch.rand(4, generator=generator) < MOVE_RATE).tolist()
        angle, right, down = (
            2 * torch.rand(3, generator=generator, dtype=torch.float64) - 1
        ).tolist()
        reach = GREATEST_SHIFT * side
        shift = (round(right * reach), round(down * reach)) if shifts else (0, 0)
        return cls(angle * GREATEST_ANGLE if turns else 0.0, shift, (mirrors, topples))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels [C, S, S], moved; what comes in from outside is 0."""
        from torchvision.transforms import functional

        if self.angle:
            pixels = functional.rotate(pixels, self.angle)
        if self.shift != (0, 0):
            pixels = functional.affine(pixels, 0.0, list(self.shift), 1.0, [0.0, 0.0])
        axes = [axis for axis, flipped in zip((-1, -2), self.flips, strict=True) if flipped]
        return pixels.flip(axes)


def moved(image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """An image [3, S, S] and its mask [M, M] bool, moved alike.

    The mask has the image's side; where it has another one, it is moved as it is.
    """
    move = Move.drawn(image.shape[-1], generator)
    if mask.shape[-1] == image.shape[-1]:
        both = move(torch.cat([image, mask[None].to(image.dtype)]))
        return both[:3], both[3] > 0
    share = mask.shape[-1] / image.shape[-1]
    shift = (round(move.shift[0] * share), round(move.shift[1] * share))
    own = Move(move.angle, shift, move.flips)
    return move(image), own(mask[None].to(image.dtype))[0] > 0


def jittered(image: Image.Image, generator: torch.Generator) -> Image.Image:
    """An RGB image whose brightness, contrast and saturation are changed by chance."""
    chosen = (torch.rand(3, generator=generator) < JITTER_RATE).tolist()
    factors = (0.5 + torch.rand(3, generator=generator, dtype=torch.float64)).tolist()
    return coloured(image, [f if c else 1.0 for f, c in zip(factors, chosen, strict=True)])


def coloured(image: Image.Image, factors: list[float]) -> Image.Image:
    """An RGB image with brightness, contrast and saturation times these factors, in this order."""
    kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for kind, factor in zip(kinds, factors, strict=True):
        if factor != 1.0:
            image = kind(image).enhance(factor)
    return image
