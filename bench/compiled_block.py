"""A block of the visual tower compiled by torch, or as it is where torch cannot compile it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .blocks import Attention, encode_block
from .errors import is_out_of_memory, message_of

LOG = logging.getLogger(__name__)


class CompiledBlock:
    """`encode_block`, compiled once for all blocks and all sizes of a batch.

    Where compiling fails, as without a C++ compiler or Triton, one warning says why, and from there
    on the block runs as it is.

    Attributes:
        failure: why it is not compiled; "" as long as it is.
    """

    def __init__(self) -> None:
        self.failure = ""
        self._compiled: Callable[..., tuple[Tensor, Tensor | None]] = encode_block
        try:
            self._compiled = torch.compile(encode_block, dynamic=True)
        except RuntimeError as error:  # there is no compiler for this Python, or this platform
            self._give_up(error)

    def __call__(
        self, block: Any, x: Tensor, attention: Attention, with_value: bool, activation: str
    ) -> tuple[Tensor, Tensor | None]:
        """See `encode_block`."""
        if self.failure:
            return encode_block(block, x, attention, with_value, activation)
        try:
            return self._compiled(block, x, attention, with_value, activation)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            # What fails here as well does not fail because of the compiler.
            answer = encode_block(block, x, attention, with_value, activation)
            self._give_up(error)
            return answer

    def _give_up(self, error: Exception) -> None:
        self.failure = message_of(error).strip().splitlines()[0]
        LOG.warning("the visual forward runs without being compiled: %s", self.failure)
