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

Attention = Literal["own", "value", "value_batch"]
BlockHook = Callable[[int, Tensor], Tensor]
"""A callback before or after blocks: (block number from 1, tokens [B, T, W]) -> tokens."""


def heads(block: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of tokens [B, T, W], each [B, heads, T, W / heads]."""
    attention = block.attn
    packed = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    packed = packed.reshape(*x.shape[:2], 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = packed.unbind(0)
    return query, key, value


def merged(block: Any, attended: Tensor) -> Tensor:
    """The residual [B, T, W] of what the heads [B, heads, T, W / heads] attended to."""
    residual: Tensor = block.ls_1(block.attn.out_proj(attended.transpose(1, 2).flatten(2)))
    return residual


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
    hidden = block.mlp.c_fc(block.ln_2(x))
    if activation == "quick_gelu":
        hidden = hidden * torch.sigmoid(1.702 * hidden)
    else:
        hidden = F.gelu(hidden)
    result: Tensor = x + block.ls_2(block.mlp.c_proj(hidden))
    return result
