"""Work that goes on in a thread while the next batch is encoded, where a core is free for it."""

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
        behind: works that may wait; whoever hands in more waits too. With 0 there is no thread, and
            work is done when it is handed in.
        progress: asked whether to stop while waiting.

    Attributes:
        seconds_waited: that were spent on waiting for the thread.
    """

    def __init__(self, behind: int, progress: Progress) -> None:
        self.seconds_waited = 0.0
        self._progress = progress
        self._works: queue.Queue[Work | None] = queue.Queue(behind)
        self._failure: BaseException | None = None
        self._dropped = threading.Event()
        self._thread: threading.Thread | None = None
        if behind:
            self._thread = threading.Thread(target=self._run, name="zsad-metrics", daemon=True)

    def submit(self, work: Work) -> None:
        """Hand in work.

        Raises:
            Stopped: a stop was asked for.
            BaseException: what earlier work raised.
        """
        if self._thread is None:
            work()
        else:
            self._put(work)

    def __enter__(self) -> Background:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread is None:
            return
        try:
            if error is None:
                self._put(None)
                self._wait_for(self._thread)
        finally:
            self._dropped.set()  # it ends after the work that it is doing
            self._thread.join()
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

    def _wait_for(self, thread: threading.Thread) -> None:
        began = time.perf_counter()
        while thread.is_alive():
            thread.join(_PATIENCE)
            self._progress.check()
        self.seconds_waited += time.perf_counter() - began

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
