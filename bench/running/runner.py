"""A run: its units of work, who does which, and what survives a kill.

Several processes may fill one run: a category is locked by the process that scores it, and the
operating system drops the lock when the process dies.
"""

from __future__ import annotations

import dataclasses
import itertools
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..arithmetic import single_precision
from ..backbone_spec import check_device
from ..data.completeness import completeness
from ..dataset import Dataset, Sample
from ..errors import ZsadError, message_of
from ..files import file_name, write_json
from ..metrics.sorted_runs import spares_given_back
from ..progress import Progress
from ..records.category_record import CategoryRecord
from ..records.provenance import plug_in
from ..records.run_folder import lock, part_path, supersede
from .cells import finish_cell, is_done, start_run, write_failure
from .evaluation import score_category
from .identity import Identities, difference, known
from .image_files import hashing, refuse_changed_files, stamps
from .open_datasets import OpenDatasets, served_jobs
from .overall import shown, steps_of
from .plan import Job, Plan, make_plan, read_plan
from .prepare import prepare
from .prepared_method import PreparedMethod, isolated
from .thresholds import ThresholdLearning

SPLIT_ABOVE = 400  # test images; larger datasets are shared out by category


def run(
    plan: Plan | Path | str | Mapping[str, Any],
    progress: Progress | None = None,
    shard: tuple[int, int] = (0, 1),
    datasets: OpenDatasets | None = None,
) -> Path:
    """Run a plan and return its run directory. What is done already is not done again.

    Cells that fail leave an error record; the others are scored all the same.

    Args:
        plan: a `Plan`, the path of a plan file, or a mapping of `make_plan`'s arguments.
        progress: how to show progress and how to stop.
        shard: (i, n) does every n-th unit from the i-th, for plain schedulers.
        datasets: what was opened so far.

    Raises:
        UsageError: the plan asks for what does not exist.
        Stopped: a stop was asked for.
    """
    plan = resolve_plan(plan)
    progress = progress or Progress()
    check_device(plan.device)
    datasets = datasets or OpenDatasets(plan.limit)
    mine = start(plan, datasets, progress, shard, split=shard[1] > 1)
    bar = (
        shown(steps_of(plan, work_of(mine), datasets), progress) if progress.bar else nullcontext()
    )
    with _interrupts_seen(progress), spares_given_back(), bar:
        for blocking in (False, True):  # first what is free, then what others may have dropped
            for unit in mine:
                run_unit(plan, unit, datasets, progress, blocking)
    return Path(plan.out)


def start(
    plan: Plan, datasets: OpenDatasets, progress: Progress, shard: tuple[int, int], split: bool
) -> list[Unit]:
    """Make the run directory and say which units are to be done: every n-th from the i-th.

    Arguments and errors as `start_run` and `units`.
    """
    jobs = served_jobs(plan, datasets)
    start_run(plan, jobs, datasets, progress)
    index, count = shard
    return units(jobs, datasets, split)[index::count]


