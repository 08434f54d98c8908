"""Tensors that are kept for a while: in memory up to a budget, beyond it in files that are mapped.

Each file has no name in any folder, so that it vanishes with the process, killed or not.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .errors import ZsadError

DEFAULT_BUDGET = 2 << 30


class Scratch:
    """Room for tensors on the CPU.

    Args:
        budget_bytes: memory for all of them together; a tensor that does not fit into what is left
            of it lies in a file, whose pages the operating system keeps in memory while it can.
        folder: of the files; the system's temporary folder if None.
    """

    def __init__(
        self, budget_bytes: int = DEFAULT_BUDGET, folder: str | Path | None = None
    ) -> None:
        self._left = budget_bytes
        self._folder = folder
        self.spilled = 0  # bytes in files

    def zeros(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor of zeros of this shape, to be written into.

        Raises:
            ZsadError: it does not fit into memory or on the disk; names the folder.
        """
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if size <= self._left:
            self._left -= size
            return torch.zeros(tuple(shape), dtype=dtype)
        self.spilled += size
        return self._mapped(size).view(dtype).reshape(tuple(shape))

    def _mapped(self, size: int) -> Tensor:
        """So many bytes of a file, as a tensor."""
        folder = self._folder or tempfile.gettempdir()
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                if hasattr(os, "posix_fallocate"):  # a page that finds no room later kills us
                    os.posix_fallocate(file.fileno(), 0, size)
                mapped = np.memmap(file, np.uint8, mode="w+", shape=(size,))
        except OSError as error:
            raise ZsadError(
                f"{size / 2**30:.1f} GB do not fit into memory and cannot be kept in '{folder}' "
                f"({error}): set TMPDIR to a folder with more room"
            ) from error
        return torch.from_numpy(mapped)
