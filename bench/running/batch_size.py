"""How many images go through the towers at once: what is asked for, or what memory holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from .plan import AUTO, USUAL

MOST = 64  # on a GPU, which these keep busy
SHARE = 0.5  # of a GPU's free memory; the rest is for metrics and for what methods do
TRIED = 2  # images of the forward that is measured
COPIES = 2  # what methods read are copies, beside what a forward takes


def images_at_once(
    asked: int | Literal["auto"],
    device: torch.device,
    encode: Callable[[int], object],
    kept: int,
) -> int:
    """How many images to encode at once.

    Args:
        asked: so many, or "auto": what half of a GPU's free memory holds.
        device: that encodes.
        encode: encodes so many images; tried where it must be measured what one takes.
        kept: bytes of an image that are kept after the forward, until they are measured.
    """
    if asked != AUTO:
        return int(asked)
    if device.type != "cuda":
        return USUAL
    try:
        cost = COPIES * _cost_of_image(device, encode) + kept
    except torch.cuda.OutOfMemoryError:
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return fitting(int(SHARE * (free + unused)), cost)


def fitting(memory: int, cost: int) -> int:
    """The greatest power of two, up to `MOST`, of images of a cost that a memory holds."""
    held = max(memory // max(cost, 1), 1)
    return min(1 << (int(held).bit_length() - 1), MOST)


def _cost_of_image(device: torch.device, encode: Callable[[int], object]) -> int:
    """Bytes of a GPU that the forward of one more image takes."""
    encode(1)  # the first one makes room for the libraries
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    encode(TRIED)
    return max((torch.cuda.max_memory_allocated(device) - before) // TRIED, 1)
