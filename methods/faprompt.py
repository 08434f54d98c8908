"""FAPrompt: many learned abnormal prompts built on one normal prompt, refined by each image.

"Fine-grained Abnormality Prompt Learning for Zero-shot Anomaly Detection" (FAPrompt, Zhu et al.),
and the released code (mala-lab/FAPrompt). Compound abnormality prompts (CAP): the normal prompt's
tokens, then a few of an abnormal prompt's own, K times; they are kept apart by an orthogonality
loss, and their mean is the abnormal prototype. Data-dependent abnormality prior (DAP): the image's
most abnormal patches give one vector that is added to the abnormal tokens, so that the prompts are
encoded anew for every image. Paper and code differ in a dozen places: variants `paper`, `official`.

Axes: B images, L patches, D joint embedding, W text width, K abnormal prompts, M selected patches.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.anomaly_maps import prompt_probabilities, smooth, state_probabilities, upsample
from ..bench.backbone import Backbone, TokenSpec
from ..bench.errors import UsageError, unknown_name
from ..bench.method import AuxiliarySplit, Options, Prediction, Query, Schedule, TrainableMethod
from ._losses import binary_focal_loss, image_entropy, map_loss, pairwise_overlap
from ._prompt_learner import (
    DeepTokens,
    FrozenText,
    MetaNet,
    Prompts,
    encode_prompts,
    learned_prompt,
    learned_tokens,
    make_frame,
    other_stored_prompts,
)
from ._value_path import value_specs

NORMAL_ENDING = "object."
DAMAGED_ENDING = "damaged object."  # the released code has the word, the paper has not
ANOMALYCLIP_TOKENS = 12  # of each prompt where CAP is off (tables 3 and 10)
DEAD_TENSORS = ("compound_prompt_projections", "token_prefix", "token_suffix", "tokenized_prompts")

Selection = Literal["top", "first"]
Prototype = Literal["mean", "best", "weighted"]
Reduction = Literal["sum", "mean"]


@dataclass(frozen=True)
class FaPromptOptions(Options):
    """What can be asked of FAPrompt; the defaults are the paper's.

    Attributes:
        cap: abnormal prompts continue the normal prompt's tokens; without, AnomalyCLIP's pair of
            prompts takes their place (K = 1, 12 tokens each, "damaged").
        dap: each image refines the abnormal prompts; without, there is no second pass.
        n_prompts: K.
        n_selected: M.
        n_normal, n_abnormal: learned tokens E of the normal prompt, and E' that each abnormal
            prompt has of its own.
        deep_length, deep_depth, half_deep_tokens: as of AnomalyCLIP.
        damaged: "damaged" stands before "object." in abnormal prompts.
        selection: the M patches most abnormal by the first pass, or the image's first M patches,
            which is what the released code does.
        prototype: of the abnormal prompts: their mean; the best match of each patch or image
            (FAPrompt_0.1, at inference only); or a mean weighted by a network (FAPrompt_0.2).
        max_weights: of the first and the second pass in the mean of their map maxima.
        temperature: of the softmax over the two states.
        local_weight, refined_local_weight: of the pixel-level losses of first and second pass.
        entropy_weight: of the image-level cross-entropy.
        focal_weight: of the image-level focal loss on the anomaly score.
        focal_as_logits: the score is taken for a logit, as released.
        overlap_weight: of the sum over unordered pairs of abnormal prompts; the paper's sum over
            ordered pairs is twice that.
        prior_weight: of the size of the image's vector, for normal images.
        prior_reduction: that size is the sum of squares over the vector's entries, or their mean.
        split: of the auxiliary dataset; the paper (appendix A.1) trains on the train and the test
            split, the released code on the test split alone.
        epochs, batch_size, lr: of training.
    """

    cap: bool = True
    dap: bool = True
    n_prompts: int = 10
    n_selected: int = 10
    n_normal: int = 5
    n_abnormal: int = 2
    deep_length: int = 4
    deep_depth: int = 9
    half_deep_tokens: bool = False
    damaged: bool = False
    selection: Selection = "top"
    prototype: Prototype = "mean"
    max_weights: tuple[float, float] = (1.0, 1.0)
    temperature: float = 0.07
    local_weight: float = 1.0
    refined_local_weight: float = 1.0
    entropy_weight: float = 0.0
    focal_weight: float = 1.0
    focal_as_logits: bool = False
    overlap_weight: float = 2.0
    prior_weight: float = 1.0
    prior_reduction: Reduction = "sum"
    split: AuxiliarySplit = "all"
    epochs: int = 7
    batch_size: int = 8
    lr: float = 1e-3


PAPER = FaPromptOptions()
OFFICIAL = FaPromptOptions(
    half_deep_tokens=True,
    damaged=True,
    selection="first",
    max_weights=(2.0, 1.0),
    refined_local_weight=0.5,
    entropy_weight=1.0,
    focal_as_logits=True,
    overlap_weight=0.1,
    prior_reduction="mean",
    split="test",
)


@dataclass(frozen=True)
class Reading:
    """An image batch seen with one set of prompts.

    Attributes:
        text: [2, D] or [B, 2, D] normalised (normal, abnormal prototype).
        patches: [B, L, 2] probabilities.
        image: [B] abnormal probability of the class token.
    """

    text: Tensor
    patches: Tensor
    image: Tensor

    @property
    def maximum(self) -> Tensor:
        """[B] the largest abnormal probability of an image's patches."""
        return self.patches[..., 1].amax(dim=1)


