"""Bayes-PFL: learned prompts plus random offsets from a learned distribution, averaged over draws.

Qu et al., "Bayesian Prompt Flow Learning for Zero-Shot Anomaly Detection", CVPR 2025, and the
released code (xiaozhen228/Bayes-PFL). The words before the class name are a bank of N learned
prompts. All context words get an offset drawn for the image, all state words one drawn for the
state, both from Gaussians through planar flows; probabilities are averaged over all N R prompt
pairs. The text features are refined by each layer's patches (residual cross-attention). The
backbone runs with plain GELU and bicubic positions, as in APRIL-GAN, whose visual forward serves.

Training has two stages: the prompts and all heads, then the image-level heads alone. The released
code draws noise for each image from one running generator; here it is drawn once, when the method
is built, so that an answer depends on its image alone.

Axes: B images, L patch tokens, D embedding, W text width, M map side, N prompts of the bank, R
samples, P = N R pairs of prompts, index sample N + prompt; states are (normal, abnormal).

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bench.anomaly_maps import smooth, state_maps, upsample
from ..bench.backbone import Backbone, BackboneSpec, TokenSpec
from ..bench.method import Options, Prediction, Query, Schedule, Stage, Track
from ..bench.options import Positive
from ..bench.prompt_learner import learned_prompt, learned_tokens, log_temperature, make_frame
from ._augmentation import ChangeOptions, ChangingMethod
from ._category_scores import category_parts, category_scores
from ._largest_pixels import largest_mean
from ._losses import balanced_focal_loss, batch_dice_loss, squared_cosines
from ._planar_flow import FlowSample, GaussianEncoder, ImageFlow, StateFlow, normal_linear

LAYERS = (6, 12, 18, 24)
PROMPTS = 3  # N
CONTEXT_TOKENS = 5
STATE_TOKENS = 5
FLOWS = 10
HEADS = 4  # of the cross-attention
STATE_MEAN = 0.5  # initial tokens of the normal state; the abnormal ones have its negative
DIVERGENCE_WEIGHT = 0.01
ON_MVTEC: Mapping[str, Any] = {"mosaic_rate": 0.4}
# Class names as the released code writes them; other names stay.
NAMES: Mapping[str, str] = {
    "macaroni1": "macaroni",
    "macaroni2": "macaroni",
    "pcb1": "printed circuit board",
    "pcb2": "printed circuit board",
    "pcb3": "printed circuit board",
    "pcb4": "printed circuit board",
    "pipe_fryum": "pipe fryum",
    "chewinggum": "chewing gum",
    "metal_nut": "metal nut",
}


@dataclass(frozen=True)
class BayesPflOptions(ChangeOptions):
    """What can be asked of Bayes-PFL; the defaults are those of the released scripts.

    Attributes:
        samples: R, drawn offsets at inference.
        noise_seed: of their noise, drawn once.
        second_stage: the image-level head reads the patches too, and learns apart; the paper
            trains in one stage, without it.
        score_scope: "image" is the mean of probability and largest pixels. "category" is the
            released score, in which both are stretched to the category's range; transductive.
        epochs, second_epochs: of both stages; the released code stops each by looking at test
            images.
        batch_size: of both.
        lr, head_lr: of prompts and flows, and of all else but the temperatures.
        temperature_lr: of both temperatures.
    """

    samples: Positive = 10
    noise_seed: int = 333
    second_stage: bool = True
    score_scope: Literal["image", "category"] = "image"
    epochs: int = 10
    second_epochs: int = 4
    batch_size: int = 32
    lr: float = 1e-3
    head_lr: float = 1e-4
    temperature_lr: float = 0.01


class Noise(NamedTuple):
    """Standard normal draws.

    Attributes:
        context: [B, R, W], or [1, R, W] for all images alike.
        normal: [R, W].
        abnormal: [R, W].
    """

    context: Tensor
    normal: Tensor
    abnormal: Tensor


class Encoded(NamedTuple):
    """Text features and the distributions that their offsets were drawn from.

    Attributes:
        text: [B, 2, P, D] normalised.
        context, normal, abnormal: of the words' offsets.
    """

    text: Tensor
    context: FlowSample
    normal: FlowSample
    abnormal: FlowSample


class BayesPfl(ChangingMethod):
    """A bank of learned prompts with offsets from learned distributions."""

    title = "Bayes-PFL"
    backbone_spec = BackboneSpec(activation="gelu", pos_embed="bicubic")
    sigma = 8.0
    variants: ClassVar[Mapping[str, Options]] = {
        "fixed": BayesPflOptions(),
        "official": BayesPflOptions(score_scope="category"),
        "paper": BayesPflOptions(second_stage=False),
        "cached": BayesPflOptions(changes_images=False),
    }
    default_variant = "fixed"
    auxiliary_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {"mvtec_ad": ON_MVTEC}
    in_benchmark = False
    published_parameters = 27_370_017
    official_key = "MyModel"
    ignored_official = (
        "context_decoder.",
        "state_decoder.",
        "PFL_context.p_mu.",
        "PFL_normal.p_mu.",
        "PFL_abnormal.p_mu.",
        "PFL_context.encoder.",
        "PFL_context.decoder.",
        "PFL_normal.encoder.",
        "PFL_normal.decoder.",
        "PFL_abnormal.encoder.",
        "PFL_abnormal.decoder.",
    )
    options: BayesPflOptions
    noise_context: Tensor
    noise_normal: Tensor
    noise_abnormal: Tensor

    def __init__(self, backbone: Backbone, options: BayesPflOptions | None = None) -> None:
        super().__init__(backbone, options)
        own = self.backbone
        dim, words, hidden = own.embed_dim, own.text_width, own.width // 2
        self.specs = [TokenSpec(own.layer(layer)) for layer in LAYERS]
        self.prompt_context = learned_tokens(PROMPTS, CONTEXT_TOKENS, words)
        self.prompt_state_normal = _state_tokens(words, STATE_MEAN)
        self.prompt_state_abnormal = _state_tokens(words, -STATE_MEAN)
        self.temperature_pixel = log_temperature()
        self.temperature_image = log_temperature()
        self.context_encoder = GaussianEncoder(dim, hidden, words)
        self.state_encoder = GaussianEncoder(words, hidden, words)
        self.PFL_context = ImageFlow(dim, FLOWS, words)
        self.PFL_normal = StateFlow(FLOWS, words)
        self.PFL_abnormal = StateFlow(FLOWS, words)
        self.RCA = ResidualCrossAttention(len(LAYERS), own.width, dim)
        self.class_mapping = normal_linear(dim, dim)
        if self.options.second_stage:
            self.image_mapping = normal_linear(dim, dim)
            self.fuse = PatchPooling(len(LAYERS) * own.width, hidden, dim)
        drawn = self._noise_for_all(self.options.samples, words)
        for name, tensor in drawn._asdict().items():
            self.register_buffer(f"noise_{name}", tensor, persistent=False)

    def _noise_for_all(self, samples: int, width: int) -> Noise:
        generator = torch.Generator().manual_seed(self.options.noise_seed)
        shapes = ((1, samples, width), (samples, width), (samples, width))
        drawn = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
        return Noise(*drawn)

    @property
    def prompts(self) -> list[str]:
        """One text for both states: the learned tokens tell them apart."""
        return [learned_prompt(CONTEXT_TOKENS + STATE_TOKENS, "{}")]

    # -- prompts ------------------------------------------------------------------------------

    def encode(self, query: Query, noise: Noise | None = None) -> Encoded:
        """Text features of each image: every prompt of the bank with every sample's offsets.

        Without noise from outside those of what was drawn when the method was built.
        """
        noise = noise or Noise(self.noise_context, self.noise_normal, self.noise_abnormal)
        batch, image = len(query), query.features.class_token  # [B, D], not normalised
        context = self.PFL_context(self.context_encoder, image, noise.context.expand(batch, -1, -1))
        normal = self.PFL_normal(self.state_encoder, noise.normal)
        abnormal = self.PFL_abnormal(self.state_encoder, noise.abnormal)
        first = _offset(self.prompt_context, context.value)  # [B, R, N, 5, W]
        states = [
            _offset(tokens, drawn.value).expand_as(first)
            for tokens, drawn in (
                (self.prompt_state_normal, normal),
                (self.prompt_state_abnormal, abnormal),
            )
        ]
        words = torch.stack([torch.cat([first, state], dim=-2) for state in states])
        return Encoded(self._text_features(query.class_names, words), context, normal, abnormal)

    def _text_features(self, class_names: Sequence[str], words: Tensor) -> Tensor:
        """[B, 2, P, D] normalised, of the words before the class name [2, B, R, N, 10, W]."""
        names = [NAMES.get(name.lower(), name.lower()) for name in class_names]
        frame = make_frame(self.backbone, CONTEXT_TOKENS + STATE_TOKENS, names)
        prompts = frame.fill(words.flatten(2, 3).transpose(1, 2))  # [2, P, B, 10, W]
        features = self.backbone.encode_embeddings(*prompts)
        states = features.reshape(2, -1, len(names), features.shape[-1])
        return F.normalize(states.permute(2, 0, 1, 3), dim=-1)

    # -- score and map ------------------------------------------------------------------------

    @classmethod
    def track_of(cls, options: Options) -> Track:
        """Transductive where scores depend on the category's range."""
        scope = getattr(options, "score_scope", "image")
        return Track.TRANSDUCTIVE if scope == "category" else Track.ZERO_SHOT

    def predict(self, query: Query) -> Prediction:
        """Image-level probability and the map's largest values, and the smoothed map."""
        text = self.encode(query).text
        image = self.image_probability(query, text)
        maps = self._maps(query, text)
        smoothed = smooth(maps, self.smoothing_sigma)
        if self.options.score_scope == "category":
            parts = category_parts(query.class_names, image, maps)
            return Prediction(None, smoothed, parts)
        return Prediction(0.5 * image + 0.5 * largest_mean(maps), smoothed)

    def conclude(self, parts: Tensor) -> Tensor:
        """Scores of the category as released; see `category_scores`."""
        return category_scores(parts)

    def image_logits(self, query: Query, text: Tensor, second_stage: bool) -> Tensor:
        """[B, 2, P] of the class token, into which the second stage mixes the patches."""
        image = query.features.class_token
        if second_stage:
            image = self.image_mapping(image + self.fuse(self._patches(query)))
        mapped = F.normalize(self.class_mapping(text), dim=-1)
        cosines = torch.einsum("bspd,bd->bsp", mapped, F.normalize(image, dim=-1))
        return self.temperature_image.exp() * cosines

    def image_probability(self, query: Query, text: Tensor) -> Tensor:
        """[B] abnormal probability, mean over pairs."""
        logits = self.image_logits(query, text, self.options.second_stage)
        return (logits[:, 1] - logits[:, 0]).sigmoid().mean(dim=-1)

    def _patches(self, query: Query) -> list[Tensor]:
        return [query.features.tokens[spec] for spec in self.specs]

    def layer_logits(self, query: Query, text: Tensor) -> list[Tensor]:
        """[B, L, 2, P] of each layer, whose patches have refined the text features."""
        return [
            self.temperature_pixel.exp() * self.RCA(layer, patches, text)
            for layer, patches in enumerate(self._patches(query))
        ]

    def _maps(self, query: Query, text: Tensor) -> Tensor:
        """[B, M, M] abnormal probability, mean over pairs and layers, image by image for memory."""
        grid, total = query.features.grid, torch.zeros(())
        for logits in self.layer_logits(query, text):
            difference = logits[:, :, 1] - logits[:, :, 0]  # [B, L, P]
            layer = [
                upsample(one[None], grid, self.map_size, align_corners=True).sigmoid().mean(dim=1)
                for one in difference
            ]
            total = total.to(difference) + torch.cat(layer)
        return total / len(self.specs)

    # -- training -----------------------------------------------------------------------------

    def stages(self) -> Sequence[Stage]:
        """Prompts and heads with warm-up and cosine, then the image-level heads at a constant rate.

        The released code ends each stage by the metric on test images of the other auxiliary
        dataset; the numbers of epochs are fixed here.
        """
        chosen = self.options
        flows = ("PFL_context.amor_", "PFL_normal.", "PFL_abnormal.")
        rates = dict.fromkeys(("prompt_", *flows), chosen.lr)
        first = Schedule(
            chosen.epochs,
            chosen.batch_size,
            chosen.head_lr,
            cosine=True,
            per_step=True,
            rising_share=0.1,
            rates={**rates, "temperature_": chosen.temperature_lr},
            augments=self.makes_mosaics,
            augments_images=chosen.changes_images,
        )
        heads = ("image_mapping.", "fuse.")
        learned = {name.partition(".")[0] for name, _ in self.named_parameters()}
        pixel = tuple(sorted(name for name in learned if f"{name}." not in heads))
        stages = [Stage(first, "prompts", pixel)]
        if chosen.second_stage:
            second = Schedule(
                chosen.second_epochs,
                chosen.batch_size,
                chosen.head_lr,
                augments=self.makes_mosaics,
                augments_images=chosen.changes_images,
            )
            learns = ("class_mapping.", *heads)
            stages.append(Stage(second, "image level", learns, loss=self.image_loss))
        return stages

    def draw(self, batch: int) -> tuple[Noise, int]:
        """New noise for one sample an image, and the pair of the bank that the losses see."""
        width = self.backbone.text_width
        noise = (torch.randn(s) for s in ((batch, 1, width), (1, width), (1, width)))
        to = self.prompt_context
        return Noise(*(n.to(to) for n in noise)), int(torch.randint(PROMPTS, ()))

    def loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Image, pixel and orthogonality losses, and the evidence lower bound's divergences."""
        noise, pair = self.draw(len(query))
        encoded = self.encode(query, noise)
        image = F.cross_entropy(self.image_logits(query, encoded.text, False)[..., pair], labels)
        grid, size = query.features.grid, self.map_size
        layers = self.layer_logits(query, encoded.text)
        abnormal = [state_maps(x[..., pair], grid, size)[:, 1] for x in layers]  # [B, M, M] each
        focal = torch.stack([balanced_focal_loss(m, masks) for m in abnormal]).sum()
        dice = torch.stack([batch_dice_loss(m, masks) for m in abnormal]).sum()
        states = (encoded.normal.divergence(len(query)), encoded.abnormal.divergence(len(query)))
        divergence = DIVERGENCE_WEIGHT * (encoded.context.divergence() + sum(states))
        orthogonality = squared_cosines(encoded.text)
        terms = {
            "image": image,
            "focal": focal,
            "dice_abnormal": dice,
            "divergence": divergence,
            "orthogonality": orthogonality,
        }
        return {**terms, "total": torch.stack(list(terms.values())).sum()}

    def image_loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the second stage's image embedding alone."""
        noise, pair = self.draw(len(query))
        text = self.encode(query, noise).text
        image = F.cross_entropy(self.image_logits(query, text, True)[..., pair], labels)
        return {"image": image, "total": image}


