"""Block by block through the text tower: prompts, deep tokens, and what may change on the way.

Axes: P prompts, G beginnings, T prompt positions, W width of the tower, n deep tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .blocks import (
    BlockHook,
    attend,
    by_head,
    feed_forward,
    of_all_heads,
    projected,
    read_one,
    residual,
)


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

    def run(self, x: Tensor, ends: Tensor) -> Tensor:
        """The end-of-text tokens [P, W] as they leave the last block.

        Args:
            x: [P, T, W] prompts with their positions.
            ends: [P] position of each end-of-text token.
        """
        before, after = self.hooks.before, self.hooks.after
        length = x.shape[1]
        whole = self.blocks if self.hooks.in_blocks else self.blocks[:-1]
        for number, block in enumerate(whole, start=1):
            x = self._with_deep_tokens(x, number)
            x = x if before is None else before(number, x)
            x = feed_forward(block, x + attend(block, x, causal=True), self.activation)
            x = x if after is None else after(number, x)
        if self.hooks.in_blocks:
            return _rows(x, ends + (x.shape[1] - length))[:, 0]
        x, last = self._with_deep_tokens(x, len(self.blocks)), self.blocks[-1]
        keys, values = by_head(last, projected(last, x, first=1))
        return read_one(
            last, _rows(x, ends), keys, values, self.activation, _up_to(ends, x.shape[1])
        )

    def continue_prompts(self, beginnings: Tensor, x: Tensor, ends: Tensor) -> Tensor:
        """The end-of-text tokens [P, W] of prompts of which several begin alike.

        The attention is causal, so a beginning does not see what follows, and gives all its prompts
        the same keys and values. Everything else is computed of all tokens in one row.

        Args:
            beginnings: [G, T', W] with their positions; each is that of P / G prompts in a row.
            x: [P, T, W] what follows, with its positions.
            ends: [P] position of each end-of-text token in `x`.
        """
        row = _Row((beginnings.shape[0], beginnings.shape[1]), (x.shape[0], x.shape[1]))
        tokens = row.joined(beginnings, x)
        seen = torch.ones(x.shape[1], row.length, dtype=torch.bool, device=x.device)
        seen = seen.tril(diagonal=beginnings.shape[1])
        for number, block in enumerate(self.blocks[:-1], start=1):
            tokens = self._with_deep_beginnings(row, tokens, number)
            first, own = (by_head(block, part) for part in row.parts(projected(block, tokens)))
            query, key, value = first
            keys, values = row.continued(first[1:], own[1:])
            attended = row.joined(
                of_all_heads(F.scaled_dot_product_attention(query, key, value, is_causal=True)),
                of_all_heads(F.scaled_dot_product_attention(own[0], keys, values, attn_mask=seen)),
            )
            tokens = feed_forward(block, tokens + residual(block, attended), self.activation)
        tokens, last = self._with_deep_beginnings(row, tokens, len(self.blocks)), self.blocks[-1]
        first, own = (by_head(last, part) for part in row.parts(projected(last, tokens, first=1)))
        keys, values = row.continued(first, own)
        mask = _up_to(ends + beginnings.shape[1], row.length)
        reader = _rows(row.parts(tokens)[1], ends)
        return read_one(last, reader, keys, values, self.activation, mask)

    def _with_deep_beginnings(self, row: _Row, tokens: Tensor, number: int) -> Tensor:
        """What block `number` sees of a row whose beginnings hold the positions of deep tokens."""
        if not self._has_deep_tokens(number):
            return tokens
        beginnings, own = row.parts(tokens)
        return row.joined(self._with_deep_tokens(beginnings, number), own)

    def _has_deep_tokens(self, number: int) -> bool:
        return 2 <= number <= len(self.deep_tokens) + 1

    def _with_deep_tokens(self, x: Tensor, number: int) -> Tensor:
        """What block `number` sees of [P, T, W]: positions 1..n overwritten by its set."""
        if not self._has_deep_tokens(number):
            return x
        deep = self.deep_tokens[number - 2].to(x.dtype).expand(len(x), -1, -1)
        return torch.cat([x[:, :1], deep, x[:, 1 + deep.shape[1] :]], dim=1)


@dataclass(frozen=True)
class _Row:
    """Beginnings and what follows them in one row of tokens [N, W], N = G T' + P T.

    Attributes:
        beginnings: (G, T').
        own: (P, T).
    """

    beginnings: tuple[int, int]
    own: tuple[int, int]

    @property
    def length(self) -> int:
        """Positions of a whole prompt."""
        return self.beginnings[1] + self.own[1]

    def joined(self, beginnings: Tensor, own: Tensor) -> Tensor:
        """[G, T', W] and [P, T, W] -> [N, W]."""
        return torch.cat([beginnings.flatten(0, 1), own.flatten(0, 1)])

    def parts(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """[N, W] -> [G, T', W] and [P, T, W]."""
        first, own = torch.split(tokens, [math.prod(self.beginnings), math.prod(self.own)])
        return first.reshape(*self.beginnings, -1), own.reshape(*self.own, -1)

    def continued(self, first: Sequence[Tensor], own: Sequence[Tensor]) -> list[Tensor]:
        """Keys or values [P, heads, T' + T, ..] of whole prompts.

        Args:
            first: each [G, heads, T', ..].
            own: each [P, heads, T, ..].
        """
        groups = (self.beginnings[0], self.own[0] // self.beginnings[0])
        joined = []
        for before, behind in zip(first, own, strict=True):
            spread = before[:, None].expand(-1, groups[1], -1, -1, -1)
            apart = behind.reshape(*groups, *behind.shape[1:])
            joined.append(torch.cat([spread, apart], dim=3).flatten(0, 1))
        return joined


def _rows(x: Tensor, positions: Tensor) -> Tensor:
    """The token [P, 1, W] of each prompt [P, T, W] at its position [P]."""
    return x.gather(1, positions[:, None, None].expand(-1, 1, x.shape[-1]))


def _up_to(ends: Tensor, length: int) -> Tensor:
    """[P, 1, 1, T]: which of `length` positions come no later than the position [P]."""
    return (torch.arange(length, device=ends.device) <= ends[:, None])[:, None, None]
