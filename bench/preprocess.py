"""From an RGB image to the tensor that the backbone reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .backbone import OPENAI_MEAN, OPENAI_STD

Interpolation = Literal["bicubic", "bilinear"]
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True)
class Preprocess:
    """Squash to a square (PIL, antialiased), scale to 0..1, normalise.

    All released ZSAD codes squash and never crop; they differ in the filter and in the size.
    """

    image_size: int
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB image of any size -> [3, S, S] float32."""
        size = (self.image_size, self.image_size)
        resized = image if image.size == size else image.resize(size, FILTERS[self.interpolation])
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255
        mean = torch.tensor(self.mean)[:, None, None]
        std = torch.tensor(self.std)[:, None, None]
        return (pixels - mean) / std
