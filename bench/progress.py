"""What long work tells while it is under way, and how it is asked to stop."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from .errors import Stopped


@dataclass
class Progress:
    """Handed down from whoever asked for the work to every loop that takes long.

    Attributes:
        bar: show progress bars with rate and time left.
        stop: set it to stop after the current batch.
    """

    bar: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    def asked_to_stop(self) -> bool:
        """Whether whoever asked for the work wants it to stop."""
        return self.stop.is_set()

    def check(self) -> None:
        """Raise `Stopped` if the work is to stop now; called after each batch."""
        if self.asked_to_stop():
            raise Stopped("stopped after the current batch: the same command resumes from here")

    def track(
        self, total: int, title: str, unit: str, initial: int = 0, delay: float = 0
    ) -> tqdm[Any]:
        """A bar over `total` units of work, to be used in a `with`; not shown unless `bar` is set.

        Args:
            total: units until the work is done.
            title: what is done.
            unit: one of them, as "img".
            initial: units that were done before.
            delay: seconds before the bar is shown; quicker work shows none.
        """
        return tqdm(
            total=total,
            desc=title,
            unit=unit,
            initial=initial,
            delay=delay,
            disable=not self.bar,
            dynamic_ncols=True,
        )
