"""AnoVL: V-V attention in every block, 22 views of the image, and an adapter fitted to each image.

Deng et al., "AnoVL: Adapting Vision-Language Models for Unified Zero-shot Anomaly Localization",
arXiv 2308.15939, and the released code (hq-deng/AnoVL). The FAPrompt paper's rows are those of the
training-free setting: variant "paper". "official" adds test-time adaptation as `vl_test.py` has it;
there the optimiser's moments leak from image to image of a class, which `leak` reproduces and the
default does not, so that an image's answer depends on it alone. "official_visa" is `vis_test.py`,
with which the authors tested on VisA: two square tiles of an image that keeps its aspect, in the
place of the views, and a plain linear adapter whose loss is taken on the joined tiles. Its maps are
squashed to a square here, as all are; the script keeps the aspect to the end.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.anomaly_maps import smooth, state_probabilities, state_similarity, upsample
from ..bench.backbone import Backbone, BackboneSpec, TokenSpec
from ..bench.errors import ContractError, unknown_name
from ..bench.method import Method, Options, Prediction, Query, Supervision
from ..bench.preprocess import Interpolation, Preprocess, join_tiles, second_tile
from ..bench.prompts import fill
from ._prompts import (
    ANOVL_ABNORMAL,
    ANOVL_NORMAL,
    ANOVL_RENAMED,
    anovl_templates,
)

TEMPERATURE = 1.0  # the released code scales nothing
ROTATIONS = tuple(sign * k * math.pi / 16 for k in (1, 2, 3, 4) for sign in (1, -1))
SHIFTS = tuple((a * s, b * s) for s in (0.2, 0.1) for a in (1, -1) for b in (1, -1))
GREY = (0.299, 0.587, 0.114)  # on the normalised tensor
SHARE = 0.5  # of the adapter's answer in A(x) = 0.5 x + 0.5 T(x)
NOISE = 0.055  # 0.05 * 1.1
NOISE_WEIGHT = 0.5
SEEDS = {"mvtec": 111, "visa": 42}  # of the released scripts; here of every image
VIEWS_AT_ONCE = 64

Script = Literal["mvtec", "visa"]
See = Callable[[Tensor], Tensor]
"""Similarities of an image's patches [B, L, 2] to probabilities [B, N, 2] for the loss."""


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
    script: Script = "mvtec"


@dataclass(frozen=True)
class ClassText:
    """Text of one class.

    Attributes:
        states: [2, D] mean of raw features, L2-normalised, (normal, abnormal).
        prompts: [P, D] every prompt, L2-normalised; the adapter's dictionary. In the released
            order, which a given initial adapter goes with: the normal half first, templates
            outermost.
    """

    states: Tensor
    prompts: Tensor


