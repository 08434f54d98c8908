"""AnoVL's test-time adaptation: an adapter is fitted to each image, from that image alone.

In the released code the optimiser's moments leak from image to image of a class. `leak` reproduces
that; without it, as by default, an image's answer depends on it alone.

Axes: B images, L patch tokens, D embedding, P prompts of a class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.anomaly_maps import state_similarity

SHARE = 0.5  # of the adapter's answer in A(x) = 0.5 x + 0.5 T(x)
NOISE = 0.055  # 0.05 * 1.1
NOISE_WEIGHT = 0.5

Probabilities = Callable[[Tensor], Tensor]
"""Similarities [B, L, 2] of an image's patches to probabilities [B, N, 2] for the loss."""


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


@dataclass
class Adaptation:
    """How tokens are adapted before they are compared with the states.

    Attributes:
        steps: of the optimiser on each image.
        lr: of AdamW.
        seed: of initial adapters and noise, the same for every image.
        dictionary: the prompts are the adapter's dictionary; without, it is a linear layer.
        leak: keep AdamW's moments from image to image of a class, as released.
    """

    steps: int
    lr: float
    seed: int
    dictionary: bool = True
    leak: bool = False
    leaking: dict[str, Adapter] = field(default_factory=dict)

    def __call__(
        self,
        tokens: Tensor,
        states: Tensor,
        prompts: Tensor,
        class_names: Sequence[str],
        probabilities: Probabilities,
    ) -> Tensor:
        """Fit an adapter to each image's tokens and return them adapted, [B, L, D].

        Args:
            tokens: [B, L, D].
            states: [B, 2, D].
            prompts: [B, P, D] of each image's class.
            class_names: B words, which the leak goes by.
            probabilities: of the patches or pixels that the loss is taken on.
        """
        if not self.leak:
            return self._adapted(self._adapter(prompts), tokens, states, prompts, probabilities)
        adapted = []
        for i, name in enumerate(class_names):  # one image must see the moments of the one before
            one = slice(i, i + 1)
            fresh = self._adapter(prompts[one])
            kept = self.leaking.setdefault(name, fresh)
            with torch.no_grad():
                kept.weight.copy_(fresh.weight)
                kept.bias.copy_(fresh.bias)
            adapted.append(
                self._adapted(kept, tokens[one], states[one], prompts[one], probabilities)
            )
        return torch.cat(adapted)

    def _adapted(
        self,
        adapter: Adapter,
        tokens: Tensor,
        states: Tensor,
        prompts: Tensor,
        probabilities: Probabilities,
    ) -> Tensor:
        dictionary = prompts if self.dictionary else None

        def seen(tokens: Tensor) -> Tensor:
            return probabilities(state_similarity(adapter(tokens, dictionary), states))

        with torch.enable_grad():
            for step in range(self.steps):
                loss = adaptation_loss(seen(tokens), seen(tokens + self.noise(tokens, step)))
                adapter.optimizer.zero_grad()
                torch.autograd.backward(loss)
                adapter.optimizer.step()
        with torch.no_grad():
            return adapter(tokens, dictionary)

    def _adapter(self, prompts: Tensor) -> Adapter:
        """A new adapter for each image's prompts [B, P, D]."""
        batch, count, width = prompts.shape
        weight, bias = self.initial_adapter(count if self.dictionary else width, width)
        return Adapter(
            weight.to(prompts).expand(batch, -1, -1).clone().requires_grad_(),
            bias.to(prompts).expand(batch, -1).clone().requires_grad_(),
            self.lr,
        )

    def initial_adapter(self, outputs: int, width: int) -> tuple[Tensor, Tensor]:
        """Initial weight [P, D] and bias [P], drawn as `nn.Linear` does; equal for all images."""
        bound = 1 / math.sqrt(width)
        generator = torch.Generator().manual_seed(self.seed)
        weight, bias = (
            torch.empty(shape, dtype=torch.float64).uniform_(-bound, bound, generator=generator)
            for shape in ((outputs, width), (outputs,))
        )
        return weight, bias

    def noise(self, tokens: Tensor, step: int) -> Tensor:
        """Noise of a step for tokens [B, L, D]; the same for all images."""
        generator = torch.Generator().manual_seed(self.seed + 1 + step)
        drawn = torch.randn(tokens.shape[1:], generator=generator, dtype=torch.float64)
        return NOISE * drawn.to(tokens).expand_as(tokens)


def adaptation_loss(clean: Tensor, disturbed: Tensor) -> Tensor:
    """Entropy of the clean patches, plus clean ones are normal and disturbed ones abnormal.

    Both [B, N, 2]; means over patches or pixels, summed over images, which do not touch each other.
    """
    entropy = -(clean * clean.log()).sum(dim=-1)
    separated = -disturbed[..., 1].log() - clean[..., 0].log()
    return (entropy + NOISE_WEIGHT * separated).mean(dim=1).sum()
