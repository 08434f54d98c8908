"""VCP-CLIP: prompts without class names, made from the image that they are asked about.

Qu et al., "VCP-CLIP: A Visual Context Prompting Model for Zero-Shot Anomaly Segmentation", ECCV
2024, and the released code (xiaozhen228/VCP-CLIP). *Pre-VCP*: two tokens computed from the image's
class token stand where the class name would stand. *Deep text prompting*: one learned token stands
after the start of the text, and is replaced before every later block. *Post-VCP*: for each visual
layer the text features are made again, by cross-attention over its patches. Both kinds of text
features give maps, which are mixed.

Axes: B images, L patch tokens, D embedding (and width of the text tower), W width of the visual
tower, T prompt positions, r visual context tokens, n deep tokens, M map side.

Differences from the paper and from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bench.anomaly_maps import smooth, state_maps
from ..bench.backbone import Backbone, BackboneSpec, TextHooks, TokenSpec
from ..bench.errors import UsageError
from ..bench.method import Options, Prediction, Query, Schedule
from ..bench.options import Positive, Share
from ..bench.prompt_learner import linear, log_temperature
from ._augmentation import ChangeOptions, ChangingMethod
from ._largest_pixels import largest_mean
from ._losses import dice_loss, focal_loss

STATES = ("a photo of a good X", "a photo of a damaged X")  # no full stop; X is the placeholder
HEADS = 8  # of the cross-attention
NORM_EPS = 1e-6
ON_MVTEC: Mapping[str, Any] = {"lr": 2e-5, "mosaic_rate": 0.2}


@dataclass(frozen=True)
class VcpClipOptions(ChangeOptions):
    """What can be asked of VCP-CLIP; the defaults are those of the released scripts for VisA.

    Attributes:
        layers: blocks of 24 whose patch tokens are read.
        n_context: r, tokens made from the image.
        deep_length: n, learned tokens after the start of the text, in every block.
        dropout: share of the deep tokens' entries that is dropped while learning.
        post_weight: share of the Post-VCP map in the mixture.
        epochs, batch_size, lr: of training.
        temperature_lr: rate of both temperatures.
    """

    layers: Sequence[int] = (6, 12, 18, 24)
    n_context: Positive = 2
    deep_length: Positive = 1
    dropout: Share = 0.1
    post_weight: Share = 0.8
    epochs: int = 10
    batch_size: int = 32
    lr: float = 4e-5
    temperature_lr: float = 0.01


class VcpClip(ChangingMethod):
    """Prompts made from the image, and text features made from its patches."""

    title = "VCP-CLIP"
    sigma = 8.0
    backbone_spec = BackboneSpec(activation="gelu", pos_embed="bicubic")
    class_aware = False
    in_benchmark = False
    variants: ClassVar[Mapping[str, Options]] = {
        "official": VcpClipOptions(),
        "paper": VcpClipOptions(post_weight=0.75),
        "cached": VcpClipOptions(changes_images=False),
    }
    default_variant = "official"
    auxiliary_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {"mvtec_ad": ON_MVTEC}
    evaluation_options: ClassVar[frozenset[str]] = frozenset({"post_weight"})
    published_parameters = 7_687_946
    official_parts: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("trainable_linearlayer", "New_Lan_Embed", "Zero_try"), ""
    )
    ignored_official = ("prompt_text_projection",)  # stored, and never used
    options: VcpClipOptions

    def __init__(self, backbone: Backbone, options: VcpClipOptions | None = None) -> None:
        super().__init__(backbone, options)
        self._refuse_unfit()
        chosen = self.options
        width, embed = self.backbone.width, self.backbone.embed_dim
        self.fc = nn.ModuleList(linear(width, embed) for _ in chosen.layers)
        self.prompt_query = _drawn(1, chosen.n_context, embed, kind="normal")
        convolution = nn.Conv1d(1, chosen.n_context, 3, padding=1, dtype=torch.float64)
        self.prompt_linear1 = nn.ModuleDict({"fc": convolution})
        self.prompt_temp = log_temperature()
        self.q_proj_pre = _pointwise(embed, width)
        self.k_proj_pre_1 = _pointwise(width, width)
        self.v_proj_pre_1 = _pointwise(width, width)
        self.proj_post_t = _pointwise(width, width)
        self.prompt_temp_l1 = log_temperature()
        self.prompt_embeddings = _drawn(1, chosen.deep_length, embed, kind="uniform")
        deep = self.backbone.text_depth - 1
        self.deep_prompt_embeddings = _drawn(deep, chosen.deep_length, embed, kind="uniform")
        self.prompt_proj = linear(embed, embed)
        nn.init.kaiming_normal_(self.prompt_proj.weight, mode="fan_out")
        self.prompt_norm = nn.LayerNorm(embed, eps=NORM_EPS, dtype=torch.float64)
        self.dropout = nn.Dropout(chosen.dropout)
        self.specs = [TokenSpec(self.backbone.layer(layer)) for layer in chosen.layers]
        self._ids = self.backbone.tokenize(STATES)
        self._words = self.backbone.embed_tokens(self._ids).detach()  # [2, T, D]

    def _refuse_unfit(self) -> None:
        backbone = self.backbone
        if backbone.embed_dim != backbone.text_width:
            raise UsageError(
                f"VCP-CLIP makes tokens of the text tower ({backbone.text_width} wide) from the "
                f"class token ({backbone.embed_dim} wide), which have to be alike: choose another "
                f"backbone than '{backbone.name}'"
            )
        if backbone.width % HEADS:
            raise UsageError(
                f"VCP-CLIP has {HEADS} heads, which do not divide the {backbone.width} channels of "
                f"backbone '{backbone.name}': choose another one"
            )

    @property
    def prompts(self) -> list[str]:
        """The normal and the abnormal one."""
        return list(STATES)

    @property
    def schedule(self) -> Schedule:
        """Adam at a constant rate, a much greater one for the temperatures."""
        chosen = self.options
        rates = {"prompt_temp": chosen.temperature_lr}  # of the logarithms, both of them
        return Schedule(
            chosen.epochs,
            chosen.batch_size,
            chosen.lr,
            augments=self.makes_mosaics,
            augments_images=chosen.changes_images,
            rates=rates,
        )

    # -- prompts ------------------------------------------------------------------------------

    def text_features(self, class_token: Tensor) -> Tensor:
        """[B, 2, D] normalised, (normal, abnormal), of the prompts made from class tokens [B, D].

        The token after the start has no position, and those after it keep the ones that they
        would have without it.
        """
        visual = self.prompt_query + self.prompt_linear1["fc"](class_token[:, None])  # [B, r, D]
        count, place = len(class_token), int(self._ids[0].argmax()) - 1
        words = self._words.expand(count, -1, -1, -1)  # [B, 2, T, D]
        context = visual[:, None].expand(-1, 2, -1, -1)
        ends = self._ids.argmax(dim=-1) + context.shape[2] - 1
        length = int(ends.max()) + 1
        x = torch.cat([words[:, :, :place], context, words[:, :, place + 1 :]], dim=2)
        x = x[:, :, :length] + self.backbone.text.positional_embedding[:length]
        first, *deep = self._deep_tokens(count)
        x = torch.cat([x[:, :, :1], first, x[:, :, 1:]], dim=2)
        encoded = self.backbone.encode_embeddings(
            x.flatten(0, 1),
            (ends + first.shape[2]).repeat(count),
            [tokens.flatten(0, 1) for tokens in deep],
            positioned=True,
            hooks=TextHooks(before_final=self.prompt_norm),
        )
        return F.normalize(encoded, dim=-1).reshape(count, 2, -1)

    def _deep_tokens(self, count: int) -> Tensor:
        """The learned tokens of each text block, [blocks, B, 2, n, D], with dropout in training."""
        tokens = self.prompt_proj(torch.cat([self.prompt_embeddings, self.deep_prompt_embeddings]))
        spread: Tensor = self.dropout(tokens[:, None, None].expand(-1, count, 2, -1, -1))
        return spread

    # -- maps ---------------------------------------------------------------------------------

    def _maps(self, query: Query) -> tuple[list[Tensor], list[Tensor]]:
        """[B, 2, M, M] of each layer: those of Pre-VCP, and those of Post-VCP."""
        text = self.text_features(query.features.class_token)  # [B, 2, D]
        pre, post = [], []
        for layer, spec in zip(self.fc, self.specs, strict=True):
            tokens = query.features.tokens[spec]  # [B, L, W]
            patches = F.normalize(layer(tokens), dim=-1)
            pre.append(patches @ text.transpose(1, 2) * self.prompt_temp.exp())
            tokens = F.normalize(tokens, dim=-1)
            remade = self._remade(text, tokens)  # [B, 2, W]
            post.append(tokens @ remade.transpose(1, 2) * self.prompt_temp_l1.exp())
        grid, size = query.features.grid, self.map_size
        return [state_maps(x, grid, size) for x in pre], [state_maps(x, grid, size) for x in post]

    def _remade(self, text: Tensor, tokens: Tensor) -> Tensor:
        """Text features [B, 2, D] as the patches [B, L, W] see them: [B, 2, W], normalised.

        Attention without the usual scale; no residual.
        """
        query = _heads(self.q_proj_pre(text.transpose(1, 2)))
        channels = tokens.transpose(1, 2)  # [B, W, L]
        key, value = _heads(self.k_proj_pre_1(channels)), _heads(self.v_proj_pre_1(channels))
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        joined = attended.transpose(2, 3).flatten(1, 2)  # [B, W, 2]
        return F.normalize(self.proj_post_t(joined).transpose(1, 2), dim=-1)

    def predict(self, query: Query) -> Prediction:
        """Map as the mixture of both branches; score from the greatest pixels of each.

        The paper has no image score; the released code has.
        """
        pre, post = (torch.stack([m[:, 1] for m in maps]).mean(dim=0) for maps in self._maps(query))
        weight = self.options.post_weight
        mixed = (1 - weight) * pre + weight * post
        return Prediction(
            largest_mean(pre) + largest_mean(post), smooth(mixed, self.smoothing_sigma)
        )

    def loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Focal and abnormal dice loss, summed over layers and branches; no image labels."""
        terms: dict[str, Tensor] = {}
        for name, maps in zip(("pre", "post"), self._maps(query), strict=True):
            abnormal = [m[:, 1] for m in maps]
            terms[f"focal_{name}"] = torch.stack([focal_loss(m, masks) for m in abnormal]).sum()
            dice = torch.stack([dice_loss(m, masks) for m in abnormal]).sum()
            terms[f"dice_abnormal_{name}"] = dice
        return {**terms, "total": torch.stack(list(terms.values())).sum()}


def _heads(channels: Tensor) -> Tensor:
    """[B, W, L] -> [B, heads, L, W / heads]."""
    return channels.reshape(len(channels), HEADS, -1, channels.shape[2]).transpose(2, 3)


def _pointwise(inputs: int, outputs: int) -> nn.Conv1d:
    """A 1x1 convolution, drawn in double precision as `linear` is."""
    return nn.Conv1d(inputs, outputs, 1, dtype=torch.float64)


def _drawn(*shape: int, kind: str) -> nn.Parameter:
    """A parameter drawn from N(0, 1) within 2, or from U(-1, 1)."""
    values = torch.empty(*shape, dtype=torch.float64)
    if kind == "normal":
        return nn.Parameter(nn.init.trunc_normal_(values))
    return nn.Parameter(values.uniform_(-1, 1))
