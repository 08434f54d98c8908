"""Locks of a run: held by living processes only, as the operating system drops a dead one's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def held(run: Path, name: str, patient: bool = True) -> Iterator[bool]:
    """Hold a lock of a run directory.

    Args:
        run: the run directory.
        name: of the lock, a file name.
        patient: wait while another process has it; else the answer is False at once.

    Yields:
        Whether the lock is held.
    """
    lock = FileLock(str(run / "locks" / f"{name}.lock"))
    try:
        lock.acquire(timeout=-1 if patient else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
