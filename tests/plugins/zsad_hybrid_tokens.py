"""A plug-in outside of the project: tokens in the visual tower, partly made from the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from zsad.bench.anomaly_maps import smooth, state_probabilities, upsample
from zsad.bench.backbone import TokenSpec
from zsad.bench.method import ExtraWork, Options, Prediction, Schedule, TrainableMethod
from zsad.bench.prompt_learner import InsertedTokens
from zsad.bench.prompts import encode_states


@dataclass(frozen=True)
class HybridTokensOptions(Options):
    """What can be asked of it: tokens, blocks that they are put before, and epochs."""

    n_tokens: int = 4
    depth: int = 3
    epochs: int = 2


class HybridTokens(TrainableMethod):
    """Learned tokens before each of the first blocks, plus a linear function of the image."""

    title = "Hybrid tokens"
    needs_images = True
    variants: ClassVar = {
        "official": HybridTokensOptions(),
        "shallow": HybridTokensOptions(depth=1),
    }
    options: HybridTokensOptions

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        shape = (self.options.depth, self.options.n_tokens, backbone.width)
        self.tokens = nn.Parameter(0.02 * torch.randn(*shape))
        self.from_image = nn.Linear(backbone.embed_dim, backbone.width)
        self.text = encode_states(backbone, ["a flawless object"], ["a damaged object"], True)

    @classmethod
    def extra_work_of(cls, options):
        return ExtraWork(1)

    @property
    def schedule(self):
        return Schedule(epochs=self.options.epochs, batch_size=8, lr=1e-3)

    def loss(self, query, labels, masks):
        loss = F.binary_cross_entropy(self._maps(query), masks)
        return {"pixel": loss, "total": loss}

    def predict(self, query):
        maps = smooth(self._maps(query), self.smoothing_sigma)
        return Prediction(maps.amax(dim=(1, 2)), maps)

    def _maps(self, query):
        added = self.from_image(query.features.class_token)[:, None]  # [B, 1, W]
        inserted = InsertedTokens([added + tokens for tokens in self.tokens])
        last = TokenSpec(self.backbone.depth)
        features = self.backbone.forward_image(
            query.images, [last], before=inserted, checkpointing=self.training
        )
        patches = self.backbone.project(features.tokens[last])
        probabilities = state_probabilities(patches, self.text, 0.07)[..., 1]  # [B, L]
        return upsample(probabilities, features.grid, self.map_size)
