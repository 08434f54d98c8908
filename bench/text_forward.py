"""Block by block through the text tower: prompts, deep tokens, and what may change on the way.

Axes: P prompts, T prompt positions, W width of the tower, n deep tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .blocks import BlockHook, attend, feed_forward, heads, merged


@dataclass(frozen=True)
class TextHooks:
    """What a method changes inside the text tower, with gradients.

    Callbacks may insert or drop tokens in front of the end-of-text token, alike for all prompts;
    the position of that token moves with them.

    Attributes:
        before: changes what enters a block; the deep tokens are in their places already.
        after: changes what leaves a block.
        before_final: changes the end-of-text tokens [P, W] between the last block and ln_final.
        head: makes features [P, D] of what leaves ln_final [P, W], instead of text_projection.
    """

    before: BlockHook | None = None
    after: BlockHook | None = None
    before_final: Callable[[Tensor], Tensor] | None = None
    head: Callable[[Tensor], Tensor] | None = None

    @property
    def in_blocks(self) -> bool:
        """Whether a callback stands before or after blocks."""
        return self.before is not None or self.after is not None


NO_HOOKS = TextHooks()


@dataclass(frozen=True)
class TextForward:
    """How prompts go through the blocks of a text tower; the attention is causal.

    Attributes:
        blocks: of the tower.
        activation: of the MLPs, "gelu" or "quick_gelu".
        deep_tokens: set i, [n, W] or [P, n, W], overwrites positions 1..n before block i + 2 (the
            first block sees the prompt itself).
        hooks: callbacks around blocks.
    """

    blocks: Sequence[Any]
    activation: str
    deep_tokens: Sequence[Tensor] = ()
    hooks: TextHooks = NO_HOOKS

    def run(self, x: Tensor) -> Tensor:
        """What leaves the last block, [P, T', W], of prompts [P, T, W] with their positions."""
        before, after = self.hooks.before, self.hooks.after
        for number, block in enumerate(self.blocks, start=1):
            x = self._with_deep_tokens(x, number)
            x = x if before is None else before(number, x)
            x = feed_forward(block, x + attend(block, x, causal=True), self.activation)
            x = x if after is None else after(number, x)
        return x

    def continue_prompts(self, beginning: Tensor, x: Tensor) -> Tensor:
        """Prompts that continue one beginning [1, T', W]: their own positions [P, T, W], encoded.

        The attention is causal, so the beginning does not see what follows, and gives every prompt
        the same keys and values. Callbacks take no part.
        """
        before, length = beginning.shape[1], x.shape[1]
        seen = torch.ones(length, before + length, dtype=torch.bool, device=x.device)
        seen = seen.tril(diagonal=before)
        for number, block in enumerate(self.blocks, start=1):
            beginning = self._with_deep_tokens(beginning, number)
            query, key, value = heads(block, beginning)
            own_query, own_key, own_value = heads(block, x)
            keys, values = (
                torch.cat([first.expand(len(x), -1, -1, -1), own], dim=2)
                for first, own in ((key, own_key), (value, own_value))
            )
            own = F.scaled_dot_product_attention(own_query, keys, values, attn_mask=seen)
            x = feed_forward(block, x + merged(block, own), self.activation)
            first = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            beginning = feed_forward(block, beginning + merged(block, first), self.activation)
        return x

    def _with_deep_tokens(self, x: Tensor, number: int) -> Tensor:
        """What block `number` sees of [P, T, W]: positions 1..n overwritten by its set."""
        if not 2 <= number <= len(self.deep_tokens) + 1:
            return x
        deep = self.deep_tokens[number - 2].to(x.dtype).expand(len(x), -1, -1)
        return torch.cat([x[:, :1], deep, x[:, 1 + deep.shape[1] :]], dim=1)
