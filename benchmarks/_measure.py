"""Wall seconds of a call, on the host or on a GPU, and the most memory that this process took."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def timed(
    work: Callable[[], object], device: torch.device, repeats: int = 1, uncounted: int = 0
) -> float:
    """Median of a call's wall seconds, after some calls that do not count."""
    taken = []
    for _ in range(uncounted + repeats):
        wait(device)
        started = time.perf_counter()
        work()
        wait(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[uncounted:])


def wait(device: torch.device) -> None:
    """Until all that a GPU was asked for is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_resident() -> int | None:
    """Peak resident bytes since the last reset, None where /proc is not there.

    Unlike getrusage's, it does not begin with what the parent process held.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def reset_peak() -> int | None:
    """Let the peak of resident bytes begin with what is resident now; None where it cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return peak_resident()
