"""Seconds that work takes on its device, without waiting for the device while it works."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class Stopwatch:
    """Adds up the seconds of one kind of work.

    A GPU works behind the process that gives it work, so that a clock of the host would measure
    nothing, or all that was still to be done. CUDA's own events stand between the works, and are
    read when somebody asks for the sum.

    Attributes:
        device: that the work is done on.
        waiting: wait for the GPU at both ends and take the host's clock: what the host does in
            between counts too, and no work overlaps with another.
    """

    device: torch.device
    waiting: bool = False
    _seconds: float = 0.0
    _events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what is done inside; what raises is not counted."""
        if self.device.type == "cuda" and not self.waiting:
            start, end = _event(), _event()
            stream = torch.cuda.current_stream(self.device)
            start.record(stream)
            yield
            end.record(stream)
            self._events.append((start, end))
            return
        self._synchronise()
        began = time.perf_counter()
        yield
        self._synchronise()
        self._seconds += time.perf_counter() - began

    def seconds(self) -> float:
        """The sum; waits until the device has done what was counted."""
        for start, end in self._events:
            end.synchronize()
            self._seconds += start.elapsed_time(end) / 1000
        self._events.clear()
        return self._seconds

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
