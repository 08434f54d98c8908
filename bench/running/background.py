"""Work that goes on in a thread while the next batch is encoded."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType

from ..progress import Progress

Work = Callable[[], None]
_PATIENCE = 0.1  # seconds between two looks at whether to stop


class Background:
    """One thread that does what it is given in that order, and is at most so many works behind.

    Used in a `with`: at its end all work is done, or, where an error leaves it, dropped. NumPy's
    sorting and copying leave the interpreter to other threads.

    Args:
        behind: works that may wait; whoever hands in more waits too.
        progress: asked whether to stop while waiting.

    Attributes:
        seconds_waited: that were spent on waiting for the thread.
    """

    def __init__(self, behind: int, progress: Progress) -> None:
        self.seconds_waited = 0.0
        self._progress = progress
        self._works: queue.Queue[Work | None] = queue.Queue(max(behind, 1))
        self._failure: BaseException | None = None
        self._dropped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zsad-metrics", daemon=True)

    def submit(self, work: Work) -> None:
        """Hand in work.

        Raises:
            Stopped: a stop was asked for.
            BaseException: what earlier work raised.
        """
        self._put(work)

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._put(None)
                self._wait_for_thread()
        finally:
            self._drop()
        if error is None and self._failure is not None:
            raise self._failure

    def _put(self, work: Work | None) -> None:
        began = time.perf_counter()
        while self._failure is None:
            try:
                self._works.put(work, timeout=_PATIENCE)
                break
            except queue.Full:
                self._progress.check()
        self.seconds_waited += time.perf_counter() - began
        if self._failure is not None:
            raise self._failure

    def _wait_for_thread(self) -> None:
        began = time.perf_counter()
        while self._thread.is_alive():
            self._thread.join(_PATIENCE)
            self._progress.check()
        self.seconds_waited += time.perf_counter() - began

    def _drop(self) -> None:
        """End the thread after the work that it is doing."""
        self._dropped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._dropped.is_set():
            try:
                work = self._works.get(timeout=_PATIENCE)
            except queue.Empty:
                continue
            if work is None:
                return
            try:
                work()
            except BaseException as error:  # raised again where work is handed in
                self._failure = error
                return