class ResidualCrossAttention(nn.Module):
    """Text features refined by a layer's patches, and their similarity to them."""

    def __init__(self, layers: int, width: int, dim: int) -> None:
        super().__init__()
        self.q_proj_pre = nn.Conv1d(dim, dim, 1, dtype=torch.float64)
        self.linear_proj = nn.ModuleList(
            normal_linear(width, dim, bias=False) for _ in range(layers)
        )

    def forward(self, layer: int, patches: Tensor, text: Tensor) -> Tensor:
        """Cosines [B, L, 2, P] of patches [B, L, width] and refined text [B, 2, P, D].

        Keys and values are the projected patches. The scale is that of one head of width D,
        although there are four, as released.
        """
        projected = F.normalize(self.linear_proj[layer](patches), dim=-1)  # [B, L, D]
        flat = text.flatten(1, 2)  # [B, 2 P, D]
        query = self.q_proj_pre(flat.transpose(1, 2)).transpose(1, 2)
        heads = [t.reshape(*t.shape[:2], HEADS, -1).transpose(1, 2) for t in (query, projected)]
        scores = heads[0] @ heads[1].transpose(2, 3) * flat.shape[-1] ** -0.5  # [B, 4, 2 P, L]
        attended = (scores.softmax(dim=-1) @ heads[1]).transpose(1, 2).flatten(2)
        refined = F.normalize(attended + flat, dim=-1)
        cosines: Tensor = projected @ refined.transpose(1, 2)  # [B, L, 2 P]
        return cosines.reshape(*cosines.shape[:2], 2, -1)


class PatchPooling(nn.Module):
    """One vector from the patches of all layers, by attention over patches."""

    def __init__(self, width: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.fuse_modules = normal_linear(width, hidden)
        self.compress = normal_linear(hidden, 1)
        self.post_process = normal_linear(hidden, dim)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """[B, L, width] of each layer -> [B, D]."""
        hidden = self.fuse_modules(torch.cat(list(layers), dim=-1))  # [B, L, h]
        attention = self.compress(hidden).softmax(dim=1)
        pooled: Tensor = self.post_process((attention * hidden).sum(dim=1))
        return pooled


def _offset(tokens: Tensor, drawn: Tensor) -> Tensor:
    """Tokens [N, n, W], each with the offset [B, R, W] of a sample: [B, R, N, n, W]."""
    return tokens + drawn[:, :, None, None]


def _state_tokens(width: int, mean: float) -> nn.Parameter:
    drawn = torch.empty(PROMPTS, STATE_TOKENS, width, dtype=torch.float64)
    return nn.Parameter(nn.init.trunc_normal_(drawn, mean=mean, std=0.02, a=-2, b=2))
