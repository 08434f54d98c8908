"""The image score of VCP-CLIP and Bayes-PFL: the mean of a map's largest pixels."""

from __future__ import annotations

from torch import Tensor

TOP_PIXELS = 2000 / 518**2  # share of a map's pixels; 2000 at the published 518 px


def largest_mean(maps: Tensor, share: float = TOP_PIXELS) -> Tensor:
    """[B] mean of the largest pixels of maps [B, M, M], a share of them and at least one."""
    count = max(1, round(share * maps[0].numel()))
    return maps.flatten(1).topk(count).values.mean(dim=-1)
