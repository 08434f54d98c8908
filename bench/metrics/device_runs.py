"""Many numbers of a device in bounded memory of it, sorted piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

import torch
from torch import Tensor

from ..errors import is_out_of_memory
from .sorted_runs import RunFile

T = TypeVar("T")

SORTING_BYTES: Final = 32  # that a value takes while it is sorted, with its index and copies
_FEWEST: Final = 1 << 10  # values of a run
_MERGED: Final = 4  # pieces, which take half of what sorting one takes


class DeviceRuns:
    """Normal pixels as sorted runs: on the device, then in the host's memory, then in a file.

    Half of the budget is for sorting a piece, which becomes a run, and half for runs. Two runs of
    the device that are equally long become one, up to what the first half has room for, so that
    fewer are searched. The host's part is page-locked, so that runs come back as fast as the bus
    allows. Where memory of the device runs out all goes to the host, what lies there included.

    Args:
        budget_bytes: of the device.
        host_bytes: of the host, for what does not fit there.
        spill_dir: folder of the temporary file for the rest; the system's own if None.

    Attributes:
        left: memory of the device ran out.
    """

    def __init__(
        self, budget_bytes: int, host_bytes: int, spill_dir: str | Path | None = None
    ) -> None:
        self._piece = max(budget_bytes // 2 // SORTING_BYTES, _FEWEST)
        self._room = {"device": budget_bytes // 2 // 4, "host": host_bytes // 4}
        self._file = RunFile(spill_dir)
        self.release()

    def append(self, values: Tensor) -> None:
        """Add values [n] of the device, or of the host, in any order."""
        while len(values):
            some = values[: self._piece - self._waiting_values]
            self._waiting.append(some.cpu() if self.left else some)
            self._waiting_values += len(some)
            values = values[len(some) :]
            if self._waiting_values == self._piece:
                self._keep(self._sorted())

    def on_device(self, device: torch.device) -> Iterator[Tensor]:
        """Sorted runs that hold every value once, one at a time on the device."""
        for run in self.where_they_lie():
            yield run.to(device, non_blocking=True)

    def __len__(self) -> int:
        in_memory = sum(map(len, [*self._on_device, *self._on_host]))
        return self._waiting_values + in_memory + len(self._file)

    def release(self) -> None:
        """Forget all values and give back memory and temporary file."""
        self._file.release()
        self._on_device: list[Tensor] = []
        self._on_host: list[Tensor] = []
        self._waiting: list[Tensor] = []
        self._waiting_values = 0
        self._last: Tensor | None = None
        self.left = False

    def leave(self) -> None:
        """Take all values to the host, where all go from now on."""
        self.left, self._last = True, None
        self._waiting = [values.cpu() for values in self._waiting]
        while self._on_device:
            self._keep_on_host(self._on_device.pop())

    def where_they_lie(self) -> Iterator[Tensor]:
        """The same runs, on the device or on the host, for what looks at few of their values."""
        yield from self._on_device
        yield from self._on_host
        yield from map(torch.from_numpy, self._file.runs())
        if self._waiting_values:
            if self._last is None or len(self._last) != self._waiting_values:
                self._last = self._sorted()
                self._waiting = [self._last]
            yield self._last

    def _sorted(self) -> Tensor:
        def sort() -> Tensor:
            return torch.cat(self._waiting).sort().values

        return again_on_host(sort, self)

    def _keep(self, run: Tensor) -> None:
        """Keep a run where there is room for it."""
        self._waiting, self._waiting_values, self._last = [], 0, None
        if not self.left and _has_room(self._on_device, self._room["device"], run):
            self._on_device.append(run)
            again_on_host(self._merge, self)
        else:
            self._keep_on_host(run)

    def _keep_on_host(self, run: Tensor) -> None:
        if _has_room(self._on_host, self._room["host"], run):
            pinned = run.device.type == "cuda"
            own = torch.empty(len(run), pin_memory=pinned)
            own.copy_(run)
            self._on_host.append(own)
        else:
            self._file.append(run.cpu().numpy())

    def _merge(self) -> None:
        """Merge the last two runs of the device while they are equally long."""
        runs = self._on_device
        while len(runs) > 1 and len(runs[-2]) == len(runs[-1]) <= _MERGED * self._piece // 2:
            runs[-2:] = [merged(runs[-2], runs[-1], self._piece // 2)]


class OnDevice(Protocol):
    """What lies on a device and can leave it."""

    left: bool

    def leave(self) -> None:
        """Go to the host."""


def again_on_host(work: Callable[[], T], *holders: OnDevice) -> T:
    """What work gives, on the host where memory of the device runs out.

    Args:
        work: changes nothing before it is done.
        holders: of what it works on, which leave the device then.
    """
    try:
        return work()
    except Exception as error:
        if not is_out_of_memory(error) or all(holder.left for holder in holders):
            raise
    for holder in holders:  # after the block: the error kept tensors
        holder.leave()
    return work()


def merged(one: Tensor, other: Tensor, at_a_time: int) -> Tensor:
    """Two rising runs as one.

    A value's place is its place in its own run and the number of values of the other before it;
    where they are equal those of `one` come first.

    Args:
        one: [n].
        other: [m].
        at_a_time: values whose places are in memory, with 16 bytes each.
    """
    whole = torch.empty(len(one) + len(other), dtype=one.dtype, device=one.device)
    for run, beside, right in ((one, other, False), (other, one, True)):
        for start in range(0, len(run), at_a_time):
            some = run[start : start + at_a_time]
            places = torch.searchsorted(beside, some, right=right)
            places += torch.arange(start, start + len(some), device=run.device)
            whole[places] = some
    return whole


def _has_room(runs: Sequence[Tensor], room: int, run: Tensor) -> bool:
    return sum(map(len, runs)) + len(run) <= room
