"""Small layers without bias beside a frozen tower, as AA-CLIP has them.

Axes: T tokens, W width of a tower, D the width that a layer gives.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

SLOPE = 0.01  # of LeakyReLU
SHARE = 0.1  # of the adapter in the mixture


def projection(width: int, given: int, adapts: bool = False) -> nn.Sequential:
    """A layer under its released name, [..., W] -> [..., D].

    An adapter is a square or narrowing one with LeakyReLU after it.
    """
    layer = nn.Linear(width, given, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    adapter = nn.Sequential(layer, nn.LeakyReLU(SLOPE))
    return nn.Sequential(OrderedDict(fc=adapter if adapts else layer))


class AdapterHook:
    """Mixes the first blocks' adapters into what leaves these blocks.

    Args:
        adapters: of the first, second, ... block.
    """

    def __init__(self, adapters: Iterable[nn.Module]) -> None:
        self._adapters: Sequence[nn.Module] = list(adapters)

    def __call__(self, number: int, tokens: Tensor) -> Tensor:
        """Tokens [B, T, W] that leave block `number`, counted from 1.

        A tenth of the adapter's answer, brought to the token's norm, and nine tenths of the token.
        """
        if number > len(self._adapters):
            return tokens
        adapted: Tensor = self._adapters[number - 1](tokens)
        length, own = (torch.linalg.vector_norm(t, dim=-1, keepdim=True) for t in (tokens, adapted))
        mixed: Tensor = SHARE * adapted * length / own + (1 - SHARE) * tokens
        return mixed
