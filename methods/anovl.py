"""AnoVL: V-V attention in every block, 22 views of the image, and an adapter fitted to each image.

Deng et al., "AnoVL: Adapting Vision-Language Models for Unified Zero-shot Anomaly Localization",
arXiv 2308.15939, and the released code (hq-deng/AnoVL, `vl_test.py`). The FAPrompt paper's rows are
those of the training-free setting: variant "paper". "official" adds test-time adaptation as the
released script has it; there the optimiser's moments leak from image to image of a class, which
`leak` reproduces and the default does not, so that an image's answer depends on it alone. The VisA
script of the release is another method (two square tiles) and is not here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.backbone import Backbone, BackboneSpec, TokenSpec
from ..bench.errors import ContractError
from ..bench.method import Method, Options, Prediction, Query, Supervision
from ..bench.preprocess import Interpolation
from ._maps import smooth, state_probabilities, upsample
from ._prompts import (
    ANOVL_ABNORMAL,
    ANOVL_NORMAL,
    ANOVL_RENAMED,
    anovl_templates,
    fill,
)

TEMPERATURE = 1.0  # the released code scales nothing
ROTATIONS = tuple(sign * k * math.pi / 16 for k in (1, 2, 3, 4) for sign in (1, -1))
SHIFTS = tuple((a * s, b * s) for s in (0.2, 0.1) for a in (1, -1) for b in (1, -1))
GREY = (0.299, 0.587, 0.114)  # on the normalised tensor
SHARE = 0.5  # of the adapter's answer in A(x) = 0.5 x + 0.5 T(x)
NOISE = 0.055  # 0.05 * 1.1
NOISE_WEIGHT = 0.5
SEED = 111  # of the released MVTec script; here of every image
VIEWS_AT_ONCE = 64


@dataclass(frozen=True)
class AnoVlOptions(Options):
    """Options of AnoVL.

    Attributes:
        steps: optimiser steps on each image; 0 is training-free.
        lr: of AdamW.
        leak: keep AdamW's moments from image to image of a class, as released.
    """

    steps: int = 0
    lr: float = 1e-3
    leak: bool = False


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
    """T(x) = tanh(W x/|x| + b) E, one for each of B images, with its optimiser.

    Attributes:
        weight: [B, P, D].
        bias: [B, P].
    """

    weight: Tensor
    bias: Tensor
    optimizer: torch.optim.AdamW = field(init=False)
    lr: float = 1e-3

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW([self.weight, self.bias], lr=self.lr)

    def __call__(self, tokens: Tensor, dictionary: Tensor) -> Tensor:
        """Tokens [B, L, D] and prompts [B, P, D] -> adapted tokens [B, L, D]."""
        codes = F.normalize(tokens, dim=-1) @ self.weight.transpose(1, 2) + self.bias[:, None]
        return (1 - SHARE) * tokens + SHARE * (codes.tanh() @ dictionary)


class AnoVl(Method):
    """Class tokens of 22 views for the score; V-V patch tokens of the last block for the map."""

    title = "AnoVL"
    backbone_spec = BackboneSpec("ViT-B-16-plus-240", "laion400m_e32", 240, pos_embed="bicubic")
    interpolation: ClassVar[Interpolation] = "bilinear"
    variants: ClassVar[Mapping[str, Options]] = {
        "paper": AnoVlOptions(),
        "official": AnoVlOptions(steps=5),
    }
    default_variant = "paper"
    needs_images = True

    def __init__(self, backbone: Backbone, options: Options | None = None) -> None:
        super().__init__(backbone, options)
        self._texts: dict[str, ClassText] = {}
        self._leaking: dict[str, Adapter] = {}

    @classmethod
    def supervision_of(cls, options: AnoVlOptions) -> Supervision:
        """Adaptation learns from the very image that it scores."""
        return Supervision.TEST_TIME if options.steps else Supervision.TRAINING_FREE

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
        """Mean abnormal probability of the views; averaged and enlarged patch probabilities."""
        if query.images is None:
            raise ContractError("AnoVL reads images (needs_images), the query has none")
        texts = [self.text(name) for name in query.class_names]
        states = torch.stack([text.states for text in texts])  # [B, 2, D]
        tokens = self.backbone.project(query.features.tokens[self.patches])  # [B, L, D]
        if self.options.steps:
            tokens = self.adapt(tokens, texts, query.class_names)
        patches = state_probabilities(tokens, states, TEMPERATURE)[..., 1]
        maps = upsample(
            average3(patches, query.features.grid),
            query.features.grid,
            self.map_size,
            align_corners=True,
        )
        scores = self.score_views(query.images, states)
        return Prediction(scores, smooth(maps, self.smoothing_sigma))

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
        self, tokens: Tensor, texts: Sequence[ClassText], class_names: Sequence[str]
    ) -> Tensor:
        """Fit an adapter to each image's tokens [B, L, D] and return them adapted."""
        dictionary = torch.stack([text.prompts for text in texts])  # [B, P, D]
        states = torch.stack([text.states for text in texts])
        if not self.options.leak:
            return self._adapted(self._adapter(dictionary), tokens, dictionary, states)
        adapted = []
        for i, name in enumerate(class_names):  # one image must see the moments of the one before
            one = slice(i, i + 1)
            fresh = self._adapter(dictionary[one])
            kept = self._leaking.setdefault(name, fresh)
            with torch.no_grad():
                kept.weight.copy_(fresh.weight)
                kept.bias.copy_(fresh.bias)
            adapted.append(self._adapted(kept, tokens[one], dictionary[one], states[one]))
        return torch.cat(adapted)

    def _adapted(
        self, adapter: Adapter, tokens: Tensor, dictionary: Tensor, states: Tensor
    ) -> Tensor:
        with torch.enable_grad():
            for step in range(self.options.steps):
                noisy = tokens + self.noise(tokens, step)
                clean = state_probabilities(adapter(tokens, dictionary), states, TEMPERATURE)
                disturbed = state_probabilities(adapter(noisy, dictionary), states, TEMPERATURE)
                loss = adaptation_loss(clean, disturbed)
                adapter.optimizer.zero_grad()
                torch.autograd.backward(loss)
                adapter.optimizer.step()
        with torch.no_grad():
            return adapter(tokens, dictionary)

    def _adapter(self, dictionary: Tensor) -> Adapter:
        batch, prompts, width = dictionary.shape
        weight, bias = self.initial_adapter(prompts, width)
        device = dictionary.device
        return Adapter(
            weight.to(device).expand(batch, -1, -1).clone().requires_grad_(),
            bias.to(device).expand(batch, -1).clone().requires_grad_(),
            self.options.lr,
        )

    def initial_adapter(self, prompts: int, width: int) -> tuple[Tensor, Tensor]:
        """Initial weight [P, D] and bias [P], drawn as `nn.Linear` does; equal for all images."""
        bound = 1 / math.sqrt(width)
        generator = torch.Generator().manual_seed(SEED)
        weight = torch.empty(prompts, width).uniform_(-bound, bound, generator=generator)
        return weight, torch.empty(prompts).uniform_(-bound, bound, generator=generator)

    def noise(self, tokens: Tensor, step: int) -> Tensor:
        """Noise of a step for tokens [B, L, D]; the same for all images."""
        generator = torch.Generator().manual_seed(SEED + 1 + step)
        drawn = torch.randn(tokens.shape[1:], generator=generator)
        return NOISE * drawn.to(tokens.device).expand_as(tokens)


def class_prompts(word: str, states: Sequence[str]) -> list[str]:
    """The 462 prompts of a class for seven states of one kind, in the released order."""
    return [
        prompt for template in anovl_templates(word) for prompt in fill([template], states, word)
    ]


def adaptation_loss(clean: Tensor, disturbed: Tensor) -> Tensor:
    """Entropy of the clean patches, plus clean ones are normal and disturbed ones abnormal.

    Both [B, L, 2]; means over patches, summed over images, which do not touch each other.
    """
    entropy = -(clean * clean.log()).sum(dim=-1)
    separated = -disturbed[..., 1].log() - clean[..., 0].log()
    return (entropy + NOISE_WEIGHT * separated).mean(dim=1).sum()


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
