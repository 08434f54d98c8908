"""Block by block through the text tower: prompts, deep tokens, and what may change on the way.

Axes: P prompts, G beginnings, K prompts of a beginning, T prompt positions, N tokens of a row, W
width of the tower, n deep tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .blocks import (
    BlockHook,
    attend,
    by_head,
    feed_forward,
    merged,
    of_all_heads,
    projected,
    read_one,
    read_some,
    residual,
)

TOKENS_IN_ROW = 256  # that follow their beginning; their attention grows with the square
TOKENS_BEHIND = 512  # that follow one known already, at once: what stays in a CPU's cache
TOKENS_IN_GROUP = 12  # that attend together, most of them in vain, where less is too small a call


@dataclass(frozen=True)
class TextHooks:
    """What a method changes inside the text tower, with gradients.

    Callbacks may insert or drop tokens before the end-of-text token, alike for all prompts;
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

    def continue_prompts(
        self, beginnings: Tensor, x: Tensor, ends: Tensor, begun: list[Tensor] | None = None
    ) -> Tensor:
        """The end-of-text tokens [P, W] of prompts of which several begin alike.

        The attention is causal, so a beginning does not see what follows, and is computed once for
        all its prompts.

        Args:
            beginnings: [G, T', W] with their positions; each is that of P / G prompts in a row.
            x: [P, T, W] what follows, with its positions.
            ends: [P] position of each end-of-text token in `x`.
            begun: keys and values of the beginnings in each block, [G, T', 2 W]. An empty list is
                filled; of a filled one they are read, and not computed again.
        """
        begun = [] if begun is None else begun
        groups, length = len(beginnings), x.shape[1]
        own, ends = x.reshape(groups, -1, *x.shape[1:]), ends.reshape(groups, -1)
        first = 0 if begun else max(1, TOKENS_IN_ROW // length)
        read = []
        if first:
            read.append(self._begun(beginnings, own[:, :first], ends[:, :first], begun))
        at_once = max(1, TOKENS_BEHIND // length)
        for start in range(first, own.shape[1], at_once):
            part = slice(start, start + at_once)
            read.append(self._continued(begun, own[:, part], ends[:, part]))
        return torch.cat(read, dim=1).flatten(0, 1)

    def _begun(self, beginnings: Tensor, own: Tensor, ends: Tensor, begun: list[Tensor]) -> Tensor:
        """[G, K, W] of beginnings [G, T', W] with K prompts each, [G, K, T, W] ending at [G, K].

        A beginning and all that follows it are one row of tokens. Fills `begun`.
        """
        before, width = beginnings.shape[1:]
        x = torch.cat([beginnings, own.flatten(1, 2)], dim=1)
        seen = _seen_in_row(before, *own.shape[1:3]).to(x)
        for number, block in enumerate(self.blocks[:-1], start=1):
            x = self._with_deep_tokens(x, number)
            projections = projected(block, x)
            begun.append(projections[:, :before, width:])
            query, key, value = by_head(block, projections)
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
            x = feed_forward(block, x + merged(block, attended), self.activation)
        x = self._with_deep_tokens(x, len(self.blocks))
        projections = projected(self.blocks[-1], x, first=1)
        begun.append(projections[:, :before])
        places = before + _places(ends, own.shape[2])
        return self._read(x.take_along_dim(places[..., None], 1), projections, seen[places])

    def _continued(self, begun: Sequence[Tensor], own: Tensor, ends: Tensor) -> Tensor:
        """[G, K, W] of K prompts each, [G, K, T, W] ending at [G, K], after known beginnings."""
        before, (count, length) = begun[0].shape[1], own.shape[1:3]
        most = max(1, TOKENS_IN_GROUP // length)
        together = max(n for n in range(1, most + 1) if count % n == 0)
        x = own.flatten(1, 2)
        seen = _seen_in_row(before, together, length)[before:].to(x)
        for block, first in zip(self.blocks[:-1], begun, strict=False):
            attended = _attended_in_groups(block, projected(block, x), first, seen)
            x = feed_forward(block, x + residual(block, attended), self.activation)
        projections = torch.cat([begun[-1], projected(self.blocks[-1], x, first=1)], dim=1)
        places = _places(ends, length)
        seen = _seen_in_row(before, count, length).to(x)[before + places]
        return self._read(x.take_along_dim(places[..., None], 1), projections, seen)

    def _read(self, readers: Tensor, projections: Tensor, seen: Tensor) -> Tensor:
        """Tokens [G, K, W] as they leave the last block.

        Args:
            readers: [G, K, W] as they enter it.
            projections: [G, N, 2 W] keys and values of their rows.
            seen: [G, K, N] what each reader sees, see `_seen_in_row`.
        """
        keys, values = by_head(self.blocks[-1], projections)
        return read_some(self.blocks[-1], readers, keys, values, self.activation, seen[:, None])

    def _with_deep_tokens(self, x: Tensor, number: int) -> Tensor:
        """What block `number` sees of [P, T, W]: positions 1..n overwritten by its set."""
        if not 2 <= number <= len(self.deep_tokens) + 1:
            return x
        deep = self.deep_tokens[number - 2].to(x.dtype).expand(len(x), -1, -1)
        return torch.cat([x[:, :1], deep, x[:, 1 + deep.shape[1] :]], dim=1)


def _attended_in_groups(block: Any, projections: Tensor, first: Tensor, seen: Tensor) -> Tensor:
    """What all heads attended to, [G, N, W], each token in its group and in the row's beginning.

    So the work grows with a row and not with its square.

    Args:
        block: of the tower.
        projections: [G, N, 3 W] of rows.
        first: [G, T', 2 W] keys and values of their beginnings.
        seen: [T, T' + T] of a group of T tokens, see `_seen_in_row`.
    """
    width = block.attn.embed_dim
    groups = projections.reshape(len(projections), -1, len(seen), 3 * width)
    queries, own = torch.split(groups, [width, 2 * width], dim=-1)
    before = first[:, None].expand(-1, groups.shape[1], -1, -1)
    (query,) = by_head(block, queries.flatten(0, 1))
    key, value = by_head(block, torch.cat([before, own], dim=2).flatten(0, 1))
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
    return of_all_heads(attended).reshape(*projections.shape[:2], width)


@lru_cache(maxsize=64)
def _seen_in_row(begun: int, count: int, length: int) -> Tensor:
    """[N, N], N = T' + K T: 0 where a token sees another one, minus infinity elsewhere.

    Each token sees what is before it in the beginning and in its own prompt.

    Args:
        begun: T', tokens of the beginning.
        count: K, the prompts after it.
        length: T, tokens of each.
    """
    own = torch.kron(torch.eye(count), torch.ones(length, length))
    row = F.pad(own, (begun, 0, begun, 0), value=1).tril()
    return torch.zeros_like(row).masked_fill(row == 0, -math.inf)


def _places(ends: Tensor, length: int) -> Tensor:
    """Places [G, K] in a row of prompts of so many tokens that stand for positions [G, K]."""
    return ends + length * torch.arange(ends.shape[1], device=ends.device)


def _rows(x: Tensor, positions: Tensor) -> Tensor:
    """The token [P, 1, W] of each prompt [P, T, W] at its position [P]."""
    return x.gather(1, positions[:, None, None].expand(-1, 1, x.shape[-1]))


def _up_to(ends: Tensor, length: int) -> Tensor:
    """[P, 1, 1, T]: which of `length` positions come no later than the position [P]."""
    return (torch.arange(length, device=ends.device) <= ends[:, None])[:, None, None]
