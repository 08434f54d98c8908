"""AA-CLIP: adapters in the first blocks of both towers, learned in two stages.

Ma et al., "AA-CLIP: Enhancing Zero-Shot Anomaly Detection via Anomaly-Aware CLIP", CVPR 2025, and
the released code (Mwxinnn/AA-CLIP). First the text adapters learn to tell normal from abnormal
against patches of the frozen visual tower. What they then say of each class stays fixed as its
*anchors*, against which the visual adapters learn in the second stage. Classes have descriptions.

The released score needs the whole category: the greatest map value and the image's similarity are
each normalised over all its images. Variant `official` does so; the default weighs one against the
other by their ranges on the auxiliary dataset, so that an image is scored by itself.

Axes: B images, L patch tokens, D embedding, W a tower's width, M map side; states are ordered
(normal, abnormal). Differences from the paper and from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..bench.anomaly_maps import smooth, state_maps
from ..bench.backbone import Attention, Backbone, BackboneSpec, TextHooks, TokenSpec
from ..bench.images import Mask
from ..bench.method import ExtraWork, Options, Schedule, Stage, Track, TrainableMethod
from ..bench.preprocess import Preprocess, Unencoded
from ..bench.prompt_learner import FrozenText
from ..bench.prompts import fill
from ..bench.query import Prediction, Query
from ._aa_clip_images import jittered, moved
from ._adapters import AdapterHook, projection
from ._descriptions import description, plain
from ._grid_blur import blurred
from ._losses import LocalLoss, local_loss

NORMAL = ("{}", "a {}", "the {}")
ABNORMAL = (
    "a damaged {}",
    "a broken {}",
    "a {} with flaw",
    "a {} with defect",
    "a {} with damage",
)
TEMPLATES = ("{}.", "a photo of {}.")
SCALE = 100.0  # of the similarities in maps; that of the image score is 1
TEXT_BLOCKS = 3  # of 12, with adapters
VISUAL_BLOCKS = 6  # of 24, with adapters
SURGERY_FROM = 6  # of 24, the first block with value attention in the first stage
LAYERS = (6, 12, 18, 24)
TEXT, IMAGE = "text", "image"  # the stages
INDUSTRIAL_BLUR, MEDICAL_BLUR = (7, 1.0), (9, 1.5)  # taps and sigma, on the patch grid


@dataclass(frozen=True)
class AaClipOptions(Options):
    """What can be asked of AA-CLIP; the defaults are those of the released code.

    Attributes:
        plain_gelu: both towers run with GELU, which OpenAI's weights were not trained with; the
            released configuration lacks the switch.
        value_axis: the value attention of the first stage runs across the images of the batch at
            each position, as released, or across the tokens of each image.
        text_layers: blocks of 24 whose patches the first stage learns from; the released loop
            overwrites the loss of all but the last.
        score_scope: "category" normalises both parts of the score over all images of the category,
            as released; "image" weighs them by their ranges on the auxiliary dataset.
        descriptions: prompts describe the object, in the query's words where it has some; else they
            name its class.
        text_epochs, text_batch_size, text_lr: of the first stage.
        epochs, batch_size, lr: of the second stage.
    """

    plain_gelu: bool = True
    value_axis: Literal["batch", "tokens"] = "batch"
    text_layers: Sequence[int] = (24,)
    score_scope: Literal["image", "category"] = "image"
    descriptions: bool = True
    text_epochs: int = 5
    text_batch_size: int = 16
    text_lr: float = 1e-5
    epochs: int = 20
    batch_size: int = 2
    lr: float = 5e-4


@dataclass(frozen=True)
class Seen:
    """What the adapted visual tower makes of a batch.

    Attributes:
        patches: [B, L, D] of each level, normalised.
        image: [B, D], the mean of normalised patches, not normalised again.
        grid: rows and columns of the patches.
    """

    patches: list[Tensor]
    image: Tensor
    grid: tuple[int, int]


class VisualAdapters(nn.Module):
    """What the second stage learns, by the names of the released code.

    Args:
        blocks: first blocks with an adapter each.
        width: W of the tower.
        given: D, what the projections give.
    """

    def __init__(self, blocks: int, width: int, given: int) -> None:
        super().__init__()
        self.layer_adapters = nn.ModuleList(projection(width, width, True) for _ in range(blocks))
        self.seg_proj = nn.ModuleList(projection(width, given) for _ in LAYERS)
        self.det_proj = projection(width, given)


class AaClip(TrainableMethod):
    """Text adapters, then visual adapters and projections against the classes' anchors."""

    title = "AA-CLIP"
    backbone_spec = BackboneSpec(activation="gelu", pos_embed="bicubic")
    needs_images = True
    in_benchmark = False
    variants: ClassVar[Mapping[str, Options]] = {
        "per_image": AaClipOptions(),
        "official": AaClipOptions(score_scope="category"),
        "fixed": AaClipOptions(plain_gelu=False, value_axis="tokens", text_layers=LAYERS),
    }
    default_variant = "per_image"
    # Four times faster on the built-in images, whose numbers say nothing about real ones.
    auxiliary_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {"synthetic_aux": {"epochs": 5}}
    published_parameters = 12_582_912
    mask_resize = "nearest"
    official_parts: ClassVar[Mapping[str, str]] = {
        "text_adapter": "text_adapter.",
        "image_adapter": "image_adapter.",
    }
    official_aliases: ClassVar[Mapping[str, str]] = {  # trained with --relu
        f"image_adapter.{name}.fc.0.": f"image_adapter.{name}.fc."
        for name in (*(f"seg_proj.{level}" for level in range(len(LAYERS))), "det_proj")
    }
    remembers_last = True
    options: AaClipOptions
    score_ratio: Tensor

    def __init__(self, backbone: Backbone, options: AaClipOptions | None = None) -> None:
        super().__init__(backbone, options)
        if not self.options.plain_gelu:
            self.backbone = backbone.view("own", "bicubic")
        clip = self.backbone
        text, width = clip.text_layer(TEXT_BLOCKS), clip.width
        self.text_adapter = nn.ModuleList(
            projection(clip.text_width, given, True)
            for given in (*[clip.text_width] * text, clip.embed_dim)
        )
        self.image_adapter = VisualAdapters(clip.layer(VISUAL_BLOCKS), width, clip.embed_dim)
        if self.options.score_scope == "image":
            self.register_buffer("score_ratio", torch.ones(()))
        self._specs = [TokenSpec(clip.layer(layer)) for layer in LAYERS]
        self._frozen = FrozenText(self.text_adapter)
        self._extents: dict[str, Tensor] = {}

    @classmethod
    def track_of(cls, options: Options) -> Track:
        """Transductive where the score is normalised over the category."""
        assert isinstance(options, AaClipOptions)
        return Track.TRANSDUCTIVE if options.score_scope == "category" else Track.ZERO_SHOT

    @classmethod
    def extra_work_of(cls, options: Options) -> ExtraWork:
        """Images pass the tower with adapters, and no shared forward is made for them."""
        return ExtraWork(1)

    @property
    def preprocess(self) -> Preprocess:
        """As of every method, without a forward that this one would not read."""
        plain = super().preprocess
        return Unencoded(plain.image_size, plain.interpolation, plain.mean, plain.std)

    @property
    def prompts(self) -> list[str]:
        """6 normal and 10 abnormal ones."""
        return fill(TEMPLATES, (*NORMAL, *ABNORMAL), "{}")

    def prompt_facts(self) -> list[str]:
        """Whether classes are described, too."""
        return [*super().prompt_facts(), f"descriptions {self.options.descriptions}"]

    # -- training -----------------------------------------------------------------------------

    def stages(self) -> Sequence[Stage]:
        """Text adapters at a small constant rate; then visual ones, whose rate is halved twice."""
        chosen = self.options
        text = Schedule(chosen.text_epochs, chosen.text_batch_size, chosen.text_lr, augments=True)
        image = Schedule(
            chosen.epochs,
            chosen.batch_size,
            chosen.lr,
            augments=True,
            augments_images=True,
            milestones=(16_000, 32_000),
            gamma=0.5,
        )
        return (
            Stage(text, TEXT, learns=("text_adapter.",), loss=self.text_loss),
            Stage(
                image,
                IMAGE,
                learns=("image_adapter.",),
                loss=self.image_loss,
                mean_over_images=True,
            ),
        )

    def begin_stage(self, stage: Stage, class_names: Sequence[str]) -> None:
        """Encode the anchors of all classes, which the second stage learns against."""
        if stage.name == IMAGE:
            self.text_features([self.phrase(name) for name in class_names])

    def augment_image(
        self, image: Image.Image, mask: Mask, class_name: str, generator: torch.Generator
    ) -> tuple[Image.Image, Mask]:
        """Brightness, contrast and saturation are changed by chance."""
        return jittered(image, generator), mask

    def augment(
        self, images: Tensor, masks: Tensor, class_names: Sequence[str], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Each image is turned, shifted and flipped by chance, and its mask with it."""
        pairs = [moved(image, mask, generator) for image, mask in zip(images, masks, strict=True)]
        return torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])

    def text_loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Local losses of the frozen patches, and a tenth of how alike the two states are."""
        text = self.text_features(self.phrases(query))
        layers = self.frozen_patches(query)
        local = self._local_loss(layers, text, masks)
        alike = (text[:, 0] * text[:, 1]).sum(dim=-1).mean() ** 2
        total = local.total + 0.1 * alike
        return {**local.terms(), "orthogonality": alike, "total": total}

    def image_loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Local losses of all levels, and the cross-entropy of the image at temperature 1."""
        with torch.no_grad():
            anchors = self.text_features(self.phrases(query))
        seen = self.see(query)
        local = self._local_loss(seen.patches, anchors, masks)
        logits = torch.einsum("bd,bsd->bs", seen.image, anchors)
        image = F.cross_entropy(logits, labels)
        return {**local.terms(), "image": image, "total": image + local.total}

    def _local_loss(self, layers: Sequence[Tensor], text: Tensor, masks: Tensor) -> LocalLoss:
        """Of patches [B, L, D] a layer, whose similarities are upsampled before the softmax."""
        side = self.image_size // self.backbone.patch_size
        terms = []
        for patches in layers:
            similarity = SCALE * patches @ text.transpose(1, 2)  # [B, L, 2]
            maps = state_maps(similarity, (side, side), self.map_size)
            terms.append(local_loss(maps[:, 1], masks))
        return reduce(add, terms)

    @torch.no_grad()
    def frozen_patches(self, query: Query) -> list[Tensor]:
        """[B, L, D] of each layer: patches of a tower with value attention, plus the class token.

        The patches are normalised, and so is the class token, which is plain CLIP's; their sum is
        not.
        """
        clip, images = self.backbone, self._images(query)
        specs = [TokenSpec(clip.layer(layer)) for layer in self.options.text_layers]
        start = clip.layer(SURGERY_FROM)
        attention: Attention = "value_batch" if self.options.value_axis == "batch" else "value"
        tokens = clip.forward_image(images, specs, attention=attention, attention_from=start).tokens
        plain = F.normalize(clip.encode_image(images).class_token, dim=-1)[:, None]
        return [F.normalize(clip.project(tokens[spec]), dim=-1) + plain for spec in specs]

    # -- both towers --------------------------------------------------------------------------

    def phrases(self, query: Query) -> list[str]:
        """B descriptions: those that the query has, else those of the released code."""
        pairs = zip(query.class_names, query.descriptions, strict=True)
        given = self.options.descriptions
        return [text if text and given else self.phrase(name) for name, text in pairs]

    def phrase(self, class_name: str) -> str:
        """What prompts say of a class."""
        return description(class_name) if self.options.descriptions else plain(class_name)

    def text_features(self, phrases: Sequence[str]) -> Tensor:
        """[B, 2, D] normalised, of B phrases."""
        return self._frozen.each(phrases, self._encode)

    def _encode(self, phrases: Sequence[str]) -> Tensor:
        """[B, 2, D] normalised, of distinct phrases."""
        clip = self.backbone
        states = (*NORMAL, *ABNORMAL)
        prompts = [text for phrase in phrases for text in fill(TEMPLATES, states, phrase)]
        ids = clip.tokenize(prompts)
        *adapters, head = self.text_adapter
        hooks = TextHooks(after=AdapterHook(adapters), head=head)
        encoded = clip.encode_embeddings(clip.embed_tokens(ids), ids.argmax(dim=-1), hooks=hooks)
        each = F.normalize(encoded, dim=-1).reshape(len(phrases), -1, clip.embed_dim)
        split = len(NORMAL) * len(TEMPLATES)
        means = [each[:, :split].mean(dim=1), each[:, split:].mean(dim=1)]
        return F.normalize(torch.stack(means, dim=1), dim=-1)

    def see(self, query: Query) -> Seen:
        """The visual tower with its adapters, and the projections of four levels."""
        clip, adapter = self.backbone, self.image_adapter
        hook = AdapterHook(adapter.layer_adapters)
        features = clip.forward_image(self._images(query), self._specs, after=hook)
        levels = [clip.normalise_tokens(features.tokens[spec]) for spec in self._specs]
        patches = [
            F.normalize(project(level), dim=-1)
            for project, level in zip(adapter.seg_proj, levels, strict=True)
        ]
        image = F.normalize(adapter.det_proj(levels[-1]), dim=-1).mean(dim=1)
        return Seen(patches, image, features.grid)

    def _images(self, query: Query) -> Tensor:
        assert query.images is not None, "needs_images is declared"
        return query.images

    # -- answers ------------------------------------------------------------------------------

    def predict(self, query: Query) -> Prediction:
        """Map of four levels; score of its greatest value and of the image's similarity."""
        medical = self._medical(query)
        maps, image = self.evidence(query)
        greatest, least = maps.amax(dim=(1, 2)), maps.amin(dim=(1, 2))
        smoothed = smooth(maps, self.smoothing_sigma)
        if self.options.score_scope == "category":
            parts = torch.stack([greatest, least, image, medical.to(image.dtype)], dim=1)
            return Prediction(None, smoothed, parts)
        scores = torch.where(medical, greatest, self.score_ratio * greatest + image)
        return Prediction(scores, smoothed)

    def conclude(self, parts: Tensor) -> Tensor:
        """The mean of both parts, each from 0 to 1 over the category; the map's alone in medicine.

        A part that is the same everywhere counts as 0.

        Args:
            parts: [N, 4] greatest and least map value, image part, and whether it is medical.
        """
        greatest, least, image, medical = parts.unbind(dim=1)
        of_map = _scaled(greatest, least.min(), greatest.max())
        of_image = _scaled(image, image.min(), image.max())
        return torch.where(medical > 0, of_map, 0.5 * of_map + 0.5 * of_image)

    def evidence(self, query: Query) -> tuple[Tensor, Tensor]:
        """Maps [B, M, M], unbounded, and the image's abnormal similarity [B] as of 0 to 1."""
        text, seen = self.text_features(self.phrases(query)), self.see(query)
        side = (self.map_size, self.map_size)
        medical = self._medical(query)[:, None, None]
        levels = []
        for patches in seen.patches:
            similarity = SCALE * patches @ text.transpose(1, 2)  # [B, L, 2]
            grid = 0.5 * (similarity[..., 1] + 1 - similarity[..., 0])
            grid = grid.reshape(-1, *seen.grid)
            grid = torch.where(
                medical, blurred(grid, *MEDICAL_BLUR), blurred(grid, *INDUSTRIAL_BLUR)
            )
            levels.append(F.interpolate(grid[:, None], side, mode="bilinear", align_corners=True))
        maps = torch.stack(levels).sum(dim=0)[:, 0]
        return maps, 0.5 * ((seen.image * text[:, 1]).sum(dim=-1) + 1)

    def _medical(self, query: Query) -> Tensor:
        """[B] bool."""
        flags = [domain == "medical" for domain in query.domains]
        return torch.tensor(flags, device=self.backbone.device)

    # -- the weight of the image part, from the auxiliary dataset -----------------------------

    @property
    def remembers(self) -> bool:
        """Where the score is of the image alone."""
        return self.options.score_scope == "image"

    def remember(self, query: Query, labels: Tensor, masks: Tensor) -> None:
        """Take down the extent of both parts in each class of the auxiliary dataset."""
        maps, image = self.evidence(query)
        for name, own, part in zip(query.class_names, maps, image, strict=True):
            ends = torch.stack([own.min(), -own.max(), part, -part])
            self._extents[name] = torch.minimum(self._extents.get(name, ends), ends)

    def settle(self) -> None:
        """The mean over classes of the image part's range, as a share of the map's."""
        ends = torch.stack(list(self._extents.values()))
        ranges = -ends[:, 1::2] - ends[:, ::2]  # [classes, 2]
        self.score_ratio.copy_((ranges[:, 1] / ranges[:, 0].clamp_min(1e-12)).mean())
        self._extents = {}


def _scaled(values: Tensor, least: Tensor, greatest: Tensor) -> Tensor:
    """Values from 0 to 1 between two bounds; 0 where these are one."""
    extent = greatest - least
    return torch.where(extent > 0, (values - least) / extent, torch.zeros_like(values))
