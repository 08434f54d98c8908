"""From an RGB image to the tensor that the backbone reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .backbone import OPENAI_MEAN, OPENAI_STD, Backbone, TokenSpec, VisualFeatures
from .errors import UsageError

Interpolation = Literal["bicubic", "bilinear"]
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Preprocess:
    """Resize (PIL, antialiased) to a square, scale to 0..1, normalise.

    All released ZSAD codes squash images so and never crop; they differ in the filter and in the
    size. A method that reads images otherwise overrides `__call__`, `encode` and `picture`
    (AnoVL's tiles in `methods/_anovl_tiles.py`).

    Attributes:
        image_size: S, in pixels.
        interpolation: the filter.
        mean, std: of the normalisation, for each channel.
    """

    image_size: int
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB image of any size -> [3, S, S] float32; the same shape for all images."""
        return self.normalised(image, (self.image_size, self.image_size))

    def encode(
        self, backbone: Backbone, images: Tensor, specs: Iterable[TokenSpec]
    ) -> VisualFeatures:
        """What the backbone gives for images [B, ...] that were prepared by this object.

        Methods with equal `forward_key`, which this object is a part of, share it.
        """
        return backbone.encode_image(images, specs)

    def normalised(self, image: Image.Image, size: tuple[int, int]) -> Tensor:
        """The image [3, H, W] at a size (height, width)."""
        wanted = (size[1], size[0])
        resized = image
        if image.size != wanted:
            resized = image.resize(wanted, FILTERS[self.interpolation])
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
        mean = torch.tensor(self.mean)[:, None, None]
        std = torch.tensor(self.std)[:, None, None]
        return (pixels - mean) / std

    def picture(self, pixels: Tensor) -> NDArray[np.uint8]:
        """The RGB picture [H, W, 3] that a prepared image was, to be looked at."""
        channels = pixels.cpu().float().permute(1, 2, 0).numpy()
        shown = channels * np.asarray(self.std, np.float32) + np.asarray(self.mean, np.float32)
        picture: NDArray[np.uint8] = np.rint(shown.clip(0, 1) * 255).astype(np.uint8)
        return picture


class Unencoded(Preprocess):
    """Prepares images for a method that sends them through the visual tower by itself.

    It gives no features but zeros for the class tokens, so that no forward is made for nothing.
    """

    def encode(
        self, backbone: Backbone, images: Tensor, specs: Iterable[TokenSpec]
    ) -> VisualFeatures:
        """Zeros in the shape of class tokens.

        Raises:
            UsageError: the method declares patch tokens, which are not made here.
        """
        if frozenset(specs):
            raise UsageError("images that are not encoded have no patch tokens: declare none")
        zeros = torch.zeros(len(images), backbone.embed_dim, device=backbone.device)
        zeros = zeros.to(backbone.dtype)
        side = self.image_size // backbone.patch_size
        return VisualFeatures(zeros, zeros, {}, (side, side))
