"""Deep text tokens in half precision, as the released AnomalyCLIP and FAPrompt codes have them.

A gradient below 6e-8 is lost on its way through half precision. Which ones are depends on what is
summed before, so the copies of a token, one a prompt, are made and added up as released.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..bench.backbone import Backbone
from ..bench.prompt_learner import DeepTokens


class HalfDeepTokens(DeepTokens):
    """Deep tokens rounded to half precision on their way in, their gradient on its way back."""

    @property
    def prompts_apart(self) -> bool:
        """While learning, each prompt of each image passes half precision alone, as released."""
        return torch.is_grad_enabled()

    def for_prompts(self, count: int) -> list[Tensor]:
        """The sets [count, n, W]: copied before they are rounded, summed in single precision."""
        return [tokens.half() for tokens in super().for_prompts(count)]


def deep_tokens(backbone: Backbone, length: int, depth: int, half: bool) -> DeepTokens:
    """Newly drawn deep tokens, in half precision or not; see `DeepTokens.make`."""
    return (HalfDeepTokens if half else DeepTokens).make(backbone, length, depth)
