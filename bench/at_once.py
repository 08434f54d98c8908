"""How many images are encoded, answered or learned from at once: fewer once memory runs out.

No number depends on it, but for rounding. A part of a batch for which memory ran out is done again
in halves, so that the work goes on from there.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

import torch

from .errors import ZsadError, is_out_of_memory

LOG = logging.getLogger(__name__)


class Part(Protocol):
    """Something about the images of a batch, which can be cut; a range of them is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, images: slice, /) -> Part: ...


A = TypeVar("A", bound=Part)
B = TypeVar("B")


@dataclass
class AtOnce:
    """The most images that something is done with at once.

    Attributes:
        device: whose memory it is about.
        images: the most, which is halved when memory runs out; as many as come by default.
        least: fewer are not tried.
        what: is done, for messages; "" for encoding and answering of a run.
        option: that spares a user the attempts; "" where there is none.
        fix: what a user can do where memory does not hold the least.
        failed: the most for which memory ran out.
    """

    device: torch.device
    images: int = sys.maxsize
    least: int = 1
    what: str = ""
    option: str = "--batch-size"
    fix: str = "take fewer methods, smaller images or --precision bf16"
    failed: int = field(default=0, init=False)

    def each(self, batch: A, work: Callable[[A], B]) -> Iterator[tuple[A, B]]:
        """Do some work for a batch, at once or part by part, in order.

        Raises:
            ZsadError: memory ran out with the least; names the device and the fix.
        """
        waiting = [batch]
        while waiting:
            part = waiting.pop(0)
            done = [] if len(part) > self.images else self._tried(len(part), partial(work, part))
            if done:
                yield part, done[0]
            else:
                half = min(self.images, (len(part) + 1) // 2)
                waiting[:0] = [part[:half], part[half:]]  # type: ignore[list-item]

    def together(self, batch: A, work: Callable[[list[A]], B]) -> B:
        """Do work that takes all parts of a batch, from its beginning again where memory ran out.

        Raises:
            ZsadError: as `each`.
        """
        while True:
            parts = _cut(batch, self.images)
            if done := self._tried(len(parts[0]), partial(work, parts)):
                return done[0]

    def _tried(self, count: int, work: Callable[[], B]) -> list[B]:
        """What work with so many images gives; nothing where memory ran out, which is then free."""
        try:
            return [work()]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if count <= self.least:
                images = "one image" if count == 1 else f"{count} images"
                raise ZsadError(
                    f"memory of {self.device} ran out with {images} at once{self._doing} "
                    f"({str(error) or type(error).__name__}): let nothing else use it, or "
                    f"{self.fix}"
                ) from error
        self.failed = max(self.failed, count)
        self.images = max(count // 2, self.least)  # after the block: the error kept tensors
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        LOG.warning(
            "memory of %s ran out with %d images at once%s: going on with %d",
            *(self.device, count, self._doing, self.images),
        )
        return []

    @property
    def _doing(self) -> str:
        return f" {self.what}" if self.what else ""

    def remarks(self) -> list[str]:
        """What a record says of it: nothing where memory sufficed."""
        if not self.failed:
            return []
        spared = f" ({self.option} {self.images} spares the attempts)" if self.option else ""
        return [
            f"memory of {self.device} did not hold {self.failed} images at once{self._doing}: the "
            f"run went on with {self.images}{spared}"
        ]


def _cut(batch: A, most: int) -> list[A]:
    """A batch in parts of at most so many images."""
    if len(batch) <= most:
        return [batch]
    starts = range(0, len(batch), most)
    return [batch[start : start + most] for start in starts]  # type: ignore[misc]


def images_stated(limits: Sequence[AtOnce]) -> dict[str, float]:
    """How many images went through a GPU at once; elsewhere only where memory ran out."""
    if not any(one.device.type == "cuda" or one.remarks() for one in limits):
        return {}
    return {"batch_size": min(one.images for one in limits)}