class FaPrompt(TrainableMethod):
    """Compound abnormality prompts with a data-dependent abnormality prior."""

    title = "FAPrompt"
    sigma = 10.0
    class_aware = False
    variants: ClassVar[Mapping[str, Options]] = {
        "paper": PAPER,
        "official": OFFICIAL,
        "fixed": replace(OFFICIAL, selection="top"),
        "best_prompt": replace(PAPER, prototype="best"),
        "weighted_prompts": replace(PAPER, prototype="weighted"),
        "cap": replace(PAPER, dap=False),
        "cap_no_overlap": replace(PAPER, dap=False, overlap_weight=0.0),
        "cap_single": replace(PAPER, dap=False, n_prompts=1),
        "cap_single_dap": replace(PAPER, n_prompts=1),
        "dap": replace(PAPER, cap=False),
        "dap_no_prior": replace(PAPER, cap=False, prior_weight=0.0),
    }
    default_variant = "paper"
    published_parameters = 9_612_256  # 5,512,192 of them in layers that the code never calls
    official_key = "prompt_learner"
    ignored_official = DEAD_TENSORS
    evaluation_options = frozenset({"prototype"})  # "best" learns as "mean"; "weighted" has a net
    options: FaPromptOptions

    def __init__(self, backbone: Backbone, options: FaPromptOptions | None = None) -> None:
        super().__init__(backbone, options)
        chosen = _checked(self.options)
        width, dim = self.backbone.text_width, self.backbone.embed_dim
        self.n_prompts = chosen.n_prompts if chosen.cap else 1
        n_normal = chosen.n_normal if chosen.cap else ANOMALYCLIP_TOKENS
        n_own = chosen.n_abnormal if chosen.cap else ANOMALYCLIP_TOKENS
        self.ctx_pos = learned_tokens(1, 1, n_normal, width)
        self.ctx_neg = learned_tokens(1, self.n_prompts, n_own, width)
        if chosen.dap:
            self.patch_meta_net = MetaNet(chosen.n_selected * dim, width)
            if chosen.prototype == "weighted":
                self.weight_meta_net = MetaNet(chosen.n_selected * dim, self.n_prompts)
        self.compound_prompts_text = DeepTokens.make(
            self.backbone, chosen.deep_length, chosen.deep_depth, chosen.half_deep_tokens
        )
        ending = DAMAGED_ENDING if chosen.damaged or not chosen.cap else NORMAL_ENDING
        n_all = n_normal + n_own if chosen.cap else n_own
        self._fixed = (("pos", n_normal, NORMAL_ENDING), ("neg", n_all, ending))
        self._normal = make_frame(self.backbone, n_normal, [NORMAL_ENDING])
        self._abnormal = make_frame(self.backbone, n_all, [ending])
        self._frozen = FrozenText(self)
        (self._spec,) = value_specs(self.backbone)

    def other_prompts(self, state: Mapping[str, Any]) -> str:
        """See `TrainableMethod`; by the tokens and embeddings that the released code stores."""
        return other_stored_prompts(self.backbone, state, self._fixed)

    @property
    def prompts(self) -> list[str]:
        """The normal one and, once for all K, the abnormal one."""
        return [learned_prompt(count, ending) for _, count, ending in self._fixed]

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
        """[1 + K, D] of the normal and the abnormal prompts; computed once while frozen."""
        return self._frozen.get("", self._encode_prior_free)

    def _encode_prior_free(self) -> Tensor:
        prompts = [
            self._normal.fill(self.ctx_pos[0]),
            self._abnormal.fill(self._abnormal_context()),
        ]
        return self._encode(prompts)

    def _encode(self, prompts: list[Prompts]) -> Tensor:
        """All prompts in one forward; what they begin with alike is computed once.

        Not so while learning in half precision, where the beginning's gradient of each prompt is
        rounded on its own, as released.
        """
        chosen = self.options
        apart = chosen.half_deep_tokens and torch.is_grad_enabled()
        alike = chosen.cap and chosen.deep_length <= chosen.n_normal and not apart
        shared = 1 + chosen.n_normal if alike else 0
        return encode_prompts(self.backbone, prompts, self.compound_prompts_text, shared)

    def _encode_refined(self, normal: Tensor, prior: Tensor) -> Tensor:
        """[B, 1 + K, D] of all images' prompts, in one forward; the normal one's are given.

        While learning in half precision the normal prompt is encoded again for each image, as
        released: small gradients are lost image by image, and not after they were summed.
        """
        count = len(prior)
        prompts = [self._abnormal.fill(self._abnormal_context(prior))]
        again = self.options.half_deep_tokens and torch.is_grad_enabled()
        if again:
            prompts.append(self._normal.fill(self.ctx_pos[0].expand(count, 1, -1, -1)))
        features = self._encode(prompts)
        abnormal = features[: count * self.n_prompts].reshape(count, self.n_prompts, -1)
        normals = features[-count:, None] if again else normal.expand(count, 1, -1)
        return torch.cat([normals, abnormal], dim=1)

    # -- reading an image batch ---------------------------------------------------------------

    def _patches(self, query: Query) -> Tensor:
        """[B, L, D] normalised V-V patch features."""
        return F.normalize(self.backbone.project(query.features.tokens[self._spec]), dim=-1)

    def _read(
        self, query: Query, patches: Tensor, features: Tensor, weights: Tensor | None = None
    ) -> Reading:
        """See images with text features [1 + K, D] or [B, 1 + K, D], raw."""
        normal, abnormal = features[..., :1, :], features[..., 1:, :]
        if weights is None:
            prototype = abnormal.mean(dim=-2, keepdim=True)
        else:
            prototype = weights[:, None] @ abnormal
        text = F.normalize(torch.cat([normal, prototype], dim=-2), dim=-1)
        class_token, temperature = query.features.class_token_no_ln, self.options.temperature
        if self.options.prototype == "best" and not torch.is_grad_enabled():
            prompts = F.normalize(features, dim=-1)
            return Reading(
                text,
                _best_probabilities(patches, prompts, temperature),
                _best_probabilities(class_token[:, None], prompts, temperature)[:, 0, 1],
            )
        return Reading(
            text,
            state_probabilities(patches, text, temperature),
            state_probabilities(class_token, text, temperature)[:, 1],
        )

    def select(self, patches: Tensor, probabilities: Tensor) -> Tensor:
        """The M patches that inform the prior, one after the other.

        Args:
            patches: [B, L, D] normalised.
            probabilities: [B, L] abnormal, of the first pass.

        Returns:
            [B, M * D], the most abnormal patch first.

        Raises:
            UsageError: the image has fewer than M patches.
        """
        count = self.options.n_selected
        if count > patches.shape[1]:
            raise UsageError(
                f"n_selected={count} of {self.title} exceeds the {patches.shape[1]} patches of an "
                "image: choose fewer or larger images"
            )
        if self.options.selection == "first":
            return patches[:, :count].flatten(1)
        index = probabilities.topk(count, dim=1).indices
        return patches.take_along_dim(index[..., None], dim=1).flatten(1)

    def _passes(self, query: Query) -> tuple[list[Reading], Tensor, Tensor | None]:
        """One reading or two, the prior-free features [1 + K, D] and the priors [B, W]."""
        features, patches = self.prior_free_features(), self._patches(query)
        first = self._read(query, patches, features)
        if not self.options.dap:
            return [first], features, None
        selected = self.select(patches, first.patches[..., 1].detach())
        prior = self.patch_meta_net(selected)
        weights = None
        if self.options.prototype == "weighted":
            weights = self.weight_meta_net(selected).softmax(dim=-1)
        refined = self._encode_refined(features[:1], prior)
        return [first, self._read(query, patches, refined, weights)], features, prior

    def _scores(self, readings: list[Reading]) -> Tensor:
        """[B] half the class token's probability, half the maps' maxima."""
        weights = self.options.max_weights if len(readings) == 2 else (1.0,)
        maxima = [w * r.maximum for w, r in zip(weights, readings, strict=True)]
        return 0.5 * (readings[-1].image + torch.stack(maxima).sum(dim=0) / sum(weights))

    def predict(self, query: Query) -> Prediction:
        """Score from class token and map maxima; map as the mean of both passes."""
        readings, _, _ = self._passes(query)
        patches = torch.stack([r.patches[..., 1] for r in readings]).mean(dim=0)  # [B, L]
        maps = upsample(patches, query.features.grid, self.map_size)
        return Prediction(self._scores(readings), smooth(maps, self.smoothing_sigma))

    def prompt_maps(self, query: Query) -> Tensor:
        """[B, K, L] of each prior-free abnormal prompt beside the normal one."""
        return prompt_probabilities(
            self._patches(query), self.prior_free_features(), self.options.temperature
        )

    # -- learning -----------------------------------------------------------------------------

    def loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Pixel-level losses of each pass, image-level ones, overlap of prompts, and the prior."""
        chosen = self.options
        readings, features, prior = self._passes(query)
        weighted: list[tuple[str, float, Tensor]] = []
        names = (("", chosen.local_weight), ("_refined", chosen.refined_local_weight))
        for (suffix, weight), reading in zip(names, readings, strict=False):
            local = map_loss([reading.patches], query.features.grid, self.map_size, masks)
            weighted += [(name, weight, term) for name, term in local.terms(suffix).items()]
        entropy = image_entropy(
            query.features.class_token_no_ln, readings[-1].text, labels, chosen.temperature
        )
        focal = binary_focal_loss(self._scores(readings), labels, as_logits=chosen.focal_as_logits)
        weighted += [
            ("image_entropy", chosen.entropy_weight, entropy),
            ("image_focal", chosen.focal_weight, focal),
        ]
        if chosen.cap:
            weighted += [("overlap", chosen.overlap_weight, pairwise_overlap(features[1:]))]
        if prior is not None:
            size = _prior_size(prior, labels, chosen.prior_reduction)
            weighted += [("prior", chosen.prior_weight, size)]
        total = torch.stack([weight * term for _, weight, term in weighted if weight]).sum()
        return {**{name: term for name, _, term in weighted}, "total": total}


def _best_probabilities(visual: Tensor, prompts: Tensor, temperature: float) -> Tensor:
    """Softmax over the normal prompt and the best of the abnormal ones (FAPrompt_0.1).

    Args:
        visual: [B, L, D].
        prompts: [1 + K, D] or [B, 1 + K, D], normalised, the normal one first.
        temperature: the similarity is divided by it.

    Returns:
        [B, L, 2].
    """
    similarity = F.normalize(visual, dim=-1) @ prompts.transpose(-1, -2) / temperature
    best = similarity[..., 1:].amax(dim=-1)
    return torch.stack([similarity[..., 0], best], dim=-1).softmax(dim=-1)


def _prior_size(prior: Tensor, labels: Tensor, reduction: Reduction) -> Tensor:
    """Squares of the priors [B, W], summed over normal images."""
    squares = prior.square()
    size = squares.sum(dim=1) if reduction == "sum" else squares.mean(dim=1)
    return (size * (labels == 0)).sum()


def _checked(options: FaPromptOptions) -> FaPromptOptions:
    """The options, after a look at those that can be wrong.

    Raises:
        UsageError: a count is not positive, or a choice is unknown.
    """
    for name in ("n_prompts", "n_selected", "n_normal", "n_abnormal"):
        if getattr(options, name) < 1:
            raise UsageError(f"option {name} of FAPrompt must be at least 1")
    choices = {"selection": Selection, "prototype": Prototype, "prior_reduction": Reduction}
    for name, choice in choices.items():
        if getattr(options, name) not in get_args(choice):
            raise unknown_name(f"{name} of FAPrompt", getattr(options, name), get_args(choice))
    if len(options.max_weights) != 2 or sum(options.max_weights) <= 0:
        raise UsageError("option max_weights of FAPrompt takes two weights with a positive sum")
    return options
