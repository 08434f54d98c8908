"""Rows that come in batches, and nobody knows how many: an auxiliary memory in the making.

They lie in memory up to a budget and beyond it in files, see `Scratch`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from .errors import ContractError
from .scratch import DEFAULT_BUDGET, Scratch


class Rows:
    """Tensors [n, ...] that are alike but for n, kept on the CPU one after the other.

    Args:
        budget_bytes: memory for them; what exceeds it lies in files that are mapped.
        folder: of the files; the system's temporary folder if None.
    """

    def __init__(
        self, budget_bytes: int = DEFAULT_BUDGET, folder: str | Path | None = None
    ) -> None:
        self._budget, self._folder = budget_bytes, folder
        self._scratch = Scratch(budget_bytes, folder)
        self._parts: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        """Keep a copy of some rows.

        Raises:
            ContractError: they are not like the rows before.
        """
        first = self._parts[0] if self._parts else rows
        if rows.shape[1:] != first.shape[1:] or rows.dtype != first.dtype:
            raise ContractError(
                f"rows {tuple(rows.shape[1:])} of {rows.dtype} cannot be appended to rows "
                f"{tuple(first.shape[1:])} of {first.dtype}: give all of one kind"
            )
        kept = self._scratch.zeros(rows.shape, rows.dtype)
        kept.copy_(rows.detach())
        self._parts.append(kept)

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    @property
    def spilled(self) -> int:
        """Bytes that lie in files."""
        return self._scratch.spilled

    def batches(self) -> Iterator[Tensor]:
        """The rows as they came; not to be changed."""
        yield from self._parts

    def joined(self) -> Tensor:
        """All rows [N, ...] as one tensor, which lies in a file where it exceeds the budget.

        Raises:
            ContractError: there are none.
        """
        if not self._parts:
            raise ContractError("nothing was remembered: keep rows in remember before settle")
        first = self._parts[0]
        whole = Scratch(self._budget, self._folder).zeros(
            (len(self), *first.shape[1:]), first.dtype
        )
        start = 0
        for part in self._parts:
            whole[start : start + len(part)] = part
            start += len(part)
        return whole
