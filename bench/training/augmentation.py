"""Training images that change from epoch to epoch, before and after they are prepared.

Before, each image is changed alone (`augment_image`), by a generator that depends on the seed, the
epoch and the sample: neither batches, nor their order, nor the process that reads it play a part.
After, a batch is changed together (`augment`), by one generator for the whole training.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..dataset import Reading, Sample
from ..errors import ContractError
from ..images import Mask
from ..method import TrainableMethod
from ..names import display_name

SEED_BYTES = 7  # of a hash, which every generator takes as a seed


@dataclass(frozen=True)
class Draws:
    """What an epoch's augmentation draws from.

    Attributes:
        generator: of all batches in turn, over all epochs.
        seed: of the training.
        epoch: from 0, over all stages.
    """

    generator: torch.Generator
    seed: int = 0
    epoch: int = 0

    def of_sample(self, name: str) -> torch.Generator:
        """A generator of a sample in this epoch alone."""
        text = f"{self.seed} {self.epoch} {name}".encode(errors="surrogateescape")
        seed = int.from_bytes(hashlib.blake2b(text, digest_size=SEED_BYTES).digest(), "little")
        return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class ImageChange:
    """Changes an image as it was read, in whatever process reads it.

    Attributes:
        method: whose `augment_image` it is.
        draws: of the epoch.
        root: of the dataset, below which samples have their names.
    """

    method: TrainableMethod
    draws: Draws
    root: Path

    def __call__(self, sample: Sample, reading: Reading) -> Reading:
        """The reading with image and mask changed; without a mask it is left as it is."""
        if reading.mask is None:
            return reading
        generator = self.draws.of_sample(sample.name(self.root))
        image, mask = changed(
            self.method, reading.image, reading.mask, sample.class_name, generator
        )
        return replace(reading, image=image, mask=mask)


def changed(
    method: TrainableMethod,
    image: Image.Image,
    mask: Mask,
    class_name: str,
    generator: torch.Generator,
) -> tuple[Image.Image, Mask]:
    """An image and its mask [H, W] as `augment_image` changes them.

    Args:
        method: that learns.
        image: RGB.
        mask: of the image.
        class_name: of the image.
        generator: of the image in this epoch.

    Raises:
        ContractError: the method gave no RGB image, or a mask of another size or kind.
    """
    image, mask = method.augment_image(image, mask, class_name, generator)
    fits = (
        isinstance(image, Image.Image)
        and image.mode == "RGB"
        and isinstance(mask, np.ndarray)
        and mask.dtype == np.bool_
        and mask.shape == (image.height, image.width)
    )
    if not fits:
        raise ContractError(
            f"method '{display_name(method.name)}': augment_image gives an RGB image and its mask "
            "[H, W] bool of the same size, and gave something else"
        )
    return image, mask
