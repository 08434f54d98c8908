"""Block by block through the visual tower: which tokens are kept, and what may change on the way.

Axes: B images, L patch tokens, T all tokens (the class token, the patches, and what a method put
after them), D embedding (the joint space, or the tower's width before it), W the tower's width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .backbone_spec import PosEmbed
from .blocks import (
    Attention,
    BlockHook,
    by_head,
    encode_block,
    projected,
    read_one,
)
from .errors import UsageError


class TokenSpec(NamedTuple):
    """Names one set of tokens that a method reads.

    Attributes:
        layer: the block that the tokens leave, counted from 1; 0 is the patch embeddings, which
            enter ln_pre.
        value_from: None for CLIP's own attention; k for the V-V path that branches off at block k.
        class_token: the class token [B, 1, D] of that layer, in the place of its patches.
    """

    layer: int
    value_from: int | None = None
    class_token: bool = False


@dataclass(frozen=True)
class VisualFeatures:
    """What one visual forward gives.

    Attributes:
        class_token: [B, D] class token of the last block through ln_post and the projection.
        class_token_no_ln: [B, D] the same without ln_post (AnomalyCLIP, FAPrompt).
        tokens: TokenSpec -> [B, L, D] patch tokens as they leave the block, no class token.
        grid: rows and columns of the patches, rows * columns = L.
    """

    class_token: Tensor
    class_token_no_ln: Tensor
    tokens: Mapping[TokenSpec, Tensor]
    grid: tuple[int, int]

    def select(self, specs: Iterable[TokenSpec]) -> VisualFeatures:
        """The same features with these tokens only, so that a method sees what it declared."""
        kept = {spec: self.tokens[spec] for spec in specs}
        return VisualFeatures(self.class_token, self.class_token_no_ln, kept, self.grid)

    def map(self, change: Callable[[Tensor], Tensor]) -> VisualFeatures:
        """The same features with `change` applied to every tensor (to move, cast or slice them)."""
        return VisualFeatures(
            change(self.class_token),
            change(self.class_token_no_ln),
            {spec: change(tokens) for spec, tokens in self.tokens.items()},
            self.grid,
        )

    @classmethod
    def joined(cls, parts: Sequence[VisualFeatures]) -> VisualFeatures:
        """Features of several batches, of the same tokens and grid, as those of one."""
        first = parts[0]
        return cls(
            torch.cat([part.class_token for part in parts]),
            torch.cat([part.class_token_no_ln for part in parts]),
            {spec: torch.cat([part.tokens[spec] for part in parts]) for spec in first.tokens},
            first.grid,
        )

    def __len__(self) -> int:
        return self.class_token.shape[0]


@dataclass(frozen=True)
class VisualForward:
    """How tokens go through the blocks of a visual tower.

    The class token stays first and the patches stay right after it; tokens that a callback inserts
    stand after the patches, where they are attended to as every other token is.

    Attributes:
        blocks: of the tower.
        activation: of the MLPs, "gelu" or "quick_gelu".
        before: changes what enters a block, the first one after ln_pre.
        after: changes what leaves a block.
        attention: of the blocks from `attention_from` on; those before it have CLIP's own.
        checkpointing: keep what enters a block, and compute what is inside again for the gradient.
        encode_block: one block, compiled or not.
    """

    blocks: Iterable[Any]
    activation: str
    before: BlockHook | None = None
    after: BlockHook | None = None
    attention: Attention = "own"
    attention_from: int = 1
    checkpointing: bool = False
    encode_block: Callable[..., tuple[Tensor, Tensor | None]] = encode_block

    def run(self, x: Tensor, specs: frozenset[TokenSpec]) -> tuple[Tensor, dict[TokenSpec, Tensor]]:
        """The class token [B, W] that leaves the last block, and the tokens asked for.

        Args:
            x: [B, 1 + L, W] after ln_pre.
            specs: of layers above 0; those of layer 0 are not of this function.

        Raises:
            UsageError: a callback inserted tokens where a V-V path runs, or dropped patches that
                are to be kept.
        """
        length = x.shape[1]
        kept: dict[TokenSpec, Tensor] = {}
        value_paths = {spec.value_from for spec in specs if spec.value_from is not None}
        running: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks, start=1):
            x = self._changed(self.before, number, x, value_paths, length)
            for start in value_paths:
                if start == number:
                    running[start] = x
            x, value = self._block(number, block, x, bool(running))
            if value is not None:
                # A new tensor each time: the released code added in place, and every layer
                # it had kept became the last one.
                running = {start: total + value for start, total in running.items()}
            x = self._changed(self.after, number, x, value_paths, length)
            for spec in specs:
                if spec.layer == number:
                    tokens = x if spec.value_from is None else running[spec.value_from]
                    kept[spec] = _selected(tokens, spec, length)
        return x[:, 0], kept

    def class_token(self, x: Tensor) -> Tensor:
        """The class token [B, W] that leaves the last block, of tokens [B, 1 + L, W].

        For a forward without callbacks and with CLIP's own attention, of which nothing else is
        read.
        """
        *before, last = self.blocks
        for number, block in enumerate(before, start=1):
            x, _ = self._block(number, block, x, with_value=False)
        keys, values = by_head(last, projected(last, x, first=1))
        return read_one(last, x[:, :1], keys, values, self.activation)

    def _block(
        self, number: int, block: Any, x: Tensor, with_value: bool
    ) -> tuple[Tensor, Tensor | None]:
        """What leaves a block, and the residual of V-V attention in it."""
        attention = self.attention if number >= self.attention_from else "own"

        def inside(x: Tensor) -> tuple[Tensor, Tensor | None]:
            return self.encode_block(block, x, attention, with_value, self.activation)

        if not (self.checkpointing and torch.is_grad_enabled()):
            return inside(x)
        left, value = checkpoint(inside, x, use_reentrant=False)
        return left, value

    def _changed(
        self,
        hook: BlockHook | None,
        number: int,
        x: Tensor,
        value_paths: Iterable[int],
        length: int,
    ) -> Tensor:
        """What a callback makes of the tokens."""
        if hook is None:
            return x
        changed = hook(number, x)
        if value_paths and changed.shape[1] != length:
            raise UsageError(
                f"a callback made {changed.shape[1]} tokens of {length} at block {number}, and "
                f"V-V paths from block {', '.join(map(str, sorted(value_paths)))} are read: a V-V "
                "path cannot take inserted or dropped tokens, read TokenSpec(layer) instead"
            )
        return changed


def _selected(tokens: Tensor, spec: TokenSpec, length: int) -> Tensor:
    """What a spec names of tokens [B, T, W]; `length` is 1 + L."""
    if spec.class_token:
        return tokens[:, :1]
    if tokens.shape[1] < length:
        raise UsageError(
            f"{spec} reads {length - 1} patches, and a callback left {tokens.shape[1] - 1} tokens "
            "beside the class token: keep the patches up to that layer, or do not read it"
        )
    return tokens[:, 1:length]


def resized_positions(own: Tensor, side: int, pos_embed: PosEmbed, dtype: torch.dtype) -> Tensor:
    """A positional embedding [1 + n * n, W] for `side` rows of patches: [1 + side * side, W].

    The class token's row is never resized.

    Args:
        own: as the weights have it.
        side: patches along a side.
        pos_embed: see `BackboneSpec`.
        dtype: to compute in.
    """
    native = math.isqrt(len(own) - 1)
    grid = own[1:].reshape(1, native, native, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(
        grid.to(dtype),
        size=(side, side),
        mode=pos_embed.removesuffix("_plain"),
        align_corners=False,
        antialias=pos_embed == "bicubic",
    )
    return torch.cat([own[:1], resized.flatten(2)[0].T.to(own.dtype)])
