"""MRAD: a labelled memory of auxiliary features answers by retrieval, and biases learned prompts.

"MRAD: Zero-Shot Anomaly Detection with Memory-Driven Retrieval", ICLR 2026, and the released code
(CROVO1026/MRAD). The memory holds one key for each auxiliary image and one for its normal and
its anomalous region; a test feature takes the labels of the keys by a softmax over all of them.
`tf` compares by cosine, `ft` by two learned projections; the other variants keep `ft`'s score, find
the regions of the image by retrieval, let their mean features bias AnomalyCLIP's prompts, and take
the map from the text.

Axes: B images, L patch tokens, D embedding, N keys, M map side; states are (normal, abnormal).

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bench.anomaly_maps import state_probabilities, upsample, upsample_smoothed
from ..bench.backbone import Backbone, TokenSpec
from ..bench.method import ExtraWork, Options, Prediction, Query, Schedule, Stage, TrainableMethod
from ..bench.prompt_learner import (
    encode_prompts,
    learned_prompt,
    learned_tokens,
    linear,
    make_frame,
)
from ..bench.rows import Rows
from ._half_precision import deep_tokens
from ._losses import dice_loss, focal_loss, map_loss
from .anomalyclip import ABNORMAL_ENDING, NORMAL_ENDING

LAST = 24  # of ViT-L/14's 24 blocks
VALUE_FROM = 2  # V-V attention in blocks 2..24, where AnomalyCLIP's begins in block 6
POOLED = (1, 3, 5)  # sides of the averages over neighbours
REGION = 0.5  # a patch of a greater abnormal probability is of the anomalous region
CONTEXT_TOKENS = 12
DEEP_LENGTH = 4
DEEP_DEPTH = 9
TEMPERATURE = 0.07  # of the text map and, as released, of the retrieved image probabilities
TOP_SHARE = 0.01  # of the map's pixels, whose mean enters the score
LEAST_RATE = 1e-6


@dataclass(frozen=True)
class MradOptions(Options):
    """What can be asked of MRAD; the defaults are the released ones for every target alike.

    Attributes:
        learned: similarity by learned projections, not by cosine.
        text_map: the map comes from prompts that the regions bias, not from retrieval.
        key_bias: the projections of keys learn their biases too, which change no answer.
        image_quantile, patch_quantile: while learning, keys whose cosine to a feature exceeds this
            quantile over all keys are left out: the memory holds the image itself.
        image_weight: of the retrieved image probability in the score.
        half_deep_tokens: deep tokens and their gradients pass half precision, as released.
        epochs, text_epochs: of the projections, and of the prompts.
        batch_size, lr: of training.
    """

    learned: bool = True
    text_map: bool = True
    key_bias: bool = False
    image_quantile: float = 0.95
    patch_quantile: float = 0.8
    image_weight: float = 0.7
    half_deep_tokens: bool = True
    epochs: int = 1
    text_epochs: int = 5
    batch_size: int = 8
    lr: float = 4e-4


class Features(NamedTuple):
    """What the memory compares, each L2-normalised.

    Attributes:
        image: [B, D].
        patches: [B, L, width] through ln_post, averaged over neighbours.
        projected: [B, L, D] the same, in the joint space.
    """

    image: Tensor
    patches: Tensor
    projected: Tensor


class Mrad(TrainableMethod):
    """Labels retrieved from a memory, and prompts biased by what was retrieved."""

    title = "MRAD"
    sigma = 4.0
    class_aware = False
    variants: ClassVar[Mapping[str, Options]] = {
        "fixed": MradOptions(),
        "official": MradOptions(key_bias=True),
        "official_q95": MradOptions(key_bias=True, patch_quantile=0.95),
        "ft": MradOptions(key_bias=True, text_map=False),
        "ft_visa_target": MradOptions(key_bias=True, text_map=False, patch_quantile=0.85),
        "tf": MradOptions(learned=False, text_map=False),
    }
    default_variant = "fixed"
    in_benchmark = False
    published_parameters = 14_214_400  # 10,234,624 of them in layers that the code never calls
    remembered = ("memory.",)
    ignored_official = (
        "prompt_learner.compound_prompt_projections",
        "prompt_learner.mlp",
        "prompt_learner.token_",
        "prompt_learner.tokenized_",
    )
    mean_over_images = True
    options: MradOptions

    def __init__(self, backbone: Backbone, options: MradOptions | None = None) -> None:
        super().__init__(backbone, options)
        chosen, own = self.options, self.backbone
        self._spec = TokenSpec(own.layer(LAST), own.layer(VALUE_FROM))
        self.specs = (self._spec,)
        self.memory = Memory(own.embed_dim, own.width)
        if chosen.learned:
            image, images = projections(own.embed_dim, own.embed_dim, chosen.key_bias)
            self.image_proj = nn.ModuleDict({"mlp1": image, "mlp2": images})
            patch = projections(own.width, own.embed_dim, chosen.key_bias)
            self.patch_proj = nn.ModuleDict({"fc": nn.ModuleList(patch)})
        if chosen.text_map:
            states = [linear(own.embed_dim, own.text_width) for _ in ("normal", "abnormal")]
            self.prompt_proj = nn.ModuleDict({"mlp1": states[0], "mlp2": states[1]})
            self.prompt_learner = PromptPair(own, chosen.half_deep_tokens)
            self._frames = [
                make_frame(own, CONTEXT_TOKENS, [ending])
                for ending in (NORMAL_ENDING, ABNORMAL_ENDING)
            ]

    @property
    def prompts(self) -> list[str]:
        """AnomalyCLIP's pair, where the map comes from the text."""
        endings = (NORMAL_ENDING, ABNORMAL_ENDING) if self.options.text_map else ()
        return [learned_prompt(CONTEXT_TOKENS, ending) for ending in endings]

    @classmethod
    def extra_work_of(cls, options: Options) -> ExtraWork:
        """The keys that images are compared with."""
        return ExtraWork(memory="a key for each auxiliary image and for each of its regions")

    # -- memory -------------------------------------------------------------------------------

    def remember(self, query: Query, labels: Tensor, masks: Tensor) -> None:
        """Keep a key for each image, and one for each region that whole patches lie in."""
        features = query.features
        patches = self._averaged(self.backbone.normalise_tokens(features.tokens[self._spec]), query)
        self.memory.add_images(F.normalize(features.class_token_no_ln, dim=-1), labels)
        marked = F.interpolate(masks[:, None], features.grid, mode="bilinear").flatten(1)  # [B, L]
        for tokens, share in zip(patches, marked, strict=True):
            for state, cells in ((1, share == 1), (0, share == 0)):
                if bool(cells.any()):
                    key = F.normalize(tokens[cells].mean(dim=0), dim=-1)
                    self.memory.add_region(key, state)

    def settle(self) -> None:
        """The memory is whole."""
        self.memory.settle()

    # -- features -----------------------------------------------------------------------------

    def _averaged(self, tokens: Tensor, query: Query) -> Tensor:
        """[B, L, C]: mean of the averages over 1, 3 x 3 and 5 x 5 patches, zeros around them."""
        square = tokens.transpose(1, 2).reshape(len(tokens), -1, *query.features.grid)
        pooled = [F.avg_pool2d(square, side, stride=1, padding=side // 2) for side in POOLED]
        return torch.stack(pooled).mean(dim=0).flatten(2).transpose(1, 2)

    def features(self, query: Query) -> Features:
        """What is compared of a batch."""
        tokens = query.features.tokens[self._spec]
        patches = self._averaged(self.backbone.normalise_tokens(tokens), query)
        projected = self._averaged(self.backbone.project(tokens), query)
        image = query.features.class_token_no_ln
        return Features(*(F.normalize(t, dim=-1) for t in (image, patches, projected)))

    # -- retrieval ----------------------------------------------------------------------------

    def image_probability(self, image: Tensor, quantile: float | None = None) -> Tensor:
        """[B] retrieved abnormal probability of images [B, D]; see `retrieved` for the quantile."""
        proj = [*self.image_proj.children()] if self.options.learned else []
        keys, labels = self.memory.image_keys, self.memory.image_labels
        return retrieved(image, keys, labels, proj, quantile)

    def patch_probability(self, patches: Tensor, quantile: float | None = None) -> Tensor:
        """[B, L] of patches [B, L, width], one image at a time for memory."""
        proj = [*self.patch_proj["fc"].children()] if self.options.learned else []
        keys, labels = self.memory.patch_keys, self.memory.patch_labels
        return torch.stack([retrieved(one, keys, labels, proj, quantile) for one in patches])

    # -- prompts ------------------------------------------------------------------------------

    def text_features(self, regions: Tensor) -> Tensor:
        """[B, 2, D] normalised, of prompts that the regions' mean features [B, 2, D] bias."""
        pairs = zip(self.prompt_proj.values(), regions.unbind(dim=1), strict=True)
        biases = [layer(region) for layer, region in pairs]  # [B, W] each
        contexts = (self.prompt_learner.ctx_pos[0], self.prompt_learner.ctx_neg[0])
        sets = [
            frame.fill(context + bias[:, None, None])
            for frame, context, bias in zip(self._frames, contexts, biases, strict=True)
        ]
        features = encode_prompts(self.backbone, sets, self.prompt_learner.compound_prompts_text)
        states = features.reshape(2, len(regions), -1).transpose(0, 1)
        return F.normalize(states, dim=-1)

    # -- score and map ------------------------------------------------------------------------

    def predict(self, query: Query) -> Prediction:
        """Score of the retrieved image probability and the map's largest values."""
        features = self.features(query)
        patches = self.patch_probability(features.patches)
        if self.options.text_map:
            text = self.text_features(region_means(features.projected, patches))
            patches = state_probabilities(features.projected, text, TEMPERATURE)[..., 1]
        grid, size, sigma = query.features.grid, self.map_size, self.smoothing_sigma
        maps = upsample_smoothed(patches, grid, size, sigma)
        largest = maps.flatten(1).topk(max(1, int(TOP_SHARE * maps[0].numel()))).values
        weight = self.options.image_weight
        image = self.image_probability(features.image)
        return Prediction((1 - weight) * largest.mean(dim=-1) + weight * image, maps)

    # -- training -----------------------------------------------------------------------------

    def stages(self) -> Sequence[Stage]:
        """The projections of the retrieval, then the prompts; `tf` has nothing to learn.

        As released, the projections learn at a constant rate only where prompts follow.
        """
        chosen = self.options
        if not chosen.learned:
            return ()
        retrieval = Schedule(
            chosen.epochs,
            chosen.batch_size,
            chosen.lr,
            cosine=not chosen.text_map,
            per_step=not chosen.text_map,
            floor=0.0 if chosen.text_map else LEAST_RATE,
        )
        stages = [Stage(retrieval, "retrieval", ("image_proj.", "patch_proj."))]
        if chosen.text_map:
            prompts = Schedule(chosen.text_epochs, chosen.batch_size, chosen.lr)
            learns = ("prompt_learner.", "prompt_proj.")
            stages.append(Stage(prompts, "prompts", learns, self.prompt_loss, None, True))
        return stages

    def loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Focal, dice and image loss of what is retrieved without the nearest keys."""
        features, chosen = self.features(query), self.options
        patches = self.patch_probability(features.patches, chosen.patch_quantile)
        maps = upsample(patches, query.features.grid, self.map_size)  # [B, M, M]
        focal = focal_loss(maps, masks)
        dice = dice_loss(maps, masks)
        image = self.image_probability(features.image, chosen.image_quantile)
        logits = torch.stack([1 - image, image], dim=1) / TEMPERATURE
        entropy = F.cross_entropy(logits, labels)
        total = focal + dice + entropy
        return {"focal": focal, "dice_abnormal": dice, "image": entropy, "total": total}

    def prompt_loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Focal and both dice losses of the text's map; regions found without the nearest keys."""
        features = self.features(query)
        with torch.no_grad():
            patches = self.patch_probability(features.patches, self.options.patch_quantile)
            regions = region_means(features.projected, patches)
        states = state_probabilities(features.projected, self.text_features(regions), TEMPERATURE)
        local = map_loss(states[..., 1], query.features.grid, self.map_size, masks)
        return {**local.terms(), "total": local.total}


class Memory(nn.Module):
    """Keys with labels 0 or 1, of images and of regions; kept in checkpoints.

    Attributes:
        image_keys: [N, D], image_labels: [N].
        patch_keys: [N, width], patch_labels: [N].
    """

    image_keys: Tensor
    image_labels: Tensor
    patch_keys: Tensor
    patch_labels: Tensor

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.register_buffer("image_keys", torch.zeros(0, dim))
        self.register_buffer("image_labels", torch.zeros(0))
        self.register_buffer("patch_keys", torch.zeros(0, width))
        self.register_buffer("patch_labels", torch.zeros(0))
        self._added = {name: Rows() for name, _ in self.named_buffers()}

    def add_images(self, keys: Tensor, labels: Tensor) -> None:
        """Keys [B, D] of images with labels [B]."""
        self._added["image_keys"].add(keys)
        self._added["image_labels"].add(labels.to(keys))

    def add_region(self, key: Tensor, state: int) -> None:
        """The key [width] of a region of state 0 or 1."""
        self._added["patch_keys"].add(key[None])
        self._added["patch_labels"].add(key.new_full((1,), state))

    def settle(self) -> None:
        """Take what was added for the memory."""
        for name, rows in self._added.items():
            setattr(self, name, rows.joined())
        self._added = {name: Rows() for name in self._added}


def projections(inputs: int, outputs: int, key_bias: bool) -> list[nn.Linear]:
    """Of queries and of keys.

    Without a bias that of keys has one of zeros, which checkpoints may replace: a bias adds the
    same to the similarity of all keys, and the softmax removes it.
    """
    queries, keys = linear(inputs, outputs), linear(inputs, outputs)
    if not key_bias:
        nn.init.zeros_(keys.bias).requires_grad_(False)
    return [queries, keys]


class PromptPair(nn.Module):
    """AnomalyCLIP's learned tokens: one normal and one abnormal prompt, and deep tokens."""

    def __init__(self, backbone: Backbone, half: bool) -> None:
        super().__init__()
        width = backbone.text_width
        self.ctx_pos = learned_tokens(1, 1, CONTEXT_TOKENS, width)
        self.ctx_neg = learned_tokens(1, 1, CONTEXT_TOKENS, width)
        self.compound_prompts_text = deep_tokens(backbone, DEEP_LENGTH, DEEP_DEPTH, half)


def retrieved(
    query: Tensor,
    keys: Tensor,
    labels: Tensor,
    layers: Sequence[nn.Module],
    quantile: float | None,
) -> Tensor:
    """The abnormal probability of features [..., D]: softmax over all keys, times their labels.

    Args:
        query: L2-normalised.
        keys: [N, D], L2-normalised.
        labels: [N], 0 or 1.
        layers: projections of queries and of keys, whose plain product is the similarity; without
            any it is the cosine. There is no temperature in either case.
        quantile: keys of a cosine above this quantile over all keys are left out; None is none.
    """
    cosines = query @ keys.T
    similarity = layers[0](query) @ layers[1](keys).T if layers else cosines
    if quantile is not None:
        similarity = similarity.masked_fill(cosines > upper(cosines, quantile), -torch.inf)
    return similarity.softmax(dim=-1) @ labels.to(similarity)


def upper(values: Tensor, quantile: float) -> Tensor:
    """The quantile of values [..., N] over N, [..., 1], interpolated linearly.

    As `torch.quantile`, which refuses as many values as a batch of patches has.
    """
    position = (values.shape[-1] - 1) * quantile
    below = int(position)
    low = values.kthvalue(below + 1, keepdim=True).values
    high = values.kthvalue(min(below + 2, values.shape[-1]), keepdim=True).values
    return torch.lerp(low, high, position - below)


def region_means(patches: Tensor, abnormal: Tensor) -> Tensor:
    """Mean features [B, 2, D] of the normal and the anomalous region; zeros where one is empty.

    Args:
        patches: [B, L, D].
        abnormal: [B, L] retrieved probabilities.
    """
    marked = abnormal > REGION
    states = torch.stack([~marked, marked], dim=1).to(patches)  # [B, 2, L]
    return states @ patches / states.sum(dim=-1, keepdim=True).clamp(min=1)
