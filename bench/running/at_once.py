"""How many images are encoded and answered at once: what memory holds, and fewer once it runs out.

No number depends on it. A part of a batch for which memory ran out is done again in halves, so
that a category goes on from there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import torch

from ..errors import ZsadError, is_out_of_memory
from .plan import AUTO, USUAL

LOG = logging.getLogger(__name__)

MOST = 64  # on a GPU, which these keep busy
SHARE = 0.5  # of a GPU's free memory; the rest is for metrics and for what methods do
TRIED = 2  # images of the forward that is measured
COPIES = 2  # what methods read are copies, beside what a forward takes


class Part(Protocol):
    """Something about the images of a batch, which can be cut."""

    def __len__(self) -> int: ...

    def __getitem__(self, images: slice, /) -> Part: ...


A = TypeVar("A", bound=Part)
B = TypeVar("B")


@dataclass
class AtOnce:
    """The most images that go through the towers and a method at once.

    Attributes:
        device: whose memory it is about.
        images: the most, which is halved when memory runs out.
        asked: what that was at first.
    """

    device: torch.device
    images: int

    def __post_init__(self) -> None:
        self.asked = self.images

    def each(self, batch: A, work: Callable[[A], B]) -> Iterator[tuple[A, B]]:
        """Do some work for a batch, at once or part by part, in order.

        Raises:
            ZsadError: memory ran out with one image; names the device and the fix.
        """
        waiting = [batch]
        while waiting:
            part = waiting.pop(0)
            done = [] if len(part) > self.images else self._tried(part, work)
            if done:
                yield part, done[0]
            else:
                half = min(self.images, (len(part) + 1) // 2)
                waiting[:0] = [part[:half], part[half:]]  # type: ignore[list-item]

    def _tried(self, part: A, work: Callable[[A], B]) -> list[B]:
        """What the work gives; nothing where memory ran out, which is then free again."""
        try:
            return [work(part)]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(part) == 1:
                raise ZsadError(
                    f"memory of {self.device} ran out with one image at once "
                    f"({str(error) or type(error).__name__}): let nothing else use it, or take "
                    "fewer methods, smaller images or --precision bf16"
                ) from error
        self.images = max(len(part) // 2, 1)  # behind the block: the error kept tensors
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        LOG.warning(
            "memory of %s ran out with %d images at once: going on with %d",
            self.device,
            len(part),
            self.images,
        )
        return []

    def remarks(self) -> list[str]:
        """What a record says of it: nothing where memory sufficed."""
        if self.images == self.asked:
            return []
        return [
            f"memory of {self.device} did not hold {self.asked} images at once: the run went on "
            f"with {self.images} (--batch-size {self.images} spares the attempts)"
        ]


def images_stated(limits: Sequence[AtOnce]) -> dict[str, float]:
    """How many images went through a GPU at once; elsewhere only where memory ran out."""
    if not any(one.device.type == "cuda" or one.remarks() for one in limits):
        return {}
    return {"batch_size": min(one.images for one in limits)}


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
        kept: bytes of an image that are kept behind the forward, until they are measured.
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