@dataclass
class Adapter:
    """T(x) = tanh(W x/|x| + b) E, or W x/|x| + b without prompts E, one for each of B images.

    Attributes:
        weight: [B, P, D]; [B, D, D] without prompts.
        bias: [B, P].
    """

    weight: Tensor
    bias: Tensor
    optimizer: torch.optim.AdamW = field(init=False)
    lr: float = 1e-3

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW([self.weight, self.bias], lr=self.lr)

    def __call__(self, tokens: Tensor, dictionary: Tensor | None) -> Tensor:
        """Tokens [B, L, D] and prompts [B, P, D], or none -> adapted tokens [B, L, D]."""
        codes = F.normalize(tokens, dim=-1) @ self.weight.transpose(1, 2) + self.bias[:, None]
        answer = codes if dictionary is None else codes.tanh() @ dictionary
        return (1 - SHARE) * tokens + SHARE * answer


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
        if self.options.script not in get_args(Script):
            raise unknown_name("script of AnoVL", self.options.script, get_args(Script))
        self._texts: dict[str, ClassText] = {}
        self._leaking: dict[str, Adapter] = {}

    @classmethod
    def supervision_of(cls, options: Options) -> Supervision:
        """Adaptation learns from the very image that it scores."""
        assert isinstance(options, AnoVlOptions)
        return Supervision.TEST_TIME if options.steps else Supervision.TRAINING_FREE

    @property
    def preprocess(self) -> Preprocess:
        """Squashed images, or two tiles."""
        squash = super().preprocess
        return replace(squash, framing="two_tiles") if self._tiled else squash

    @property
    def _tiled(self) -> bool:
        return self.options.script == "visa"

    @property
    def _seed(self) -> int:
        return SEEDS[self.options.script]

    @property
    def patches(self) -> TokenSpec:
        """The V-V path over all blocks."""
        return TokenSpec(self.backbone.depth, value_from=1)

    @property
    def prompts(self) -> list[str]:
        """Those of objects; textures have other nouns."""
        return [*class_prompts("{}", ANOVL_NORMAL), *class_prompts("{}", ANOVL_ABNORMAL)]

    @property
    def token_specs(self) -> frozenset[TokenSpec]:
        """See `patches`."""
        return frozenset({self.patches})

    def text(self, class_name: str) -> ClassText:
        """The text features of a class, computed once."""
        if class_name not in self._texts:
            word = ANOVL_RENAMED.get(class_name, class_name)
            raw = [
                self.backbone.encode_text(class_prompts(word, states))
                for states in (ANOVL_NORMAL, ANOVL_ABNORMAL)
            ]
            means = torch.stack([features.mean(dim=0) for features in raw])
            self._texts[class_name] = ClassText(
                F.normalize(means, dim=-1), F.normalize(torch.cat(raw), dim=-1)
            )
        return self._texts[class_name]

    def predict(self, query: Query) -> Prediction:
        """Mean abnormal probability of views or tiles; averaged, enlarged patch probabilities."""
        if query.images is None:
            raise ContractError("AnoVL reads images (needs_images), the query has none")
        texts = [self.text(name) for name in query.class_names]
        states = torch.stack([text.states for text in texts])  # [B, 2, D]
        tokens = self.backbone.project(query.features.tokens[self.patches])
        tokens = tokens.reshape(len(query), -1, tokens.shape[-1])  # [B, L, D], of all tiles
        if self._tiled:
            scores = score_tiles(query.features.class_token, states)
            maps = self._joined_maps(tokens, texts, query)
        else:
            scores = self.score_views(query.images, states)
            maps = self._maps(tokens, texts, query.class_names, query.features.grid, see_patches)
        return Prediction(scores, smooth(maps, self.smoothing_sigma))

    # -- maps ---------------------------------------------------------------------------------

    def _maps(
        self,
        tokens: Tensor,
        texts: Sequence[ClassText],
        class_names: Sequence[str],
        grid: tuple[int, int],
        see: See,
    ) -> Tensor:
        """[B * T, S, S] of tokens [B, T * L, D], adapted where the variant adapts."""
        if self.options.steps:
            tokens = self.adapt(tokens, texts, class_names, see)
        states = torch.stack([text.states for text in texts])
        patches = state_probabilities(tokens, states, TEMPERATURE)[..., 1]
        averaged = average3(patches.reshape(-1, grid[0] * grid[1]), grid)
        return upsample(averaged, grid, self.image_size, align_corners=True)

    def _joined_maps(self, tokens: Tensor, texts: Sequence[ClassText], query: Query) -> Tensor:
        """[B, S, S] of two tiles' tokens [B, 2 * L, D], images of one size at a time."""
        if len(query.sizes) != len(query):
            raise ContractError("AnoVL joins tiles by the sizes of the images, the query has none")
        side, grid = self.image_size, query.features.grid
        maps = tokens.new_empty(len(query), side, side)
        for size in dict.fromkeys(query.sizes):
            chosen = [i for i, other in enumerate(query.sizes) if other == size]
            second = second_tile(size, side)
            tiles = self._maps(
                tokens[chosen],
                [texts[i] for i in chosen],
                [query.class_names[i] for i in chosen],
                grid,
                partial(see_joined, grid=grid, side=side, second=second),
            )
            joined = join_tiles(tiles.reshape(len(chosen), 2, 1, side, side), second)
            maps[chosen] = F.interpolate(joined, (side, side), mode="bilinear")[:, 0]
        return maps

    def score_views(self, images: Tensor, states: Tensor) -> Tensor:
        """[B] mean over the views of the abnormal probability of the class token."""
        seen = views(images)  # [V, B, 3, S, S]
        parts = torch.split(seen.flatten(0, 1), VIEWS_AT_ONCE)
        tokens = torch.cat([self.backbone.encode_image(part).class_token for part in parts])
        repeated = states.repeat(len(seen), 1, 1)  # [V * B, 2, D]
        probabilities = state_probabilities(tokens, repeated, TEMPERATURE)[:, 1]
        return probabilities.reshape(len(seen), -1).mean(dim=0)

    # -- test-time adaptation -------------------------------------------------------------------

    def adapt(
        self, tokens: Tensor, texts: Sequence[ClassText], class_names: Sequence[str], see: See
    ) -> Tensor:
        """Fit an adapter to each image's tokens [B, L, D] and return them adapted."""
        prompts = torch.stack([text.prompts for text in texts])  # [B, P, D]
        states = torch.stack([text.states for text in texts])
        if not self.options.leak:
            return self._adapted(self._adapter(prompts), tokens, prompts, states, see)
        adapted = []
        for i, name in enumerate(class_names):  # one image must see the moments of the one before
            one = slice(i, i + 1)
            fresh = self._adapter(prompts[one])
            kept = self._leaking.setdefault(name, fresh)
            with torch.no_grad():
                kept.weight.copy_(fresh.weight)
                kept.bias.copy_(fresh.bias)
            adapted.append(self._adapted(kept, tokens[one], prompts[one], states[one], see))
        return torch.cat(adapted)

    def _adapted(
        self, adapter: Adapter, tokens: Tensor, prompts: Tensor, states: Tensor, see: See
    ) -> Tensor:
        dictionary = None if self._tiled else prompts

        def seen(tokens: Tensor) -> Tensor:
            return see(state_similarity(adapter(tokens, dictionary), states) / TEMPERATURE)

        with torch.enable_grad():
            for step in range(self.options.steps):
                loss = adaptation_loss(seen(tokens), seen(tokens + self.noise(tokens, step)))
                adapter.optimizer.zero_grad()
                torch.autograd.backward(loss)
                adapter.optimizer.step()
        with torch.no_grad():
            return adapter(tokens, dictionary)

    def _adapter(self, prompts: Tensor) -> Adapter:
        batch, count, width = prompts.shape
        weight, bias = self.initial_adapter(width if self._tiled else count, width)
        return Adapter(
            weight.to(prompts).expand(batch, -1, -1).clone().requires_grad_(),
            bias.to(prompts).expand(batch, -1).clone().requires_grad_(),
            self.options.lr,
        )

    def initial_adapter(self, outputs: int, width: int) -> tuple[Tensor, Tensor]:
        """Initial weight [P, D] and bias [P], drawn as `nn.Linear` does; equal for all images."""
        bound = 1 / math.sqrt(width)
        generator = torch.Generator().manual_seed(self._seed)
        weight, bias = (
            torch.empty(shape, dtype=torch.float64).uniform_(-bound, bound, generator=generator)
            for shape in ((outputs, width), (outputs,))
        )
        return weight, bias

    def noise(self, tokens: Tensor, step: int) -> Tensor:
        """Noise of a step for tokens [B, L, D]; the same for all images."""
        generator = torch.Generator().manual_seed(self._seed + 1 + step)
        drawn = torch.randn(tokens.shape[1:], generator=generator, dtype=torch.float64)
        return NOISE * drawn.to(tokens).expand_as(tokens)


