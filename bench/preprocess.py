"""From an RGB image to the tensor that the backbone reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .backbone import OPENAI_MEAN, OPENAI_STD
from .errors import DataError

Interpolation = Literal["bicubic", "bilinear"]
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
Framing = Literal["squash", "two_tiles"]


@dataclass(frozen=True)
class Preprocess:
    """Resize (PIL, antialiased) to what the backbone reads, scale to 0..1, normalise.

    All released ZSAD codes squash to a square and never crop, and differ in the filter and in the
    size; but AnoVL's script for VisA keeps the aspect and reads two squares.

    Attributes:
        image_size: S, in pixels.
        interpolation: the filter.
        mean, std: of the normalisation, for each channel.
        framing: "squash" gives one square; "two_tiles" brings the shorter side to S and gives the
            squares at both ends of the longer side, which overlap.
    """

    image_size: int
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    framing: Framing = "squash"

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB image of any size -> [3, S, S] float32, or tiles [2, 3, S, S].

        Raises:
            DataError: the image is so long that its two tiles do not meet.
        """
        side = self.image_size
        if self.framing == "squash":
            return self._normalised(image, (side, side))
        down, right = second_tile((image.height, image.width), side)
        pixels = self._normalised(image, (side + down, side + right))
        return torch.stack([pixels[:, :side, :side], pixels[:, down:, right:]])

    def _normalised(self, image: Image.Image, size: tuple[int, int]) -> Tensor:
        """The image [3, H, W] at a size (height, width)."""
        wanted = (size[1], size[0])
        resized = image
        if image.size != wanted:
            resized = image.resize(wanted, FILTERS[self.interpolation])
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
        mean = torch.tensor(self.mean)[:, None, None]
        std = torch.tensor(self.std)[:, None, None]
        return (pixels - mean) / std

    def picture(self, pixels: Tensor, size: tuple[int, int]) -> NDArray[np.uint8]:
        """The RGB picture [H, W, 3] that a prepared image was, to be looked at.

        Args:
            pixels: what calling this gave.
            size: (height, width) of the image as it was read.
        """
        pixels = pixels.cpu().float()
        if self.framing == "two_tiles":
            pixels = join_tiles(pixels[None], second_tile(size, self.image_size))[0]
        channels = pixels.permute(1, 2, 0).numpy()
        shown = channels * np.asarray(self.std, np.float32) + np.asarray(self.mean, np.float32)
        picture: NDArray[np.uint8] = np.rint(shown.clip(0, 1) * 255).astype(np.uint8)
        return picture


def second_tile(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Where the second of two square tiles begins (rows down, columns right); the first at 0, 0.

    Args:
        size: (height, width) of the image as it was read.
        side: of a tile; the image's shorter side is resized to it, the longer one in proportion and
            rounded down (torchvision's Resize).

    Raises:
        DataError: the image is so long that the tiles do not meet.
    """
    height, width = size
    beyond = side * max(size) // min(size) - side
    if beyond > side:
        raise DataError(
            f"an image of {width} x {height} px is more than twice as long as it is wide: two "
            "square tiles leave a gap between them; choose a variant that squashes images"
        )
    return (beyond, 0) if height > width else (0, beyond)


def join_tiles(tiles: Tensor, second: tuple[int, int]) -> Tensor:
    """Two tiles of N images put together; where they overlap, their mean.

    Args:
        tiles: [N, 2, C, S, S].
        second: (rows down, columns right) of the second tile, from `second_tile`.

    Returns:
        [N, C, S + rows, S + columns].
    """
    down, right = second
    both = torch.nn.functional.pad(tiles[:, 0], (0, right, 0, down))
    both = both + torch.nn.functional.pad(tiles[:, 1], (right, 0, down, 0))
    count = torch.zeros_like(both[:1, :1])
    count[..., : tiles.shape[-2], : tiles.shape[-1]] += 1
    count[..., down:, right:] += 1
    return both / count
