"""A Gaussian of a fixed number of taps over maps on the patch grid, as kornia's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def blurred(maps: Tensor, taps: int, sigma: float) -> Tensor:
    """Maps [B, H, W], blurred along both axes; the edge is mirrored and not repeated.

    Args:
        maps: on the patch grid; one of fewer rows than taps is blurred with fewer.
        taps: of the kernel, an odd number; their sum is 1.
        sigma: of the kernel.
    """
    reach = min(taps // 2, maps.shape[1] - 1, maps.shape[2] - 1)
    kernel = gaussian_taps(2 * reach + 1, sigma).to(maps)
    padded = F.pad(maps[:, None], (reach,) * 4, mode="reflect")
    rows = F.conv2d(padded, kernel[None, None, None, :])
    return F.conv2d(rows, kernel[None, None, :, None])[:, 0]


def gaussian_taps(taps: int, sigma: float) -> Tensor:
    """[taps] float64, symmetric, of sum 1."""
    steps = torch.arange(taps, dtype=torch.float64) - taps // 2
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    return kernel / kernel.sum()
