"""AdaCLIP: learned tokens in the first blocks of both towers, some of them made from the image.

Cao et al., "AdaCLIP: Adapting CLIP with Hybrid Learnable Prompts for Zero-Shot Anomaly Detection",
ECCV 2024, and the released code (caoyunkang/AdaCLIP). A token is the sum of a *static* one, learned
for each block, and a *dynamic* one, a linear function of the image's class token as CLIP gives it.
Patch tokens of four blocks and the class token get linear layers of their own. The image score
mixes the class token with a summary of the most abnormal patches, which are clustered for it
(*hybrid semantic fusion*).

Axes: B images, K inserted tokens, L patch tokens, D embedding, W a tower's width, R rows (patches)
that are clustered, M map side.

Differences from the paper and from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bench.anomaly_maps import smooth, state_maps
from ..bench.backbone import Backbone, BackboneSpec, TokenSpec
from ..bench.errors import UsageError
from ..bench.method import ExtraWork, Options, Prediction, Query, Schedule
from ..bench.options import Positive, Share
from ..bench.prompt_learner import InsertedTokens, deep_sets, learned_tokens, linear
from ..bench.prompts import fill
from ._clusters import cluster_labels, mean_of_clusters
from ._losses import LocalLoss, dice_loss, focal_loss
from ._mosaics import MosaicMethod, MosaicOptions
from ._prompts import APRIL_ABNORMAL, APRIL_NORMAL

TEMPLATES = (
    "a bad photo of a {}.",
    "a low resolution photo of the {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
)
SCALE = 100.0  # of the similarities
CLUSTERS = 20  # of the chosen patches
PATCHES_A_CLUSTER = 5  # of the chosen patches, on average
Fusion = Literal["chosen", "layers"]
Towers = Literal["both", "visual", "text"]
Kinds = Literal["both", "static", "dynamic"]


@dataclass(frozen=True)
class AdaClipOptions(MosaicOptions):
    """What can be asked of AdaCLIP; the defaults are those of the released code.

    Attributes:
        layers: blocks of 24 whose patch tokens are read.
        n_tokens: K, tokens inserted into each tower.
        depth: first blocks, of 24 and of 12, that see learned tokens; the first block of the text
            tower sees the prompt itself.
        towers: that tokens are inserted into; the paper's ablation.
        kinds: of tokens that are learned; the paper's ablation.
        half_tokens: inserted tokens and their gradients pass half precision, as released.
        clusters: of the patches that are summarised for the image score.
        fusion: "chosen" summarises the most abnormal patches of all layers together, and mixes them
            with the class token (the released code); "layers" takes in each layer the most
            abnormal cluster of all its patches, and no class token (the paper).
        fusion_weight: share of the summary in the mixture.
        sorted_patches: the chosen patches are clustered in the order of their places, which does
            not depend on rounding; else in that of their probability, as released.
        dice_of_rows: dice losses are taken of rows of pixels instead of images, as released.
        relabels: a mosaic that shows a defect counts as anomalous; else it has the label of the
            image that it replaces, as released.
        epochs, batch_size, lr, weight_decay: of training.
    """

    layers: Sequence[int] = (6, 12, 18, 24)
    n_tokens: Positive = 5
    depth: Positive = 4
    towers: Towers = "both"
    kinds: Kinds = "both"
    half_tokens: bool = True
    clusters: Positive = CLUSTERS
    fusion: Fusion = "chosen"
    fusion_weight: Share = 0.2
    sorted_patches: bool = False
    dice_of_rows: bool = True
    relabels: bool = False
    epochs: int = 5
    batch_size: int = 1
    lr: float = 0.01
    weight_decay: float = 0.01


FIXED: Mapping[str, Any] = {
    "half_tokens": False,
    "sorted_patches": True,
    "dice_of_rows": False,
    "relabels": True,
}
ON_MVTEC: Mapping[str, Any] = {"mosaic_rate": 0.2}


@dataclass(frozen=True)
class Seen:
    """What both towers make of a batch.

    Attributes:
        text: [B, 2, D] normalised, (normal, abnormal).
        patches: [B, L, D] of each layer, normalised.
        class_token: [B, D] normalised.
    """

    text: Tensor
    patches: list[Tensor]
    class_token: Tensor

    def logits(self) -> list[Tensor]:
        """[B, L, 2] of each layer."""
        return [SCALE * layer @ self.text.transpose(1, 2) for layer in self.patches]


class AdaClip(MosaicMethod):
    """Hybrid prompt tokens in both towers, and linear layers on what leaves the visual one."""

    title = "AdaCLIP"
    sigma = 4.0
    backbone_spec = BackboneSpec(activation="gelu", pos_embed="bicubic_plain")
    needs_images = True
    in_benchmark = False
    variants: ClassVar[Mapping[str, Options]] = {
        "official": AdaClipOptions(),
        "fixed": AdaClipOptions(**FIXED),
        "paper": AdaClipOptions(**FIXED, fusion="layers"),
    }
    default_variant = "official"
    auxiliary_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {"mvtec_ad": ON_MVTEC}
    published_parameters = 10_665_472  # 3,840 of them in tokens that the code never reads
    official_prefix = "clip_model."
    mean_over_images = True
    options: AdaClipOptions

    def __init__(self, backbone: Backbone, options: AdaClipOptions | None = None) -> None:
        super().__init__(backbone, options)
        chosen, clip = self.options, self.backbone
        visual = clip.layer(chosen.depth)
        text = 1 + deep_sets(clip, chosen.depth)
        self.text_prompter = Static(text, chosen.n_tokens, clip.text_width)
        self.visual_prompter = Static(visual, chosen.n_tokens, clip.width)
        self.patch_token_layer = Heads(len(chosen.layers), clip.width, clip.embed_dim)
        self.cls_token_layer = Heads(1, clip.embed_dim, clip.embed_dim)
        self.dynamic_visual_prompt_generator = Heads(chosen.n_tokens, clip.embed_dim, clip.width)
        self.dynamic_text_prompt_generator = Heads(chosen.n_tokens, clip.embed_dim, clip.text_width)
        self._freeze_unread()
        self._specs = [TokenSpec(clip.layer(layer)) for layer in chosen.layers]
        self._words = Words(clip)

    def _freeze_unread(self) -> None:
        """Let nothing learn that the chosen options do not read."""
        chosen = self.options
        towers = {
            "visual": (self.visual_prompter, self.dynamic_visual_prompt_generator),
            "text": (self.text_prompter, self.dynamic_text_prompt_generator),
        }
        for tower, (static, dynamic) in towers.items():
            read = chosen.towers in ("both", tower)
            static.requires_grad_(read and chosen.kinds != "dynamic")
            dynamic.requires_grad_(read and chosen.kinds != "static")
        # The released code holds tokens for the first text block, too, and never reads them.
        self.text_prompter.static_prompts[0].requires_grad_(False)
        self.cls_token_layer.requires_grad_(chosen.fusion == "chosen")

    @property
    def prompts(self) -> list[str]:
        """7 normal and 5 abnormal states in 4 templates."""
        return [*fill(TEMPLATES, APRIL_NORMAL, "{}"), *fill(TEMPLATES, APRIL_ABNORMAL, "{}")]

    @property
    def schedule(self) -> Schedule:
        """AdamW at a constant rate; the last epoch counts."""
        chosen = self.options
        return Schedule(
            chosen.epochs,
            chosen.batch_size,
            chosen.lr,
            optimizer="adamw",
            weight_decay=chosen.weight_decay,
            augments=chosen.mosaic_rate > 0,
            relabels=chosen.relabels,
        )

    @classmethod
    def extra_work_of(cls, options: Options) -> ExtraWork:
        """Images pass the tower a second time, with tokens inserted."""
        return ExtraWork(1)

    # -- both towers --------------------------------------------------------------------------

    def see(self, query: Query) -> Seen:
        """Both towers with tokens inserted, which the plain class token of each image decides."""
        plain = query.features.class_token  # [B, D] of the pass without inserted tokens
        if query.images is None:
            raise UsageError("AdaCLIP sends images through the tower again and was given none")
        visual = self._hybrid(self.visual_prompter, self.dynamic_visual_prompt_generator, plain)
        read = self.options.towers != "text"
        hook = InsertedTokens([self._rounded(tokens) for tokens in visual] if read else [])
        features = self.backbone.forward_image(query.images, self._specs, before=hook)
        heads = zip(self.patch_token_layer.head, self._specs, strict=True)
        patches = [F.normalize(head(features.tokens[spec]), dim=-1) for head, spec in heads]
        class_token = F.normalize(self.cls_token_layer.head[0](features.class_token), dim=-1)
        return Seen(self.text_features(plain, query.class_names), patches, class_token)

    def text_features(self, plain: Tensor, class_names: Sequence[str]) -> Tensor:
        """[B, 2, D] normalised, of class tokens [B, D] and as many class names."""
        _, *deep = self._hybrid(self.text_prompter, self.dynamic_text_prompt_generator, plain)
        embeddings, ends = self._words.of(class_names)  # [B P, T, W]
        count = len(ends) // len(plain)  # P, prompts of an image
        deep = [] if self.options.towers == "visual" else deep
        tokens = [self._rounded(part.repeat_interleave(count, dim=0)) for part in deep]
        encoded = self.backbone.encode_embeddings(embeddings, ends, tokens)
        encoded = F.normalize(encoded, dim=-1).reshape(len(plain), count, -1)
        split = len(TEMPLATES) * len(APRIL_NORMAL)
        states = [encoded[:, :split].mean(dim=1), encoded[:, split:].mean(dim=1)]
        return F.normalize(torch.stack(states, dim=1), dim=-1)

    def _hybrid(self, static: Static, dynamic: Heads, plain: Tensor) -> list[Tensor]:
        """[B, K, W] of each block: what is learned for it, and what the image adds to all."""
        added = torch.stack([head(plain) for head in dynamic.head], dim=1)
        if self.options.kinds == "static":
            added = torch.zeros_like(added)
        if self.options.kinds == "dynamic":
            return [added for _ in static.static_prompts]
        return [added + tokens for tokens in static.static_prompts]

    def _rounded(self, tokens: Tensor) -> Tensor:
        return tokens.half().to(tokens.dtype) if self.options.half_tokens else tokens

    # -- image score --------------------------------------------------------------------------

    def _image_probabilities(self, seen: Seen) -> Tensor:
        """[B, 2] from the summary of patches and, where it takes part, the class token."""
        mean = torch.stack(seen.logits()).mean(dim=0).softmax(dim=-1)[..., 1]  # [B, L]
        images = range(len(mean))
        if self.options.fusion == "layers":
            feature = torch.stack([self._most_abnormal(seen, mean[i], i) for i in images])
        else:
            weight = self.options.fusion_weight
            summary = torch.stack([self._summary(seen, mean[i], i) for i in images])
            feature = weight * summary + (1 - weight) * seen.class_token
        feature = F.normalize(feature, dim=-1)
        similarity = torch.einsum("bd,bsd->bs", feature, seen.text)
        return (SCALE * similarity).softmax(dim=-1)

    def choose(self, probabilities: Tensor) -> Tensor:
        """Which patches of an image [L] are summarised: [R], the most abnormal ones."""
        count = min(PATCHES_A_CLUSTER * self.options.clusters, len(probabilities))
        chosen = probabilities.topk(count).indices
        return chosen.sort().values if self.options.sorted_patches else chosen

    def cluster(self, rows: Tensor) -> Tensor:
        """Labels [R] of rows [R, D]; the same rows have the same labels in every run."""
        return cluster_labels(rows, self.options.clusters)

    def _summary(self, seen: Seen, probabilities: Tensor, image: int) -> Tensor:
        """[D] normalised: the mean of the clusters of the chosen patches of an image."""
        chosen = self.choose(probabilities.detach())
        tokens = torch.stack([layer[image, chosen] for layer in seen.patches], dim=1)  # [R, 4, D]
        labels = self.cluster(tokens.detach().flatten(1))
        centres = mean_of_clusters(tokens.mean(dim=1), labels)
        return F.normalize(centres.mean(dim=0), dim=-1)

    def _most_abnormal(self, seen: Seen, probabilities: Tensor, image: int) -> Tensor:
        """[D] sum over layers of the centre of the cluster whose patches are most abnormal."""
        centres = []
        for layer in seen.patches:
            labels = self.cluster(layer[image].detach())
            degrees = mean_of_clusters(probabilities[:, None], labels)[:, 0]
            centres.append(mean_of_clusters(layer[image], labels)[degrees.argmax()])
        return torch.stack(centres).sum(dim=0)

    # -- answers ------------------------------------------------------------------------------

    def predict(self, query: Query) -> Prediction:
        """Map of the mean logits over layers; score from the fusion."""
        seen = self.see(query)
        logits = torch.stack(seen.logits()).mean(dim=0)  # [B, L, 2]; upsampling is linear
        maps = state_maps(logits, query.features.grid, self.map_size)[:, 1]
        scores = self._image_probabilities(seen)[:, 1]
        return Prediction(scores, smooth(maps, self.smoothing_sigma))

    def loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Focal loss of image and pixels and both dice losses, summed over layers."""
        seen = self.see(query)
        scores = self._image_probabilities(seen)
        image = focal_loss(scores[:, 1, None, None], labels[:, None, None].to(masks.dtype))
        grid, size = query.features.grid, self.map_size
        local = reduce(add, (self._local(state_maps(x, grid, size), masks) for x in seen.logits()))
        return {"image": image, **local.terms(), "total": image + local.total}

    def _local(self, maps: Tensor, masks: Tensor) -> LocalLoss:
        """The terms of a map [B, 2, M, M], dice of rows of pixels or of images."""

        def dice(predicted: Tensor, truth: Tensor) -> Tensor:
            if self.options.dice_of_rows:  # the released code loses the axis of its single image
                predicted, truth = (x.reshape(-1, 1, x.shape[-1]) for x in (predicted, truth))
            return dice_loss(predicted, truth)

        return LocalLoss(
            focal_loss(maps[:, 1], masks), dice(maps[:, 1], masks), dice(maps[:, 0], 1 - masks)
        )


