"""Learned prompts that end in the class name: what CoOp, CoCoOp and TCP have in common.

Axes: B images, L patch tokens, D embedding, W text width, n learned tokens.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.anomaly_maps import state_probabilities, upsample_smoothed
from ..bench.backbone import Backbone, TokenSpec
from ..bench.method import Options, Prediction, Query, Schedule, TrainableMethod
from ..bench.prompt_learner import (
    Frame,
    FrozenText,
    frame_of,
    learned_prompt,
    learned_tokens,
    placeholder_ids,
)
from ._losses import image_entropy, map_loss
from ._stored_prompts import other_class_prompts
from ._value_path import value_specs

LAST = 24  # of ViT-L/14's 24 blocks


@dataclass(frozen=True)
class ClassPromptOptions(Options):
    """What can be asked of a method with learned class prompts.

    CoOp's are the defaults of path, temperature, loss, optimiser, rate and its schedule, and the
    number of epochs for one shot. Not CoOp's are twelve tokens (16 in its code), a batch of 8 (32)
    and training without augmentation; see docs/fidelity.md.

    Attributes:
        n_context: learned tokens, shared by both states and all classes.
        value_path: read the V-V path and the class token without ln_post, as AnomalyCLIP does,
            instead of CLIP's own path.
        temperature: of the image-level softmax; None is the backbone's own logit scale, which
            CoOp uses (0.01 of CLIP's released weights).
        map_temperature: of the patches' softmax.
        local_weight: of AnomalyCLIP's pixel-level losses; 0 learns from image labels alone.
        recipe: "sgd" with a cosine and a warm-up epoch (CoOp), or "adam" (AnomalyCLIP).
        epochs, batch_size, lr: of training.
    """

    n_context: int = 12
    value_path: bool = False
    temperature: float | None = None
    map_temperature: float = 0.07
    local_weight: float = 0.0
    recipe: Literal["sgd", "adam"] = "sgd"
    epochs: int = 50
    batch_size: int = 8
    lr: float = 0.002


# As AnomalyCLIP learns and reads.
ON_VALUE_PATH = ClassPromptOptions(
    value_path=True,
    temperature=0.07,
    local_weight=4.0,
    recipe="adam",
    epochs=15,
    lr=1e-3,
)


class ClassPromptLearner(TrainableMethod):
    """Base of methods whose text features come from learned tokens and the class name.

    CoOp's released code stores the prompt learner alone ("ctx"); codes built on it that store it
    as a part of their model write "prompt_learner.ctx".
    """

    official_key = "state_dict"
    official_prefix = "prompt_learner."
    ignored_official = ("token_prefix", "token_suffix")
    endings: tuple[str, str]
    """The fixed words of both states, {} for the class name."""
    mean_over_images = True
    options: ClassPromptOptions

    def __init__(self, backbone: Backbone, options: ClassPromptOptions | None = None) -> None:
        super().__init__(backbone, options)
        chosen = self.options
        self.ctx = learned_tokens(chosen.n_context, self.backbone.text_width)
        self._ids: dict[str, Tensor] = {}  # [2, 77] of each class name
        self.frozen = FrozenText(self)
        plain = TokenSpec(self.backbone.layer(LAST))
        self._spec = value_specs(self.backbone)[0] if chosen.value_path else plain
        self.specs = (self._spec,)

    @property
    def schedule(self) -> Schedule:
        """CoOp's SGD with warm-up and cosine, or AnomalyCLIP's Adam."""
        chosen = self.options
        if chosen.recipe == "adam":
            return Schedule(chosen.epochs, chosen.batch_size, chosen.lr)
        return Schedule(
            chosen.epochs,
            chosen.batch_size,
            chosen.lr,
            optimizer="sgd",
            weight_decay=5e-4,
            cosine=True,
            warmup_epochs=1,
        )

    @property
    def temperature(self) -> float:
        """Of the image-level softmax."""
        asked = self.options.temperature
        return 1 / float(self.backbone.model.logit_scale.exp()) if asked is None else asked

    def protocol(self) -> dict[str, Any]:
        """With the temperature that the backbone gives, in six digits.

        The last bit of a single-precision exponential depends on the processor.
        """
        return {**super().protocol(), "temperature": float(f"{self.temperature:.6g}")}

    @property
    def prompts(self) -> list[str]:
        """Of both states."""
        return [learned_prompt(self.options.n_context, ending) for ending in self.endings]

    # -- prompts ------------------------------------------------------------------------------

    @property
    def alike(self) -> int:
        """Positions in which prompts of the same learned tokens do not differ."""
        return 1 + self.options.n_context

    def other_prompts(self, state: Mapping[str, Any]) -> str:
        """See `TrainableMethod`; by the embeddings that CoOp's code stores of its prompts."""
        return other_class_prompts(self.backbone, state.get("token_suffix"), self.endings)

    def frame(self, class_names: Sequence[str]) -> Frame:
        """Two prompts for each class name, the normal one and then the abnormal one."""
        count = self.options.n_context
        for name in class_names:
            if name not in self._ids:
                word = name.replace("_", " ")
                endings = [ending.replace("{}", word) for ending in self.endings]
                self._ids[name] = placeholder_ids(self.backbone, count, endings)
        return frame_of(self.backbone, count, torch.cat([self._ids[name] for name in class_names]))

    @abstractmethod
    def text_features(self, query: Query) -> Tensor:
        """[B, 2, D] normalised text features of each image's prompts, (normal, abnormal)."""

    # -- images -------------------------------------------------------------------------------

    def class_token(self, query: Query) -> Tensor:
        """[B, D] class token, with ln_post on CLIP's own path and without on the V-V path."""
        features = query.features
        return features.class_token_no_ln if self.options.value_path else features.class_token

    def _patch_probabilities(self, query: Query, text: Tensor) -> Tensor:
        """[B, L, 2]."""
        tokens = self.backbone.project(query.features.tokens[self._spec])
        return state_probabilities(tokens, text, self.options.map_temperature)

    def predict(self, query: Query) -> Prediction:
        """Score from the class token, map from the patch tokens."""
        text = self.text_features(query)
        scores = state_probabilities(self.class_token(query), text, self.temperature)
        patches = self._patch_probabilities(query, text)[..., 1]
        grid, size, sigma = query.features.grid, self.map_size, self.smoothing_sigma
        return Prediction(scores[:, 1], upsample_smoothed(patches, grid, size, sigma))

    def loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """See `terms`."""
        return self.terms(query, self.text_features(query), labels, masks)

    def terms(self, query: Query, text: Tensor, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the class token and, where they have a weight, pixel-level losses.

        Args:
            query: as in `loss`.
            text: [B, 2, D] text features.
            labels: as in `loss`.
            masks: as in `loss`.
        """
        image = image_entropy(self.class_token(query), text, labels, self.temperature)
        weight = self.options.local_weight
        if not weight:
            return {"image": image, "total": image}
        patches = self._patch_probabilities(query, text)
        local = map_loss(patches[..., 1], query.features.grid, self.map_size, masks)
        return {"image": image, **local.terms(), "total": image + weight * local.total}


def unit_states(features: Tensor) -> Tensor:
    """[2 * names, D] raw features, states alternating -> [names, 2, D] normalised."""
    return F.normalize(features, dim=-1).reshape(-1, 2, features.shape[-1])
