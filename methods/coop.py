"""CoOp: learned context words before "normal bottle" and "anomalous bottle".

Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, with the two states in
front of the class name, as in AnomalyCLIP's comparison. Its context has 12 tokens there, as the
parameter count of FAPrompt's Table 6 says, not the 16 of CoOp itself. "official" is CoOp's own
recipe: image-level cross-entropy alone, ordinary patch tokens, whose maps are worse than chance as
CLIP's are. "vv" puts the same prompts on AnomalyCLIP's visual path and losses, which the printed
pixel-level numbers on SDD and AITEX point to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.backbone import Backbone, TokenSpec
from ..bench.method import Options, Prediction, Query, Schedule, TrainableMethod
from ._losses import image_entropy, map_loss
from ._maps import smooth, state_probabilities, upsample
from ._prompt_learner import Frame, FrozenText, encode_prompts, learned_tokens, make_frame
from ._value_path import value_specs

STATES = ("normal", "anomalous")
CLIP_TEMPERATURE = 0.01  # CLIP's own logit scale, 100
SHARED_TEMPERATURE = 0.07  # AnomalyCLIP's
LOCAL_WEIGHT = 4.0  # AnomalyCLIP's


@dataclass(frozen=True)
class CoopOptions(Options):
    """Options of CoOp.

    Attributes:
        n_context: learned tokens, shared by both states and all classes.
        value_path: V-V patch tokens, and the class token without ln_post, as AnomalyCLIP has them.
        temperature: of the image-level score and loss.
        map_temperature: of the patch probabilities.
        local_weight: of the pixel-level losses; 0 learns from image labels alone.
        optimizer, epochs, batch_size, lr: of training.
    """

    n_context: int = 12
    value_path: bool = False
    temperature: float = CLIP_TEMPERATURE
    map_temperature: float = SHARED_TEMPERATURE
    local_weight: float = 0.0
    optimizer: Literal["sgd", "adam"] = "sgd"
    epochs: int = 50
    batch_size: int = 8
    lr: float = 0.002


ON_VALUE_PATH = CoopOptions(
    value_path=True,
    temperature=SHARED_TEMPERATURE,
    local_weight=LOCAL_WEIGHT,
    optimizer="adam",
    epochs=15,
    lr=1e-3,
)


class CoOp(TrainableMethod):
    """One learned context for all classes and both states."""

    title = "CoOp"
    sigma: ClassVar[float] = 4.0
    variants: ClassVar[Mapping[str, Options]] = {"official": CoopOptions(), "vv": ON_VALUE_PATH}
    published_parameters = 9_216
    official_key = "state_dict"
    ignored_official = ("token_prefix", "token_suffix")

    def __init__(self, backbone: Backbone, options: CoopOptions | None = None) -> None:
        super().__init__(backbone, options)
        self.ctx = learned_tokens(self.options.n_context, self.backbone.text_width)
        self._frames: dict[str, Frame] = {}
        self._frozen = FrozenText(self)
        last = TokenSpec(self.backbone.layer(24))
        self._spec = value_specs(self.backbone)[0] if self.options.value_path else last

    @property
    def token_specs(self) -> frozenset[TokenSpec]:
        """The patch tokens of the last block, of the path that the options choose."""
        return frozenset({self._spec})

    @property
    def schedule(self) -> Schedule:
        """CoOp's: SGD along a cosine after one slow epoch; or AnomalyCLIP's Adam."""
        chosen: CoopOptions = self.options
        if chosen.optimizer == "adam":
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

    # -- prompts ------------------------------------------------------------------------------

    def frame(self, class_name: str) -> Frame:
        """Both prompts of a class around the places of the context."""
        if class_name not in self._frames:
            words = class_name.replace("_", " ")
            endings = [f"{state} {words}." for state in STATES]
            self._frames[class_name] = make_frame(self.backbone, len(self.ctx), endings)
        return self._frames[class_name]

    def text_features(self, query: Query) -> Tensor:
        """[B, 2, D] normalised text features, (normal, abnormal), one encoding a class."""
        names = list(dict.fromkeys(query.class_names))
        if torch.is_grad_enabled():
            features = self._encode(names)  # [U, 2, D]
        else:
            kept = [self._frozen.get(n, lambda n=n: self._encode([n])[0]) for n in names]  # type: ignore[misc]
            features = torch.stack(kept)
        return features[[names.index(name) for name in query.class_names]]

    def _encode(self, class_names: Sequence[str]) -> Tensor:
        prompts = [self.frame(name).fill(self.ctx) for name in class_names]
        features = encode_prompts(self.backbone, prompts)
        return F.normalize(features, dim=-1).reshape(len(class_names), len(STATES), -1)

    # -- features, score, map -------------------------------------------------------------------

    def class_token(self, query: Query) -> Tensor:
        """[B, D] class tokens of the path that the options choose."""
        features = query.features
        return features.class_token_no_ln if self.options.value_path else features.class_token

    def _patch_probabilities(self, query: Query, text: Tensor) -> Tensor:
        """[B, L, 2]."""
        tokens = self.backbone.project(query.features.tokens[self._spec])
        return state_probabilities(tokens, text, self.options.map_temperature)

    def predict(self, query: Query) -> Prediction:
        """Score from the class token, map from the patch tokens."""
        text = self.text_features(query)
        scores = state_probabilities(self.class_token(query), text, self.options.temperature)
        patches = self._patch_probabilities(query, text)[..., 1]
        maps = upsample(patches, query.features.grid, self.map_size)
        return Prediction(scores[:, 1], smooth(maps, self.smoothing_sigma))

    def loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Image-level cross-entropy, and where the options weigh them the pixel-level losses."""
        text = self.text_features(query)
        image = image_entropy(self.class_token(query), text, labels, self.options.temperature)
        if not self.options.local_weight:
            return {"image": image, "total": image}
        patches = self._patch_probabilities(query, text)
        local = map_loss([patches], query.features.grid, self.map_size, masks)
        total = image + self.options.local_weight * local.total
        return {"image": image, **local.terms(), "total": total}
