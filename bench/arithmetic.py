"""How a GPU multiplies numbers of single precision: as a CPU does, or rounded to tf32 before.

Tf32 keeps 10 of 23 bits of the mantissa. Torch lets convolutions on CUDA round to it unless it is
told not to. The switches are those of the whole process, so they are set around the work that they
concern and put back after it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(eq=False)
class _Wish:
    """What one block of the process wants of the switches, while it lasts."""

    tf32: bool


_lock = threading.Lock()
_wishes: list[_Wish] = []
_found: list[tuple[bool, bool]] = []  # the switches as they were before the first wish


@contextmanager
def single_precision(tf32: bool = False) -> Iterator[None]:
    """Products and convolutions of single precision on CUDA, with or without tf32, in the block.

    Blocks may lie in one another, the innermost counts. Those of several threads share the
    switches: the one that was entered last counts, and the last that is left puts back what was
    there before.

    Args:
        tf32: round what is multiplied to tf32; otherwise it is done as on a CPU.
    """
    wish = _Wish(tf32)
    with _lock:
        if not _wishes:
            _found.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        _wishes.append(wish)
        _switch(tf32, tf32)
    try:
        yield
    finally:
        with _lock:
            _wishes.remove(wish)
            if _wishes:
                _switch(_wishes[-1].tf32, _wishes[-1].tf32)
            else:
                _switch(*_found.pop())


def _switch(products: bool, convolutions: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions
