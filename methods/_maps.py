"""From patch tokens and text features to scores and anomaly maps; shared by several methods.

Axes: B images, L patches, D joint embedding; text features are ordered (normal, abnormal).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TRUNCATE = 4.0  # scipy.ndimage.gaussian_filter's default radius in sigmas


def state_probabilities(visual: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Softmax over the two states of the cosine similarity.

    Args:
        visual: [B, D] class tokens or [B, L, D] patch tokens; normalised here.
        text: [2, D] or [B, 2, D], L2-normalised, (normal, abnormal).
        temperature: the similarity is divided by it.

    Returns:
        [B, 2] or [B, L, 2], summing to 1.
    """
    normalised = F.normalize(visual, dim=-1)
    text = text.expand(len(visual), -1, -1)  # [B, 2, D]
    if visual.dim() == 2:
        similarity = torch.einsum("bd,bsd->bs", normalised, text)
    else:
        similarity = normalised @ text.transpose(1, 2)
    return (similarity / temperature).softmax(dim=-1)


def upsample(
    patch_map: Tensor, grid: tuple[int, int], size: int, align_corners: bool = False
) -> Tensor:
    """Patch values [B, L] or [B, L, C] -> bilinear maps [B, size, size] or [B, C, size, size]."""
    channels = patch_map[..., None] if patch_map.dim() == 2 else patch_map
    square = channels.transpose(1, 2).reshape(len(patch_map), -1, *grid)
    maps = F.interpolate(square, size=(size, size), mode="bilinear", align_corners=align_corners)
    return maps[:, 0] if patch_map.dim() == 2 else maps


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of maps [B, H, W]; equals `scipy.ndimage.gaussian_filter(map, sigma)`.

    scipy's "reflect" repeats the edge sample (d c b a | a b c d), which torch calls neither
    reflect nor replicate, so the border is gathered by index.
    """
    if sigma <= 0:
        return maps
    radius = int(TRUNCATE * sigma + 0.5)
    steps = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = (kernel / kernel.sum()).to(maps.device, maps.dtype)
    for dim in (1, 2):
        length = maps.shape[dim]
        index = torch.arange(-radius, length + radius, device=maps.device) % (2 * length)
        index = torch.minimum(index, 2 * length - 1 - index)
        padded = maps.index_select(dim, index)
        windows = padded.unfold(dim, 2 * radius + 1, 1)  # [B, H, W, taps]
        maps = windows @ kernel
    return maps
