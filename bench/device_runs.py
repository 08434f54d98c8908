"""Many numbers of a device in bounded memory of it, sorted piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from .sorted_runs import RunFile

SORTING_BYTES: Final = 32  # that a value takes while it is sorted, with its index and copies
_FEWEST: Final = 1 << 10  # values of a run


class DeviceRuns:
    """Normal pixels as sorted runs: on the device, then in the host's memory, then in a file.

    Half of the budget is for sorting a piece, which becomes a run, and half for runs. The host's
    part is page-locked, so that runs come back as fast as the bus allows.

    Args:
        budget_bytes: of the device.
        host_bytes: of the host, for what does not fit there.
        spill_dir: folder of the temporary file for the rest; the system's own if None.
    """

    def __init__(
        self, budget_bytes: int, host_bytes: int, spill_dir: str | Path | None = None
    ) -> None:
        self._piece = max(budget_bytes // 2 // SORTING_BYTES, _FEWEST)
        self._room = {"device": budget_bytes // 2 // 4, "host": host_bytes // 4}
        self._file = RunFile(spill_dir)
        self.release()

    def append(self, values: Tensor) -> None:
        """Add values [n] of the device, in any order."""
        while len(values):
            some = values[: self._piece - self._waiting_values]
            self._waiting.append(some)
            self._waiting_values += len(some)
            values = values[len(some) :]
            if self._waiting_values == self._piece:
                self._keep(self._sorted())

    def on_device(self, device: torch.device) -> Iterator[Tensor]:
        """Sorted runs that hold every value once, one at a time on the device."""
        for run in self._all():
            yield run.to(device, non_blocking=True)

    def where_they_lie(self) -> list[Tensor]:
        """The same runs, on the device or on the host, for what looks at few of their values."""
        return list(self._all())

    def __len__(self) -> int:
        return self._waiting_values + sum(map(len, self._runs)) + len(self._file)

    def release(self) -> None:
        """Forget all values and give back memory and temporary file."""
        self._file.release()
        self._runs: list[Tensor] = []
        self._kept = {"device": 0, "host": 0}
        self._waiting: list[Tensor] = []
        self._waiting_values = 0
        self._last: Tensor | None = None

    def _all(self) -> Iterator[Tensor]:
        yield from self._runs
        yield from map(torch.from_numpy, self._file.runs())
        if self._waiting_values:
            if self._last is None or len(self._last) != self._waiting_values:
                self._last = self._sorted()
                self._waiting = [self._last]
            yield self._last

    def _sorted(self) -> Tensor:
        return torch.cat(self._waiting).sort().values

    def _keep(self, run: Tensor) -> None:
        """Keep a run where there is room for it."""
        self._waiting, self._waiting_values, self._last = [], 0, None
        if self._has_room("device", run):
            self._runs.append(run)
        elif self._has_room("host", run):
            pinned = run.device.type == "cuda"
            self._runs.append(torch.empty(len(run), pin_memory=pinned).copy_(run))
        else:
            self._file.append(run.cpu().numpy())

    def _has_room(self, place: str, run: Tensor) -> bool:
        there = self._kept[place] + len(run) <= self._room[place]
        if there:
            self._kept[place] += len(run)
        return there
