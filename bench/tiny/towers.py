"""The two towers of the built-in backbone as its training runs them: with gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbone import Backbone
from ..blocks import feed_forward, heads, merged


class Text(nn.Module):
    """The text tower; only the rows of the vocabulary that captions use are trained."""

    def __init__(self, backbone: Backbone, texts: list[str]) -> None:
        super().__init__()
        self.backbone = backbone
        self.rows: Tensor
        self.register_buffer("rows", torch.unique(backbone.tokenize(texts)))
        self.words = nn.Parameter(backbone.text.token_embedding.weight[self.rows].clone())

    def forward(self, texts: list[str]) -> Tensor:
        """[N, D], normalised."""
        ids = self.backbone.tokenize(texts)
        embedded = F.embedding(torch.searchsorted(self.rows, ids), self.words)
        features = self.backbone.encode_embeddings(embedded, ids.argmax(dim=-1))
        return F.normalize(features, dim=-1)

    @torch.no_grad()
    def store(self) -> None:
        """Write the trained rows into the backbone's vocabulary."""
        self.backbone.text.token_embedding.weight[self.rows] = self.words


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention in single precision: in half precision its gradient is slow on processors."""
    with torch.autocast(query.device.type, enabled=False):
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float())


@dataclass(frozen=True)
class Seen:
    """What the visual tower makes of a batch; all normalised."""

    image: Tensor  # [B, D]
    patches: Tensor  # [B, L, D]
    value_patches: Tensor  # [B, L, D]


def see(backbone: Backbone, images: Tensor, corner: tuple[int, int], start: int) -> Seen:
    """Encode windows [B, 3, W, W] that lie at a corner (in patches) of the positional grid."""
    visual = backbone.visual
    side = images.shape[-1] // backbone.patch_size
    positions = visual.positional_embedding
    grid = positions[1:].reshape(backbone.native_grid, backbone.native_grid, -1)
    row, column = corner
    here = grid[row : row + side, column : column + side].reshape(side * side, -1)
    patches = visual.conv1(images).flatten(2).transpose(1, 2) + here
    first = (visual.class_embedding + positions[0]).expand(len(images), 1, -1)
    x = visual.ln_pre(torch.cat([first, patches], dim=1))
    value = x
    for number, block in enumerate(visual.transformer.resblocks, start=1):
        value = x if number == start else value
        query, key, own = heads(block, x)
        if number >= start:
            value = value + merged(block, attend(own, own, own))
        x = x + merged(block, attend(query, key, own))
        x = feed_forward(block, x, backbone.own_activation)
    tokens = F.normalize((visual.ln_post(x) @ visual.proj).float(), dim=-1)
    value_tokens = F.normalize((visual.ln_post(value[:, 1:]) @ visual.proj).float(), dim=-1)
    return Seen(tokens[:, 0], tokens[:, 1:], value_tokens)