@dataclass
class Words:
    """Embeddings of the prompts of class names, each made once and kept."""

    backbone: Backbone
    _kept: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def of(self, class_names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """B class names -> embeddings [B P, T, W] and ends [B P], P prompts each."""
        made = [self._one(name) for name in class_names]
        return torch.cat([one[0] for one in made]), torch.cat([one[1] for one in made])

    def _one(self, class_name: str) -> tuple[Tensor, Tensor]:
        if class_name not in self._kept:
            word = class_name.replace("-", " ")
            states = (*APRIL_NORMAL, *APRIL_ABNORMAL)
            ids = self.backbone.tokenize(fill(TEMPLATES, states, word))
            self._kept[class_name] = self.backbone.embed_tokens(ids).detach(), ids.argmax(dim=-1)
        return self._kept[class_name]


class Static(nn.Module):
    """Sets [K, W] of learned tokens, one a block, under the released name."""

    def __init__(self, count: int, length: int, width: int) -> None:
        super().__init__()
        sets = [learned_tokens(length, width) for _ in range(count)]
        self.static_prompts = nn.ParameterList(sets)


class Heads(nn.Module):
    """Linear layers beside each other, under the released name."""

    def __init__(self, count: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.head = nn.ModuleList(linear(inputs, outputs) for _ in range(count))
