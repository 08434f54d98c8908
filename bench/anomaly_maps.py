"""From patch tokens and text features to scores and anomaly maps; shared by several methods.

Axes: B images, L patch tokens, D embedding, K prompts. Text features are ordered (normal,
abnormal).
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

TRUNCATE = 4.0  # scipy.ndimage.gaussian_filter's default radius in sigmas


def state_similarity(visual: Tensor, text: Tensor, normalised: bool = False) -> Tensor:
    """Cosine similarity to the two states.

    Args:
        visual: [B, D] class tokens or [B, L, D] patch tokens; normalised here.
        text: [2, D] or [B, 2, D], L2-normalised, (normal, abnormal).
        normalised: `visual` is L2-normalised already.

    Returns:
        [B, 2] or [B, L, 2].
    """
    visual = visual if normalised else F.normalize(visual, dim=-1)
    text = text.expand(len(visual), -1, -1)  # [B, 2, D]
    if visual.dim() == 2:
        return torch.einsum("bd,bsd->bs", visual, text)
    return visual @ text.transpose(1, 2)


def state_probabilities(
    visual: Tensor, text: Tensor, temperature: float, normalised: bool = False
) -> Tensor:
    """Softmax of `state_similarity` divided by the temperature: [B, 2] or [B, L, 2]."""
    return (state_similarity(visual, text, normalised) / temperature).softmax(dim=-1)


def prompt_probabilities(patches: Tensor, prompts: Tensor, temperature: float) -> Tensor:
    """Softmax over the normal prompt and one abnormal prompt, for each abnormal prompt alone.

    Args:
        patches: [B, L, D]; normalised here.
        prompts: [1 + K, D], the normal one first; normalised here.
        temperature: the similarity is divided by it.

    Returns:
        [B, K, L] probabilities of the abnormal prompts.
    """
    similarity = F.normalize(patches, dim=-1) @ F.normalize(prompts, dim=-1).T / temperature
    return (similarity[..., 1:] - similarity[..., :1]).sigmoid().transpose(1, 2)


def upsample(
    patch_map: Tensor, grid: tuple[int, int], size: int, align_corners: bool = False
) -> Tensor:
    """Patch values [B, L] or [B, L, C] -> bilinear maps [B, size, size] or [B, C, size, size]."""
    channels = patch_map[..., None] if patch_map.dim() == 2 else patch_map
    square = channels.transpose(1, 2).reshape(len(patch_map), -1, *grid)
    maps = F.interpolate(square, size=(size, size), mode="bilinear", align_corners=align_corners)
    return maps[:, 0] if patch_map.dim() == 2 else maps


def state_maps(logits: Tensor, grid: tuple[int, int], size: int) -> Tensor:
    """Logits [B, L, C] of the patches' states -> [B, C, size, size], probabilities over C.

    They are enlarged first, corners on corners, as in APRIL-GAN's code and those that follow it.
    """
    return upsample(logits, grid, size, align_corners=True).softmax(dim=1)


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of maps [B, H, W]; equals `scipy.ndimage.gaussian_filter(map, sigma)`.

    A product with a banded matrix per axis: exact at the border, and faster than a convolution
    with one channel.
    """
    if sigma <= 0:
        return maps
    rows, columns = (gaussian_matrix(length, sigma).to(maps) for length in maps.shape[1:])
    return rows @ maps @ columns.T


def upsample_smoothed(patch_map: Tensor, grid: tuple[int, int], size: int, sigma: float) -> Tensor:
    """Patch values [B, L] -> `smooth` of their `upsample`, [B, size, size].

    Both are linear, so that one narrow matrix per axis does both: a twentieth of the work.
    """
    if sigma <= 0:
        return upsample(patch_map, grid, size)
    rows, columns = (_smoothed_enlarging(side, size, sigma).to(patch_map) for side in grid)
    return rows @ patch_map.reshape(-1, *grid) @ columns.T


@lru_cache(maxsize=16)
def _smoothed_enlarging(side: int, size: int, sigma: float) -> Tensor:
    return gaussian_matrix(size, sigma) @ enlarging_matrix(side, size)


@lru_cache(maxsize=16)
def enlarging_matrix(side: int, size: int, align_corners: bool = False) -> Tensor:
    """[size, side] float64: row i holds the weights with which `side` values enter value i."""
    each = torch.eye(side, dtype=torch.float64)[None]
    return F.interpolate(each, size=size, mode="linear", align_corners=align_corners)[0].T


@lru_cache(maxsize=16)
def gaussian_matrix(length: int, sigma: float) -> Tensor:
    """[length, length] float64: row i holds the weights with which samples enter output i.

    Border rule is scipy's "reflect", which repeats the edge sample (d c b a | a b c d | d c b a)
    however far the kernel reaches; torch's "reflect" does not repeat it.
    """
    radius = int(TRUNCATE * sigma + 0.5)
    steps = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (steps.double() / sigma) ** 2)
    source = (torch.arange(length)[:, None] + steps) % (2 * length)
    source = torch.minimum(source, 2 * length - 1 - source)
    weights = torch.zeros(length, length, dtype=torch.float64)
    return weights.scatter_add_(1, source, (kernel / kernel.sum()).expand(length, -1))
