"""AnomalyCLIP: one learned pair of prompts, "object" and "damaged object", for all objects.

Zhou et al., "AnomalyCLIP: Object-agnostic Prompt Learning for Zero-shot Anomaly Detection", ICLR
2024, and the released code (zqhang/AnomalyCLIP), which differs from the text: deep tokens overwrite
the prompt's instead of lengthening it, and all published numbers come from the last layer alone.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.anomaly_maps import prompt_probabilities, state_probabilities, upsample_smoothed
from ..bench.backbone import Backbone
from ..bench.method import Options, Prediction, Query, Schedule, TrainableMethod
from ..bench.prompt_learner import (
    FrozenText,
    encode_prompts,
    learned_prompt,
    learned_tokens,
    make_frame,
)
from ._half_precision import deep_tokens
from ._losses import image_entropy, map_loss, orthogonality_loss
from ._stored_prompts import DEAD_TENSORS, other_stored_prompts
from ._value_path import value_specs

NORMAL_ENDING = "object."
ABNORMAL_ENDING = "damaged object."


@dataclass(frozen=True)
class AnomalyClipOptions(Options):
    """What can be asked of AnomalyCLIP; the defaults are those of the released scripts.

    Attributes:
        n_context: learned tokens of each prompt.
        n_prompts: abnormal prompts, each with tokens of its own; their mean is the abnormal
            state. The released code has one; see `anomalyclip_ensemble`.
        deep_length: tokens of a deep set.
        deep_depth: text blocks of 12 that see learned tokens; 1 is none but the prompt's.
        half_deep_tokens: deep tokens and their gradients pass half precision, as released.
        layers: V-V layers of 24 whose maps are summed. The released code kept four that had all
            become the last one, and since its correction uses (24,).
        class_token_ln: class token through ln_post; the released code leaves it out.
        temperature: of the softmax over the two states.
        local_weight: of the pixel-level losses.
        overlap_weight: of FAPrompt's orthogonality loss, where there are several prompts.
        epochs, batch_size, lr: of training.
    """

    n_context: int = 12
    n_prompts: int = 1
    deep_length: int = 4
    deep_depth: int = 9
    half_deep_tokens: bool = True
    layers: Sequence[int] = (24,)
    class_token_ln: bool = False
    temperature: float = 0.07
    local_weight: float = 4.0
    overlap_weight: float = 0.0
    epochs: int = 15
    batch_size: int = 8
    lr: float = 1e-3


class AnomalyClip(TrainableMethod):
    """Two object-agnostic prompts and deep text tokens, learned on V-V patch tokens."""

    title = "AnomalyCLIP"
    sigma = 4.0
    class_aware = False
    variants: ClassVar[Mapping[str, Options]] = {
        "official": AnomalyClipOptions(),
        "paper": AnomalyClipOptions(half_deep_tokens=False),
    }
    default_variant = "official"
    published_parameters = 5_555_200  # 5,512,192 of them in layers that the code never calls
    official_key = "prompt_learner"
    ignored_official = DEAD_TENSORS
    mean_over_images = True
    options: AnomalyClipOptions

    def __init__(self, backbone: Backbone, options: AnomalyClipOptions | None = None) -> None:
        super().__init__(backbone, options)
        chosen = self.options
        width = self.backbone.text_width
        self.ctx_pos = learned_tokens(1, 1, chosen.n_context, width)
        self.ctx_neg = learned_tokens(1, chosen.n_prompts, chosen.n_context, width)
        self.compound_prompts_text = deep_tokens(
            self.backbone, chosen.deep_length, chosen.deep_depth, chosen.half_deep_tokens
        )
        self._normal = make_frame(self.backbone, chosen.n_context, [NORMAL_ENDING])
        self._abnormal = make_frame(self.backbone, chosen.n_context, [ABNORMAL_ENDING])
        self._frozen = FrozenText(self)
        self.specs = value_specs(self.backbone, chosen.layers)

    def other_prompts(self, state: Mapping[str, Any]) -> str:
        """See `TrainableMethod`; by the tokens and embeddings that the released code stores."""
        count = self.options.n_context
        fixed = (("pos", count, NORMAL_ENDING), ("neg", count, ABNORMAL_ENDING))
        return other_stored_prompts(self.backbone, state, fixed)

    @property
    def prompts(self) -> list[str]:
        """The normal and the abnormal one."""
        endings = (NORMAL_ENDING, ABNORMAL_ENDING)
        return [learned_prompt(self.options.n_context, ending) for ending in endings]

    @property
    def schedule(self) -> Schedule:
        """Adam at a constant rate; the last epoch counts."""
        return Schedule(self.options.epochs, self.options.batch_size, self.options.lr)

    def raw_features(self) -> Tensor:
        """[1 + K, D] of the normal and the abnormal prompts; computed once while frozen."""
        return self._frozen.get("", self._encode)

    def _encode(self) -> Tensor:
        """All prompts in one forward."""
        prompts = [self._normal.fill(self.ctx_pos[0]), self._abnormal.fill(self.ctx_neg[0])]
        return encode_prompts(self.backbone, prompts, self.compound_prompts_text)

    def text_features(self) -> Tensor:
        """[2, D] normalised text features, (normal, abnormal)."""
        return state_features(self.raw_features())

    def _class_token(self, query: Query) -> Tensor:
        features = query.features
        return features.class_token if self.options.class_token_ln else features.class_token_no_ln

    def _patch_probabilities(self, query: Query, text: Tensor) -> list[Tensor]:
        """[B, L, 2] of each layer."""
        tokens = [self.backbone.project(query.features.tokens[spec]) for spec in self.specs]
        return [state_probabilities(t, text, self.options.temperature) for t in tokens]

    def predict(self, query: Query) -> Prediction:
        """Score from the class token; map from the V-V tokens, summed over layers."""
        text = self.text_features()
        scores = state_probabilities(self._class_token(query), text, self.options.temperature)
        layers = [p[..., 1] for p in self._patch_probabilities(query, text)]
        patches = torch.stack(layers).sum(dim=0)  # [B, L]; upsampling is linear
        grid, size, sigma = query.features.grid, self.map_size, self.smoothing_sigma
        return Prediction(scores[:, 1], upsample_smoothed(patches, grid, size, sigma))

    def prompt_maps(self, query: Query) -> Tensor:
        """[B, K, L] of each abnormal prompt against the normal one, mean over layers."""
        prompts, temperature = self.raw_features(), self.options.temperature
        tokens = [self.backbone.project(query.features.tokens[spec]) for spec in self.specs]
        layers = [prompt_probabilities(t, prompts, temperature) for t in tokens]
        return torch.stack(layers).mean(dim=0)

    def loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the class token, and `local_weight` times the pixel-level losses."""
        features = self.raw_features()
        text = state_features(features)
        image = image_entropy(self._class_token(query), text, labels, self.options.temperature)
        layers = [patches[..., 1] for patches in self._patch_probabilities(query, text)]
        local = reduce(
            add, (map_loss(p, query.features.grid, self.map_size, masks) for p in layers)
        )
        terms = {"image": image, **local.terms()}
        total = image + self.options.local_weight * local.total
        if self.options.overlap_weight:
            terms["orthogonality"] = orthogonality_loss(features[1:])
            total = total + self.options.overlap_weight * terms["orthogonality"]
        return {**terms, "total": total}


def state_features(features: Tensor) -> Tensor:
    """[1 + K, D] raw features of prompts -> [2, D] normalised, (normal, mean abnormal)."""
    abnormal = features[1:].mean(dim=0, keepdim=True)
    return F.normalize(torch.cat([features[:1], abnormal]), dim=-1)