def class_prompts(word: str, states: Sequence[str]) -> list[str]:
    """The 462 prompts of a class for seven states of one kind, in the released order."""
    return [
        prompt for template in anovl_templates(word) for prompt in fill([template], states, word)
    ]


def adaptation_loss(clean: Tensor, disturbed: Tensor) -> Tensor:
    """Entropy of the clean patches, plus clean ones are normal and disturbed ones abnormal.

    Both [B, N, 2]; means over patches or pixels, summed over images, which do not touch each other.
    """
    entropy = -(clean * clean.log()).sum(dim=-1)
    separated = -disturbed[..., 1].log() - clean[..., 0].log()
    return (entropy + NOISE_WEIGHT * separated).mean(dim=1).sum()


def see_patches(similarity: Tensor) -> Tensor:
    """Probabilities [B, L, 2] of patches from their similarities."""
    return similarity.softmax(dim=-1)


def see_joined(
    similarity: Tensor, grid: tuple[int, int], side: int, second: tuple[int, int]
) -> Tensor:
    """Probabilities [B, N, 2] of the N pixels of joined tiles.

    Args:
        similarity: [B, 2 * L, 2], which is enlarged and joined before it becomes probabilities.
        grid: patches of a tile.
        side: of a tile in pixels.
        second: where the second tile begins.
    """
    tiles = upsample(similarity.reshape(-1, grid[0] * grid[1], 2), grid, side, align_corners=True)
    joined = join_tiles(tiles.reshape(-1, 2, *tiles.shape[1:]), second)  # [B, 2, H, W]
    return joined.softmax(dim=1).flatten(2).transpose(1, 2)


