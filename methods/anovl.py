"""AnoVL: V-V attention in every block, 22 views of the image, and an adapter fitted to each image.

Deng et al., "AnoVL: Adapting Vision-Language Models for Unified Zero-shot Anomaly Localization",
arXiv 2308.15939, and the released code (hq-deng/AnoVL). The FAPrompt paper's rows are those of the
training-free setting: variant "paper". "official" adds test-time adaptation as `vl_test.py` has it
(`_anovl_adaptation.py`). "official_visa" is `vis_test.py`, with which the authors tested on VisA:
two square tiles of an image that keeps its aspect, instead of the views (`_anovl_tiles.py`), and a
plain linear adapter whose loss is taken on the joined tiles. Its maps are squashed to a square
here, as all are; the script keeps the aspect to the end.

Axes: B images, L patch tokens, D embedding, P prompts of a class, S image and map
side.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.anomaly_maps import smooth, state_probabilities, upsample
from ..bench.backbone import Backbone, BackboneSpec, TokenSpec
from ..bench.errors import ContractError
from ..bench.method import ExtraWork, Method, Options, Prediction, Query, Supervision
from ..bench.preprocess import Interpolation, Preprocess
from ._anovl_adaptation import Adaptation, Probabilities
from ._anovl_tiles import TwoTiles, joined_maps, tile_scores
from ._prompts import ANOVL_ABNORMAL, ANOVL_NORMAL, ANOVL_RENAMED, anovl_prompts

TEMPERATURE = 1.0  # the released code scales nothing
ROTATIONS = tuple(sign * k * math.pi / 16 for k in (1, 2, 3, 4) for sign in (1, -1))
SHIFTS = tuple((a * s, b * s) for s in (0.2, 0.1) for a in (1, -1) for b in (1, -1))
GREY = (0.299, 0.587, 0.114)  # on the normalised tensor
SEEDS = {"mvtec": 111, "visa": 42}  # of the released scripts; here of every image
N_VIEWS = 6 + len(ROTATIONS) + len(SHIFTS)


@dataclass(frozen=True)
class AnoVlOptions(Options):
    """Options of AnoVL.

    Attributes:
        steps: optimiser steps on each image; 0 is training-free.
        lr: of AdamW.
        leak: keep AdamW's moments from image to image of a class, as released.
        script: "mvtec" squashes images, scores 22 views and adapts with the prompts as dictionary;
            "visa" reads, scores and joins two square tiles, and adapts with a linear layer.
    """

    steps: int = 0
    lr: float = 1e-3
    leak: bool = False
    script: Literal["mvtec", "visa"] = "mvtec"


@dataclass(frozen=True)
class ClassText:
    """Text of one class.

    Attributes:
        name: of the class.
        states: [2, D] mean of raw features, L2-normalised, (normal, abnormal).
        prompts: [P, D] every prompt, L2-normalised; the adapter's dictionary. In the released
            order, which a given initial adapter goes with: the normal half first, templates
            outermost.
    """

    name: str
    states: Tensor
    prompts: Tensor


def patch_probabilities(similarity: Tensor) -> Tensor:
    """Probabilities [B, L, 2] of patches from their similarities."""
    return similarity.softmax(dim=-1)


class AnoVl(Method):
    """Class tokens of views or tiles for the score, V-V tokens of the last block for the map."""

    title = "AnoVL"
    backbone_spec = BackboneSpec("ViT-B-16-plus-240", "laion400m_e32", 240, pos_embed="bicubic")
    interpolation: ClassVar[Interpolation] = "bilinear"
    variants: ClassVar[Mapping[str, Options]] = {
        "paper": AnoVlOptions(),
        "official": AnoVlOptions(steps=5),
        "official_visa": AnoVlOptions(steps=5, script="visa"),
    }
    default_variant = "paper"
    needs_images = True
    options: AnoVlOptions

    def __init__(self, backbone: Backbone, options: Options | None = None) -> None:
        super().__init__(backbone, options)
        self._texts: dict[str, ClassText] = {}
        chosen = self.options
        self.adaptation = Adaptation(
            chosen.steps, chosen.lr, SEEDS[chosen.script], not self._tiled, chosen.leak
        )

    @classmethod
    def supervision_of(cls, options: Options) -> Supervision:
        """Adaptation learns from the very image that it scores."""
        assert isinstance(options, AnoVlOptions)
        return Supervision.TEST_TIME if options.steps else Supervision.TRAINING_FREE

    @classmethod
    def extra_work_of(cls, options: Options) -> ExtraWork:
        """A forward for each view but the image itself; the tiles are the shared forward."""
        assert isinstance(options, AnoVlOptions)
        return ExtraWork(0 if options.script == "visa" else N_VIEWS - 1)

    @property
    def preprocess(self) -> Preprocess:
        """Squashed images, or two tiles."""
        squash = super().preprocess
        return TwoTiles(**asdict(squash)) if self._tiled else squash

    @property
    def _tiled(self) -> bool:
        return self.options.script == "visa"

    @property
    def patches(self) -> TokenSpec:
        """The V-V path over all blocks."""
        return TokenSpec(self.backbone.depth, value_from=1)

    @property
    def prompts(self) -> list[str]:
        """Those of objects; textures have other nouns."""
        return [*anovl_prompts("{}", ANOVL_NORMAL), *anovl_prompts("{}", ANOVL_ABNORMAL)]

    @property
    def token_specs(self) -> frozenset[TokenSpec]:
        """See `patches`."""
        return frozenset({self.patches})

    def text(self, class_name: str) -> ClassText:
        """The text features of a class, computed once."""
        if class_name not in self._texts:
            word = ANOVL_RENAMED.get(class_name, class_name)
            raw = [
                self.backbone.encode_text(anovl_prompts(word, states))
                for states in (ANOVL_NORMAL, ANOVL_ABNORMAL)
            ]
            means = torch.stack([features.mean(dim=0) for features in raw])
            self._texts[class_name] = ClassText(
                class_name, F.normalize(means, dim=-1), F.normalize(torch.cat(raw), dim=-1)
            )
        return self._texts[class_name]

    def predict(self, query: Query) -> Prediction:
        """Mean abnormal probability of views or tiles; averaged, enlarged patch probabilities."""
        if query.images is None:
            raise ContractError("AnoVL reads images (needs_images), the query has none")
        texts = [self.text(name) for name in query.class_names]
        states = torch.stack([text.states for text in texts])  # [B, 2, D]
        tokens = self.backbone.project(query.features.tokens[self.patches])  # [B, L, D]
        grid = query.features.grid
        if self._tiled:
            scores = tile_scores(query.features.class_token, states)
            maps = joined_maps(
                query.images,
                grid,
                lambda joint: self._maps(
                    tokens[joint.chosen],
                    [texts[i] for i in joint.chosen],
                    grid,
                    joint.probabilities,
                ),
            )
        else:
            class_token = query.features.class_token
            scores = self.score_views(class_token, query.images, states)
            maps = self._maps(tokens, texts, grid, patch_probabilities)
        return Prediction(scores, smooth(maps, self.smoothing_sigma))

    def _maps(
        self,
        tokens: Tensor,
        texts: Sequence[ClassText],
        grid: tuple[int, int],
        probabilities: Probabilities,
    ) -> Tensor:
        """[B, S, S] of tokens [B, L, D], adapted where the variant adapts; twice as many of tiles.

        Args:
            tokens: [B, L, D], or [B, 2 L, D] of two tiles.
            texts: of the images' classes.
            grid: rows and columns of the patches of an image or a tile.
            probabilities: that an adaptation's loss is taken on.
        """
        states = torch.stack([text.states for text in texts])
        if self.options.steps:
            prompts = torch.stack([text.prompts for text in texts])
            names = [text.name for text in texts]
            tokens = self.adaptation(tokens, states, prompts, names, probabilities)
        patches = state_probabilities(tokens, states, TEMPERATURE)[..., 1]
        averaged = average3(patches.reshape(-1, grid[0] * grid[1]), grid)
        return upsample(averaged, grid, self.image_size, align_corners=True)

    def score_views(self, class_token: Tensor, images: Tensor, states: Tensor) -> Tensor:
        """[B] mean over the views of the abnormal probability of the class token.

        Args:
            class_token: [B, D] of the images themselves, which are the first view.
            images: [B, 3, S, S].
            states: [B, 2, D].
        """
        seen = views(images)  # [22, B, 3, S, S]
        tokens = torch.cat([class_token, self.backbone.class_tokens(seen[1:].flatten(0, 1))])
        repeated = states.repeat(len(seen), 1, 1)  # [22 * B, 2, D]
        probabilities = state_probabilities(tokens, repeated, TEMPERATURE)[:, 1]
        return probabilities.reshape(len(seen), -1).mean(dim=0)


def average3(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """3x3 mean of patch values [B, L], the border repeated."""
    square = patches.reshape(-1, 1, *grid)
    padded = F.pad(square, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(padded, 3, stride=1).flatten(1)


def views(images: Tensor) -> Tensor:
    """The 22 views [22, B, 3, S, S] of normalised images [B, 3, S, S]."""
    seen = images.new_empty(6 + len(view_transforms()), *images.shape)
    for place, view in zip(seen, each_view(images), strict=True):
        place.copy_(view)
    return seen


def each_view(images: Tensor) -> Iterator[Tensor]:
    """The views one by one; rotated and shifted ones reflect what comes from outside."""
    yield images
    yield images.flip(3)
    weights = torch.tensor(GREY, device=images.device, dtype=images.dtype)
    yield (images * weights[:, None, None]).sum(dim=1, keepdim=True)
    yield from (torch.rot90(images, k, dims=(2, 3)) for k in (1, 2, 3))
    for transform in view_transforms().to(images):  # [2, 3]
        size = [1, *images.shape[1:]]
        grid = F.affine_grid(transform[None], size, align_corners=True).expand(
            len(images), -1, -1, -1
        )
        yield F.grid_sample(
            images, grid, mode="bilinear", padding_mode="reflection", align_corners=True
        )


@lru_cache(maxsize=1)
def view_transforms() -> Tensor:
    """[16, 2, 3] affine maps: eight rotations, eight shifts."""
    rotations = [
        [[math.cos(a), -math.sin(a), 0.0], [math.sin(a), math.cos(a), 0.0]] for a in ROTATIONS
    ]
    shifts = [[[1.0, 0.0, x], [0.0, 1.0, y]] for x, y in SHIFTS]
    return torch.tensor(rotations + shifts)
