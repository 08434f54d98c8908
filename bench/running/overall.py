"""How far a whole run has come, and the time that is left, whoever does its work.

It is read from the files that a run leaves: the weights of each training, which all datasets share,
and each scored category of a cell.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from ..progress import Progress
from ..records.run_folder import part_path, record_path
from .open_datasets import OpenDatasets
from .plan import Job, Plan
from .prepare import trainings_of

EVERY = 0.2  # seconds between two looks
FORMAT = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} steps, {elapsed} gone{postfix}"


@dataclass(frozen=True)
class Step:
    """A training, or a category of a cell.

    Attributes:
        kind: "training" or "scoring"; the time of one says nothing about the other.
        size: 1, or the number of images.
        any_of: it is done once one of these files is there.
        all_of: or once all of these are, as where a method has failed; empty for never.
    """

    kind: str
    size: int
    any_of: tuple[Path, ...]
    all_of: tuple[Path, ...] = ()

    @property
    def done(self) -> bool:
        """Whether its files are there."""
        if any(path.exists() for path in self.any_of):
            return True
        return bool(self.all_of) and all(path.exists() for path in self.all_of)


def steps_of(plan: Plan, work: Iterable[tuple[Job, str]], datasets: OpenDatasets) -> list[Step]:
    """The steps of a run: each training once, and all of its categories.

    Args:
        plan: the whole plan.
        work: jobs with each of their categories.
        datasets: that were opened.
    """
    folder = Path(plan.out)
    jobs, scored = [], []
    for job, category in work:
        jobs.append(job)
        record = record_path(folder, job.cell)
        images = len(datasets.target(job.dataset).by_category[category])
        scored.append(Step("scoring", images, (record, part_path(folder, job.cell, category))))
    learned = [
        Step("training", 1, (path,), tuple({record_path(folder, job.cell): None for job in own}))
        for path, own in trainings_of(plan, jobs).items()
    ]
    return [*learned, *scored]


@dataclass
class Pace:
    """The time that steps take, by their kind.

    Attributes:
        waiting: the steps that are not done.
        spent: kind -> (seconds, sizes) of the steps that were seen to be done.
    """

    waiting: list[Step]
    spent: dict[str, tuple[float, int]] = field(default_factory=dict)
    _since: float = 0.0

    def look(self, now: float) -> None:
        """See which steps are done since the last look, and what they took.

        Args:
            now: seconds since the run began.
        """
        done = [step for step in self.waiting if step.done]
        if not done:
            return
        self.waiting = [step for step in self.waiting if step not in done]
        seconds, self._since = now - self._since, now
        for step in done:  # those that are done at once share the time
            before, sizes = self.spent.get(step.kind, (0.0, 0))
            self.spent[step.kind] = before + seconds / len(done), sizes + step.size

    def seconds_left(self, now: float) -> float | None:
        """How long the waiting steps take; None while a kind of them has not been seen."""
        left = 0.0
        for step in self.waiting:
            seconds, sizes = self.spent.get(step.kind, (0.0, 0))
            if not sizes:
                return None
            left += seconds / sizes * step.size
        return max(left - (now - self._since), 0.0)


@contextmanager
def shown(
    steps: Sequence[Step], progress: Progress, each: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Show how far a run has come until the block ends.

    Args:
        steps: of the run.
        progress: how to show it.
        each: called at each look.
    """
    finished, pace, began = threading.Event(), Pace(list(steps)), time.monotonic()
    pace.waiting = [step for step in steps if not step.done]  # of an earlier start

    def watch() -> None:
        with progress.track(len(steps), "run", "step") as bar:
            bar.bar_format = FORMAT
            ended = False
            while not ended:
                ended = finished.wait(EVERY)
                each()
                if not progress.bar:
                    continue
                now = time.monotonic() - began
                pace.look(now)
                bar.n = len(steps) - len(pace.waiting)
                bar.set_postfix_str(_words(pace, now), refresh=False)
                bar.refresh()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()


def _words(pace: Pace, now: float) -> str:
    left = pace.seconds_left(now)
    return "" if left is None else f"{timedelta(seconds=round(left))} left"
