"""CoCoOp: CoOp whose context words are shifted by each image.

Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022: a small network
turns the image's class token into a vector that is added to every context token. Variant "paper" is
our reading of the FAPrompt paper's rows, whose pixel-level numbers CoCoOp's own recipe cannot give:
the prompts inside AnomalyCLIP's trainer, on V-V patch tokens. "official" is CoCoOp's recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.backbone import Backbone
from ..bench.method import Options, Query
from ._prompt_learner import MetaNet, encode_prompts
from .coop import ON_VALUE_PATH, STATES, CoOp, CoopOptions


class CoCoOp(CoOp):
    """A context for each image."""

    title = "CoCoOp"
    variants: ClassVar[Mapping[str, Options]] = {
        "paper": ON_VALUE_PATH,
        "official": replace(CoopOptions(), epochs=10, batch_size=1),
    }
    default_variant = "paper"
    published_parameters = 83_760

    def __init__(self, backbone: Backbone, options: CoopOptions | None = None) -> None:
        super().__init__(backbone, options)
        self.meta_net = MetaNet(self.backbone.embed_dim, self.backbone.text_width)

    def text_features(self, query: Query) -> Tensor:
        """[B, 2, D] normalised text features of each image, all images in one encoding."""
        shift = self.meta_net(F.normalize(self.class_token(query), dim=-1))  # [B, W]
        context = self.ctx + shift[:, None, None]  # [B, 1, n, W]
        members: dict[str, list[int]] = {}
        for number, name in enumerate(query.class_names):
            members.setdefault(name, []).append(number)
        prompts = [self.frame(name).fill(context[index]) for name, index in members.items()]
        features = F.normalize(encode_prompts(self.backbone, prompts), dim=-1)
        by_class = features.reshape(len(query), len(STATES), -1)
        order = torch.tensor([number for index in members.values() for number in index])
        return by_class[order.argsort()]