def score_tiles(class_token: Tensor, states: Tensor) -> Tensor:
    """[B] mean abnormal probability of class tokens [B * T, D] of T tiles an image."""
    tiles = class_token.reshape(len(states), -1, class_token.shape[-1])
    return state_probabilities(tiles, states, TEMPERATURE)[..., 1].mean(dim=1)


def average3(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """3x3 mean of patch values [B, L], the border repeated."""
    square = patches.reshape(-1, 1, *grid)
    padded = F.pad(square, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(padded, 3, stride=1).flatten(1)


def views(images: Tensor) -> Tensor:
    """The 22 views [22, B, 3, S, S] of normalised images [B, 3, S, S]."""
    moved = moved_views(images)
    weights = torch.tensor(GREY, device=images.device, dtype=images.dtype)
    grey = (images * weights[:, None, None]).sum(dim=1, keepdim=True).expand_as(images)
    turned = [torch.rot90(images, k, dims=(2, 3)) for k in (1, 2, 3)]
    return torch.cat([torch.stack([images, images.flip(3), grey, *turned]), moved])


def moved_views(images: Tensor) -> Tensor:
    """Rotated and shifted views [16, B, 3, S, S]; what comes from outside is reflected."""
    transforms = view_transforms().to(images)  # [16, 2, 3]
    count, batch = len(transforms), len(images)
    size = [count * batch, *images.shape[1:]]
    grid = F.affine_grid(transforms.repeat_interleave(batch, 0), size, align_corners=True)
    repeated = images.repeat(count, 1, 1, 1)
    moved = F.grid_sample(
        repeated, grid, mode="bilinear", padding_mode="reflection", align_corners=True
    )
    return moved.reshape(count, batch, *images.shape[1:])


@lru_cache(maxsize=1)
def view_transforms() -> Tensor:
    """[16, 2, 3] affine maps: eight rotations, eight shifts."""
    rotations = [
        [[math.cos(a), -math.sin(a), 0.0], [math.sin(a), math.cos(a), 0.0]] for a in ROTATIONS
    ]
    shifts = [[[1.0, 0.0, x], [0.0, 1.0, y]] for x, y in SHIFTS]
    return torch.tensor(rotations + shifts)