@contextmanager
def _interrupts_seen(progress: Progress) -> Iterator[None]:
    """Let `progress` know of a Ctrl-C, unless another handler already does.

    A KeyboardInterrupt without a signal was raised by a method, and is that method's failure.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        progress.stop.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def resolve_plan(plan: Plan | Path | str | Mapping[str, Any]) -> Plan:
    """Any form of a plan as a checked `Plan`."""
    if isinstance(plan, Plan):
        return plan
    if isinstance(plan, Mapping):
        return make_plan(**plan)
    return read_plan(Path(plan))


@dataclass(frozen=True)
class Unit:
    """What one process does in one go: some categories of one dataset, for all its jobs.

    The methods of a unit share its visual forwards; no category is cut.
    """

    jobs: tuple[Job, ...]
    categories: tuple[str, ...]

    @property
    def target(self) -> str:
        """The dataset of its cells."""
        return self.jobs[0].cell.target


def work_of(mine: Iterable[Unit]) -> Iterator[tuple[Job, str]]:
    """The jobs of some units with each of their categories."""
    for unit in mine:
        yield from itertools.product(unit.jobs, unit.categories)


def units(jobs: Sequence[Job], datasets: OpenDatasets, split: bool = False) -> list[Unit]:
    """Units of work: one per dataset, so that its visual forwards are shared.

    A dataset that cannot be opened is one unit without categories; doing it records the error.

    Args:
        jobs: of the whole plan, dataset by dataset.
        datasets: what was opened so far.
        split: a dataset of more than `SPLIT_ABOVE` test images is one unit per category.
    """
    found: list[Unit] = []
    for _, group in itertools.groupby(jobs, lambda job: job.cell.target):
        together = tuple(group)
        parts: list[tuple[str, ...]] = [()]
        with suppress(ZsadError):
            opened = datasets.target(together[0].dataset)
            parts = [tuple(opened.by_category)]
            if split and opened.images > SPLIT_ABOVE:
                parts = [(name,) for name in opened.by_category]
        found += [Unit(together, part) for part in parts]
    return found


@single_precision()
def run_unit(
    plan: Plan, unit: Unit, datasets: OpenDatasets, progress: Progress, blocking: bool = True
) -> None:
    """Do a unit: score its categories, then write the record of every cell that is complete.

    Args:
        plan: the whole plan.
        unit: from `units`.
        datasets: what was opened so far.
        progress: how to show progress and how to stop.
        blocking: wait for categories that another process holds, instead of leaving them.
    """
    folder = Path(plan.out)
    jobs = [job for job in unit.jobs if not is_done(folder, job.cell)]
    if not jobs:
        return
    try:
        opened = datasets.target(jobs[0].dataset)
        found = completeness(opened.dataset, "test", plan.limit)
    except Exception as error:
        for job in jobs:
            write_failure(folder, job.cell, error)
        return
    own = {category: opened.by_category[category] for category in unit.categories}
    with hashing(opened.dataset, own, progress) as wait_for_hashes:
        work = _UnitAtWork(plan, jobs, opened.dataset, datasets, progress, wait_for_hashes)
        for category, samples in own.items():
            lock_name = file_name(f"{unit.target}--{category}")
            with lock(folder, lock_name, blocking) as mine:
                if mine:
                    work.do(category, samples)
            work.record_failures()
    for job in jobs:
        finish_cell(plan, opened.dataset, job.cell, list(opened.by_category), found)


@dataclass
class _UnitAtWork:
    """What the categories of a unit share: methods that are made ready when first needed."""

    plan: Plan
    jobs: Sequence[Job]
    target: Dataset
    datasets: OpenDatasets
    progress: Progress
    wait_for_hashes: Callable[[], None]
    prepared_methods: list[PreparedMethod] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Identities are computed when they are first asked for, and kept for the whole unit."""
        self.folder = Path(self.plan.out)
        self.identities = Identities(self.plan, self.datasets)
        self.thresholds = ThresholdLearning(
            self.plan,
            self.target,
            self.datasets,
            self.progress,
            lambda job: self.identities.of_job(job, self.target),
        )

    def do(self, category: str, samples: Sequence[Sample]) -> None:
        """Score a category for the jobs that lack it, and write their category records."""
        waiting = [job.cell for job in self.jobs if not self._is_scored(job, category, samples)]
        if not waiting:
            return
        if not self.prepared_methods:
            self.prepared_methods = prepare(
                self.plan, self.target, self.jobs, self.datasets, self.progress
            )
        chosen = [e for e in self.prepared_methods if e.cell in waiting and e.error is None]
        before = stamps(samples)
        learned = self.thresholds.of_category(category, chosen)
        results = score_category(self.plan, self.target, samples, chosen, self.progress, learned)
        self.wait_for_hashes()
        for prepared in chosen:
            if prepared.error is not None:
                continue
            with isolated(prepared, self.progress):
                stated = self._stated(results[prepared.cell], prepared.job, samples)
                refuse_changed_files(self.target, category, samples, before)
            if prepared.error is None:
                path = part_path(self.folder, prepared.cell, category)
                write_json(path, dataclasses.asdict(stated))

    def record_failures(self) -> None:
        """Write the errors of methods that failed."""
        for prepared in self.prepared_methods:
            if prepared.error is not None and not is_done(self.folder, prepared.cell):
                write_failure(self.folder, prepared.cell, prepared.error)

    def _identity(
        self, job: Job, category: str, samples: Sequence[Sample]
    ) -> dict[str, str | None]:
        images = self.identities.of_images(self.target, {category: samples})
        return {**self.identities.of_job(job, self.target), **images}

    def _stated(
        self, result: CategoryRecord, job: Job, samples: Sequence[Sample]
    ) -> CategoryRecord:
        """A category record with its identity, and with its code in its provenance."""
        identity = known(self._identity(job, result.result.category, samples))
        origin = {"code": identity["code"], **plug_in("method", job.cell.method)}
        provenance = {**result.provenance, **origin}
        return dataclasses.replace(result, identity=identity, provenance=provenance)

    def _is_scored(self, job: Job, category: str, samples: Sequence[Sample]) -> bool:
        """Whether a category of a cell is done; one made under other conditions is moved."""
        path = part_path(self.folder, job.cell, category)
        if is_done(self.folder, job.cell) or not path.exists():
            return is_done(self.folder, job.cell)
        try:
            found = CategoryRecord.read(path).identity
            why = difference(found, self._identity(job, category, samples))
        except Exception as error:
            if is_done(self.folder, job.cell):  # by another process, which clears the parts
                return True
            why = f"it is not readable ({message_of(error)})"
        if why:
            supersede(self.folder, path, why)
        return not why
