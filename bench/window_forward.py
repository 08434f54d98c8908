"""Windows of patches of several sizes through the visual tower, in one row of tokens.

Axes: B images, L patch tokens, W the tower's width, n windows of a part, t tokens of a window: the
class token and its patches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .blocks import by_head, feed_forward, of_all_heads, projected, read_one, residual


@dataclass(frozen=True)
class WindowForward:
    """How windows go through the blocks of a visual tower.

    Attributes:
        blocks: of the tower.
        activation: of the MLPs, "gelu" or "quick_gelu".
    """

    blocks: Sequence[Any]
    activation: str

    def run(self, x: Tensor, scales: Sequence[Tensor], at_once: int) -> list[Tensor]:
        """The class tokens of all windows as they leave the last block.

        Args:
            x: [B, 1 + L, W] after ln_pre.
            scales: of each the patch indices of its windows, [windows, patches of a window].
            at_once: tokens that go through the tower together, roughly.

        Returns:
            Of each scale [B * windows, W].
        """
        tokens = x.flatten(0, 1)
        first = projected(self.blocks[0], tokens)  # a token's are the same in all its windows
        found: list[list[Tensor]] = [[] for _ in scales]
        for part in _parts(x, scales, at_once):
            for kept, read in zip(found, self._part(tokens, first, part), strict=True):
                kept.append(read)
        return [torch.cat(kept) for kept in found]

    def _part(self, tokens: Tensor, first: Tensor, part: Sequence[Tensor]) -> list[Tensor]:
        """The class tokens [n, W] of each scale, whose windows [n, t] are rows of `tokens`."""
        rows = torch.cat([windows.flatten() for windows in part])
        shapes = [tuple(windows.shape) for windows in part]
        x, projections = tokens[rows], first[rows]
        for number, block in enumerate(self.blocks[:-1]):
            if number:
                projections = projected(block, x)
            attended = []
            for scale in _split(projections, shapes):
                query, key, value = by_head(block, scale)
                seen = of_all_heads(F.scaled_dot_product_attention(query, key, value))
                attended.append(seen.flatten(0, 1))
            added = residual(block, torch.cat(attended))
            x = feed_forward(block, x + added, self.activation)
        last = self.blocks[-1]
        read = []
        scales = zip(_split(x, shapes), _split(projected(last, x, first=1), shapes), strict=True)
        for scale, projections in scales:
            keys, values = by_head(last, projections)
            read.append(read_one(last, scale[:, :1], keys, values, self.activation))
        return read


def _split(row: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """A row of tokens [N, W] by scale: [n, t, W]."""
    parts = torch.split(row, [math.prod(shape) for shape in shapes])
    return [part.reshape(*shape, -1) for part, shape in zip(parts, shapes, strict=True)]


def _parts(x: Tensor, scales: Sequence[Tensor], at_once: int) -> Iterator[list[Tensor]]:
    """Windows of every scale as rows [n, t] of the flattened x [B, 1 + L, W], so many at once."""
    images = torch.arange(len(x), device=x.device)[:, None, None] * x.shape[1]
    rows = []
    for windows in scales:
        with_class_token = F.pad(windows + 1, (1, 0))
        rows.append((images + with_class_token).flatten(0, 1))  # [B * windows, t]
    count = -(-sum(scale.numel() for scale in rows) // at_once)
    count = min(count, *map(len, rows))
    split = [scale.tensor_split(count) for scale in rows]
    yield from map(list, zip(*split, strict=True))
