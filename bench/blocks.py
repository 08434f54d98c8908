"""One block of a transformer tower: its attention, ordinary or among the values, and its MLP.

Both towers are made of such blocks. They are functions of open_clip's block, whose weights they
read and never change.

Axes: B images or prompts, T tokens, W width of the tower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

QUICK = 1.702  # of QuickGELU

Attention = Literal["own", "value", "value_batch"]
BlockHook = Callable[[int, Tensor], Tensor]
"""A callback before or after blocks: (block number from 1, tokens [B, T, W]) -> tokens."""


def projected(block: Any, x: Tensor, first: int = 0, last: int = 2) -> Tensor:
    """Projections of tokens [..., W] one after another, [..., n W].

    Args:
        block: of a tower.
        x: what enters it.
        first: 0 is the query, 1 the key, 2 the value.
        last: likewise, and at least `first`.
    """
    width, attention = x.shape[-1], block.attn
    rows = slice(first * width, (last + 1) * width)
    return F.linear(block.ln_1(x), attention.in_proj_weight[rows], attention.in_proj_bias[rows])


def by_head(block: Any, projections: Tensor) -> tuple[Tensor, ...]:
    """Projections [B, T, n W] of each head: n of [B, heads, T, W / heads]."""
    count = projections.shape[-1] // block.attn.embed_dim
    parts = projections.reshape(*projections.shape[:2], count, block.attn.num_heads, -1)
    return tuple(part.transpose(1, 2) for part in parts.unbind(2))


def heads(block: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of tokens [B, T, W], each [B, heads, T, W / heads]."""
    query, key, value = by_head(block, projected(block, x))
    return query, key, value


def of_all_heads(attended: Tensor) -> Tensor:
    """What the heads [B, heads, T, W / heads] attended to, one after another: [B, T, W]."""
    return attended.transpose(1, 2).flatten(2)


def residual(block: Any, attended: Tensor) -> Tensor:
    """The residual [..., W] of `of_all_heads`."""
    added: Tensor = block.ls_1(block.attn.out_proj(attended))
    return added


def merged(block: Any, attended: Tensor) -> Tensor:
    """The residual [B, T, W] of what the heads [B, heads, T, W / heads] attended to."""
    return residual(block, of_all_heads(attended))


def read_some(
    block: Any,
    readers: Tensor,
    keys: Tensor,
    values: Tensor,
    activation: str,
    mask: Tensor | None = None,
) -> Tensor:
    """Tokens of each sequence as they leave a block, of which no other ones are read.

    Args:
        block: of a tower.
        readers: [B, n, W] the tokens as they enter the block.
        keys: [B, heads, T, W / heads] of their sequences.
        values: likewise.
        activation: of the MLP.
        mask: which tokens each sees, [B, 1, n, T] bool or added to the attention's logits; None is
            all.

    Returns:
        [B, n, W].
    """
    (query,) = by_head(block, projected(block, readers, last=0))
    attended = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    return feed_forward(block, readers + merged(block, attended), activation)


def read_one(
    block: Any,
    reader: Tensor,
    keys: Tensor,
    values: Tensor,
    activation: str,
    mask: Tensor | None = None,
) -> Tensor:
    """`read_some` of one token [B, 1, W] of each sequence: [B, W]."""
    return read_some(block, reader, keys, values, activation, mask)[:, 0]


def attend(block: Any, x: Tensor, causal: bool = False) -> Tensor:
    """The residual [B, T, W] of CLIP's own attention."""
    query, key, value = heads(block, x)
    return merged(block, F.scaled_dot_product_attention(query, key, value, is_causal=causal))


def residuals(
    block: Any, x: Tensor, attention: Attention, with_value: bool
) -> tuple[Tensor, Tensor | None]:
    """The residual of an attention and, if asked for, that of V-V attention beside it.

    V-V attention takes the values for queries and keys too and shares the value and output
    projections (AnomalyCLIP's DPAM, from CLIP-Surgery).

    Args:
        block: of the visual tower.
        x: [B, T, W].
        attention: "own" is CLIP's; "value" is V-V attention among the tokens of an image;
            "value_batch" is V-V attention among the images of the batch, each token with those at
            its position (AA-CLIP's first stage, as released).
        with_value: also give the residual of "value".

    Returns:
        Both [B, T, W].
    """
    query, key, value = heads(block, x)
    if attention == "own":
        attended = F.scaled_dot_product_attention(query, key, value)
    elif attention == "value":
        attended = F.scaled_dot_product_attention(value, value, value)
    else:
        across = value.transpose(0, 2)  # [T, heads, B, W / heads]
        attended = F.scaled_dot_product_attention(across, across, across).transpose(0, 2)
    ordinary = merged(block, attended)
    if not with_value:
        return ordinary, None
    return ordinary, merged(block, F.scaled_dot_product_attention(value, value, value))


def feed_forward(block: Any, x: Tensor, activation: str) -> Tensor:
    """X + MLP(ln_2(x)) of tokens [B, T, W], with activation "gelu" or "quick_gelu"."""
    inner = _quick_gelu_mlp if activation == "quick_gelu" else _gelu_mlp
    result: Tensor = x + block.ls_2(inner(block.mlp, block.ln_2(x)))
    return result


def encode_block(
    block: Any, x: Tensor, attention: Attention, with_value: bool, activation: str
) -> tuple[Tensor, Tensor | None]:
    """What leaves a block of the visual tower, and the residual of V-V attention in it.

    Args:
        block: of the visual tower.
        x: [B, T, W].
        attention: see `residuals`.
        with_value: also give the residual of "value".
        activation: of the MLP, "gelu" or "quick_gelu".

    Returns:
        Both [B, T, W].
    """
    ordinary, value = residuals(block, x, attention, with_value)
    return feed_forward(block, x + ordinary, activation), value


def _gelu_mlp(mlp: Any, x: Tensor) -> Tensor:
    inner: Tensor = mlp.c_proj(F.gelu(mlp.c_fc(x)))
    return inner


def _quick_gelu_mlp(mlp: Any, x: Tensor) -> Tensor:
    """An MLP [..., W] with QuickGELU, y sigmoid(1.702 y) = silu(1.702 y) / 1.702.

    The factors are taken out of the wide hidden layer, which then takes one pass, not three.
    """
    wide, narrow = mlp.c_fc, mlp.c_proj
    hidden = F.silu(F.linear(QUICK * x, wide.weight, QUICK * wide.bias))
    return torch.add(narrow.bias, F.linear(hidden, narrow.weight), alpha=1 / QUICK)
