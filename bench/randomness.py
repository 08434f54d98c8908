"""Random numbers at inference that belong to an image and not to its batch or its turn.

A method that draws while it answers must give an image the same answer in every batch and order, so
each image has a generator of its own, seeded by the method's seed and by the image's key, which is
a hash of its pixels. Axes: B images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

KEY_BYTES = 7  # a key is an integer that every generator takes as a seed


def image_keys(images: Tensor) -> tuple[int, ...]:
    """One integer for each image [B, ...], from its prepared pixels alone.

    Neither the path of the image nor its place in a batch is in it, so that it says nothing about
    a label; images of equal pixels have equal keys.
    """
    pixels = images.detach().cpu().contiguous()
    return tuple(_number(image.numpy().tobytes()) for image in pixels)


def generator_of(seed: int, key: int) -> torch.Generator:
    """A generator on the CPU that depends on a seed and the key of an image, and nothing else."""
    return torch.Generator().manual_seed(_number(f"{seed} {key}".encode()))


def normal_draws(seed: int, keys: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal numbers [B, *shape] in single precision on the CPU, of each image its own."""
    drawn = [torch.randn(tuple(shape), generator=generator_of(seed, key)) for key in keys]
    return torch.stack(drawn)


def _number(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=KEY_BYTES).digest(), "little")
