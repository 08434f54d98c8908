"""FAPrompt: many learned abnormal prompts built on one normal prompt, refined by each image.

"Fine-grained Abnormality Prompt Learning for Zero-shot Anomaly Detection" (FAPrompt, Zhu et al.),
and the released code (mala-lab/FAPrompt). Compound abnormality prompts (CAP): the normal prompt's
tokens, then a few of an abnormal prompt's own, K times; they are kept apart by an orthogonality
loss, and their mean is the abnormal prototype. Data-dependent abnormality prior (DAP): the image's
most abnormal patches give one vector that is added to the abnormal tokens, so that the prompts are
encoded again for every image. Options, ablations and what the released code does are in
`_faprompt_variants.py`.

Axes: B images, L patch tokens, D embedding, W text width, K abnormal prompts.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.anomaly_maps import prompt_probabilities, state_probabilities, upsample_smoothed
from ..bench.backbone import Backbone, TokenSpec
from ..bench.errors import UsageError
from ..bench.method import Options, Prediction, Query, Schedule, TrainableMethod
from ..bench.prompt_learner import (
    FrozenText,
    MetaNet,
    Prompts,
    encode_prompts,
    learned_prompt,
    learned_tokens,
    make_frame,
)
from ._faprompt_variants import VARIANTS, FaPromptOptions, best_probabilities
from ._half_precision import deep_tokens
from ._losses import binary_focal_loss, image_entropy, map_loss, orthogonality_loss
from ._stored_prompts import DEAD_TENSORS, other_stored_prompts
from ._value_path import value_specs


@dataclass(frozen=True)
class Output:
    """What one pass over an image batch gives, with one set of prompts.

    Attributes:
        text: [2, D] or [B, 2, D] normalised (normal, abnormal prototype).
        patches: [B, L, 2] probabilities.
        image: [B] abnormal probability of the class token.
    """

    text: Tensor
    patches: Tensor
    image: Tensor


class FaPrompt(TrainableMethod):
    """Compound abnormality prompts with a data-dependent abnormality prior."""

    title = "FAPrompt"
    sigma = 10.0
    class_aware = False
    variants: ClassVar[Mapping[str, Options]] = VARIANTS
    default_variant = "paper"
    mean_over_images = True
    published_parameters = 9_612_256  # 5,512,192 of them in layers that the code never calls
    official_key = "prompt_learner"
    ignored_official = DEAD_TENSORS
    evaluation_options = frozenset({"prototype"})  # "best" learns as "mean"; "weighted" has a net
    options: FaPromptOptions

    def __init__(self, backbone: Backbone, options: FaPromptOptions | None = None) -> None:
        super().__init__(backbone, options)
        chosen = self.options
        chosen.check()
        width, inputs = self.backbone.text_width, chosen.n_selected * self.backbone.embed_dim
        normal, abnormal = chosen.own_tokens
        self.ctx_pos = learned_tokens(1, 1, normal, width)
        self.ctx_neg = learned_tokens(1, chosen.count, abnormal, width)
        if chosen.dap:
            self.patch_meta_net = MetaNet(inputs, width)
            if chosen.prototype == "weighted":
                self.weight_meta_net = MetaNet(inputs, chosen.count)
        self.compound_prompts_text = deep_tokens(
            self.backbone, chosen.deep_length, chosen.deep_depth, chosen.half_deep_tokens
        )
        self._normal, self._abnormal = (
            make_frame(self.backbone, count, [ending]) for _, count, ending in chosen.fixed
        )
        self._frozen = FrozenText(self)
        (self._spec,) = value_specs(self.backbone)

    def other_prompts(self, state: Mapping[str, Any]) -> str:
        """See `TrainableMethod`; by the tokens and embeddings that the released code stores."""
        return other_stored_prompts(self.backbone, state, self.options.fixed)

    @property
    def prompts(self) -> list[str]:
        """The normal one and, once for all K, the abnormal one."""
        return [learned_prompt(count, ending) for _, count, ending in self.options.fixed]

    @property
    def token_specs(self) -> frozenset[TokenSpec]:
        """V-V tokens of the last block."""
        return frozenset({self._spec})

    @property
    def schedule(self) -> Schedule:
        """Adam at a constant rate; the paper's 7 epochs, which the released test script loads."""
        return Schedule(self.options.epochs, self.options.batch_size, self.options.lr)

    # -- prompts ------------------------------------------------------------------------------

    def _abnormal_context(self, prior: Tensor | None = None) -> Tensor:
        """Tokens of the abnormal prompts, [K, n, W], or [B, K, n, W] with a prior [B, W]."""
        own = self.ctx_neg[0] if prior is None else self.ctx_neg + prior[:, None, None]
        if not self.options.cap:
            return own
        shared = self.ctx_pos[0].expand(*own.shape[:-2], -1, -1)
        return torch.cat([shared, own], dim=-2)

    def prior_free_features(self) -> Tensor:
        """[1 + K, D] of the normal and the abnormal prompts."""
        return self._prior_free()[0]

    def _prior_free(self) -> tuple[Tensor, list[Tensor]]:
        """Those features, and what prompts begin with; computed once while frozen."""
        prompts = [
            self._normal.fill(self.ctx_pos[0]),
            self._abnormal.fill(self._abnormal_context()),
        ]

        def encode() -> tuple[Tensor, list[Tensor]]:
            begun: list[Tensor] = []
            return self._encode(prompts, begun), begun

        return self._frozen.get("", encode)

    def _encode(self, prompts: list[Prompts], begun: list[Tensor]) -> Tensor:
        """All prompts in one forward; their common beginning is computed once in both passes."""
        chosen = self.options
        shared = 1 + chosen.n_normal if chosen.cap and chosen.deep_length <= chosen.n_normal else 0
        deep = self.compound_prompts_text
        return encode_prompts(self.backbone, prompts, deep, shared, begun=begun)

    def _encode_refined(self, normal: Tensor, prior: Tensor, begun: list[Tensor]) -> Tensor:
        """[B, 1 + K, D] of all images' prompts, in one forward; the normal one's are given.

        Where prompts are kept apart, as released, the normal one is encoded again for each image.
        """
        count = len(prior)
        prompts = [self._abnormal.fill(self._abnormal_context(prior))]
        again = self.compound_prompts_text.prompts_apart
        if again:
            prompts.append(self._normal.fill(self.ctx_pos[0].expand(count, 1, -1, -1)))
        features = self._encode(prompts, begun)
        abnormal = features[: count * self.options.count].reshape(count, self.options.count, -1)
        normals = features[-count:, None] if again else normal.expand(count, 1, -1)
        return torch.cat([normals, abnormal], dim=1)

    # -- images -------------------------------------------------------------------------------

    def _patches(self, query: Query) -> Tensor:
        """[B, L, D] normalised V-V patch features."""
        patches = self.backbone.project(query.features.tokens[self._spec])
        return F.normalize(patches, dim=-1, out=patches)

    def _pass(
        self, query: Query, patches: Tensor, features: Tensor, weights: Tensor | None = None
    ) -> Output:
        """Compare images with text features [1 + K, D] or [B, 1 + K, D], not normalised."""
        normal, abnormal = features[..., :1, :], features[..., 1:, :]
        mean = abnormal.mean(dim=-2, keepdim=True)
        prototype = mean if weights is None else weights[:, None] @ abnormal
        text = F.normalize(torch.cat([normal, prototype], dim=-2), dim=-1)
        class_token, temperature = query.features.class_token_no_ln, self.options.temperature
        if self.options.prototype == "best" and not torch.is_grad_enabled():
            image = best_probabilities(class_token, features, temperature)
            local = best_probabilities(patches, features, temperature)
        else:
            image = state_probabilities(class_token, text, temperature)
            local = state_probabilities(patches, text, temperature, normalised=True)
        return Output(text, local, image[:, 1])

    def select(self, patches: Tensor, probabilities: Tensor) -> Tensor:
        """[B, n_selected * D] of patches [B, L, D]: the most abnormal [B, L] ones, in that order.

        Raises:
            UsageError: the image has fewer patches than are to be selected.
        """
        count = self.options.n_selected
        if count > patches.shape[1]:
            raise UsageError(
                f"n_selected={count} of {self.title} exceeds the {patches.shape[1]} patches of an "
                "image: choose fewer or larger images"
            )
        if self.options.selection == "first":  # as released
            return patches[:, :count].flatten(1)
        index = probabilities.topk(count, dim=1).indices
        return patches.take_along_dim(index[..., None], dim=1).flatten(1)

    def _forward(self, query: Query) -> tuple[list[Output], Tensor, Tensor | None]:
        """One pass or two, the prior-free features [1 + K, D] and the priors [B, W]."""
        (features, begun), patches = self._prior_free(), self._patches(query)
        first = self._pass(query, patches, features)
        if not self.options.dap:
            return [first], features, None
        selected = self.select(patches, first.patches[..., 1].detach())
        prior = self.patch_meta_net(selected)
        weights = None
        if self.options.prototype == "weighted":
            weights = self.weight_meta_net(selected).softmax(dim=-1)
        refined = self._encode_refined(features[:1], prior, begun)
        return [first, self._pass(query, patches, refined, weights)], features, prior

    def _scores(self, passes: list[Output]) -> Tensor:
        """[B] half the class token's probability, half the maps' maxima."""
        weights = self.options.max_weights if len(passes) == 2 else (1.0,)
        maxima = [w * p.patches[..., 1].amax(dim=1) for w, p in zip(weights, passes, strict=True)]
        return 0.5 * (passes[-1].image + torch.stack(maxima).sum(dim=0) / sum(weights))

    def predict(self, query: Query) -> Prediction:
        """Score from class token and map maxima; map as the mean of both passes."""
        passes, _, _ = self._forward(query)
        patches = torch.stack([p.patches[..., 1] for p in passes]).mean(dim=0)  # [B, L]
        grid, size, sigma = query.features.grid, self.map_size, self.smoothing_sigma
        return Prediction(self._scores(passes), upsample_smoothed(patches, grid, size, sigma))

    def prompt_maps(self, query: Query) -> Tensor:
        """[B, K, L] of each prior-free abnormal prompt against the normal one."""
        patches, prompts = self._patches(query), self.prior_free_features()
        return prompt_probabilities(patches, prompts, self.options.temperature)

    # -- learning -----------------------------------------------------------------------------

    def loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Pixel-level losses of each pass, image-level ones, orthogonality, and the prior."""
        chosen = self.options
        passes, features, prior = self._forward(query)
        weighted: list[tuple[str, float, Tensor]] = []
        names = (("", chosen.local_weight), ("_refined", chosen.refined_local_weight))
        for (suffix, weight), output in zip(names, passes, strict=False):
            local = map_loss(output.patches[..., 1], query.features.grid, self.map_size, masks)
            weighted += [(name, weight, term) for name, term in local.terms(suffix).items()]
        entropy = image_entropy(
            query.features.class_token_no_ln, passes[-1].text, labels, chosen.temperature
        )
        focal = binary_focal_loss(self._scores(passes), labels, as_logits=chosen.focal_as_logits)
        weighted += [
            ("image_entropy", chosen.entropy_weight, entropy),
            ("image_focal", chosen.focal_weight, focal),
        ]
        if chosen.cap:
            orthogonality = orthogonality_loss(features[1:])
            weighted += [("orthogonality", chosen.overlap_weight, orthogonality)]
        if prior is not None:
            squares = prior.square()
            size = squares.sum(dim=1) if chosen.prior_reduction == "sum" else squares.mean(dim=1)
            summed = (size * (labels == 0)).sum() * (query.batch_size / len(labels))
            weighted += [("prior", chosen.prior_weight, summed)]
        total = torch.stack([weight * term for _, weight, term in weighted if weight]).sum()
        return {**{name: term for name, _, term in weighted}, "total": total}
