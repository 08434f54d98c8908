"""Many processes, one run: joblib hands the units of a plan to processes or to a Dask cluster.

A unit is idempotent and locked while it is done, so an engine may lose a worker, repeat a unit or
run beside a second engine on the same run directory.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import BrokenProcessPool

from ..backbone_spec import BUILT_IN, check_device
from ..errors import Stopped, UsageError, ZsadError, unknown_name
from ..names import display_name
from ..progress import Progress
from ..records.cell import Cell
from ..records.run_folder import lock, part_path, stop_path
from .cells import is_done, write_failure
from .open_datasets import OpenDatasets
from .overall import shown, steps_of
from .plan import Plan
from .runner import Unit, run_unit, start, units, work_of
from .runner import run as run_alone

LOG = logging.getLogger(__name__)
BACKENDS = {"loky": "loky", "threads": "threading", "dask": "dask"}
MOST_JOBS = 4  # by default; the built-in plan has six units


class WorkerLost(ZsadError):
    """A worker process was killed while it did a unit."""


@dataclass
class WorkerProgress(Progress):
    """Progress in a worker: no bar, and the stop is a file that all workers see.

    A worker also stops when the process that started it has died.
    """

    stop_file: Path = field(kw_only=True)
    parent: int = field(default_factory=os.getppid)

    def asked_to_stop(self) -> bool:
        """Whether the stop file is there, or the process that started the worker is gone."""
        return self.stop_file.exists() or os.getppid() != self.parent


def run(
    plan: Plan,
    progress: Progress,
    jobs: int | None = 1,
    backend: str = "loky",
    scheduler: str | None = None,
    shard: tuple[int, int] = (0, 1),
) -> Path:
    """Run a plan with several workers; with one worker and no cluster, in this process.

    Args:
        plan: the plan; all workers must see its run directory and its data.
        progress: as in `runner.run`.
        jobs: number of workers; with a cluster, of units under way at once. None is
            `default_jobs` for processes, else one.
        backend: "loky" (processes), "threads" or "dask".
        scheduler: address of a Dask scheduler; None starts a local cluster for "dask".
        shard: (i, n) does every n-th unit from the i-th.

    Raises:
        UsageError: unknown backend, or Dask is not installed.
        Stopped: a stop was asked for.
    """
    if backend not in BACKENDS:
        raise unknown_name("parallel backend", backend, BACKENDS)
    datasets = OpenDatasets(plan.limit)
    if jobs is None:
        jobs = default_jobs(plan, datasets) if backend == "loky" else 1
    if jobs < 1:
        raise UsageError(f"--jobs is at least 1, not {jobs}")
    if jobs == 1 and backend != "dask":
        return run_alone(plan, progress, shard, datasets)
    if backend == "threads" and plan.precision == "tf32":
        raise UsageError(
            "precision tf32 is a switch of the whole process, which threads share: take "
            "--parallel loky, or --precision fp32"
        )
    if scheduler is None:  # the machines of a cluster have devices of their own
        check_device(plan.device)
    mine = start(plan, datasets, progress, shard, split=True)
    with _watched(plan, mine, datasets, progress), _engine(backend, scheduler, jobs):
        _hand_out(plan, mine, jobs)
    progress.check()
    for unit in mine:  # what a lost worker left, and records whose parts several workers made
        run_unit(plan, unit, datasets, progress)
    return Path(plan.out)


def _hand_out(plan: Plan, mine: Sequence[Unit], jobs: int) -> None:
    """Let workers do the units; if one is killed, what is left is done one unit at a time."""
    try:
        joblib.Parallel(n_jobs=jobs)(joblib.delayed(work)(plan, unit, jobs) for unit in mine)
    except Exception as error:
        if not _is_loss_of_worker(error):
            raise
        LOG.warning(
            "a worker process was killed, perhaps because memory ran out: what is left is done "
            "again, one unit at a time"
        )
        for unit in mine:
            _work_alone(plan, unit)


def default_jobs(plan: Plan, datasets: OpenDatasets) -> int:
    """One process, or one per core, up to four, for the built-in backbone on a CPU.

    Its towers are so small that a second thread helps little, and learning uses one.
    """
    built_in = plan.backbone == BUILT_IN and plan.backbone_config is None
    if plan.device != "cpu" or not built_in or plan.workers:
        return 1
    cores: int = joblib.cpu_count()
    return max(1, min(MOST_JOBS, cores, len(units(plan.jobs(), datasets, split=True))))


def work(plan: Plan, unit: Unit, jobs: int) -> None:
    """Do one unit in a worker, on a device of its own where there are several."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    with _device(plan, jobs) as device, suppress(Stopped):
        progress = WorkerProgress(stop_file=stop_path(Path(plan.out)))
        own = dataclasses.replace(plan, device=device)
        run_unit(own, unit, OpenDatasets(plan.limit), progress)


def _is_loss_of_worker(error: Exception) -> bool:
    """Whether an engine reports that a process of its own has died (loky's error, or Dask's)."""
    return isinstance(error, BrokenProcessPool) or type(error).__name__ == "KilledWorker"


def _work_alone(plan: Plan, unit: Unit) -> None:
    """Do a unit in a process of its own; if that is killed too, leave records of its cells."""
    if not _unfinished(plan, unit):
        return
    try:
        with ProcessPoolExecutor(max_workers=1) as pool:  # a new one: joblib's own is broken
            pool.submit(work, plan, unit, 1).result()
    except BrokenProcessPool as error:
        what = ", ".join(unit.categories) or "its categories"
        reason = WorkerLost(
            f"the process that scored {display_name(unit.target)} ({what}) was killed twice, "
            "perhaps because memory ran out: use a smaller --batch-size or fewer methods at once"
        )
        reason.__cause__ = error
        for cell in _unfinished(plan, unit):
            write_failure(Path(plan.out), cell, reason)


def _unfinished(plan: Plan, unit: Unit) -> list[Cell]:
    """The cells of a unit that lack at least one of its categories."""
    folder = Path(plan.out)
    return [
        job.cell
        for job in unit.jobs
        if not is_done(folder, job.cell)
        and not all(part_path(folder, job.cell, name).exists() for name in unit.categories)
    ]


@contextmanager
def _device(plan: Plan, jobs: int) -> Iterator[str]:
    """A free device: with "cuda", each GPU serves equally many workers of this machine."""
    if plan.device != "cuda":
        yield plan.device
        return
    import torch

    gpus = torch.cuda.device_count()
    slots = [(gpu, slot) for slot in range(math.ceil(jobs / max(gpus, 1))) for gpu in range(gpus)]
    while slots:
        for gpu, slot in slots:
            with lock(Path(plan.out), f"device-{gpu}-{slot}", blocking=False) as mine:
                if mine:
                    yield f"cuda:{gpu}"
                    return
        time.sleep(0.05)
    yield plan.device


@contextmanager
def _engine(backend: str, scheduler: str | None, jobs: int) -> Iterator[None]:
    """Joblib's backend, with a Dask client where it needs one."""
    if backend != "dask":
        with joblib.parallel_config(backend=BACKENDS[backend]):
            yield
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError("Dask is not installed: pip install 'zsad[cluster]'") from error
    local: dict[str, Any] = {"n_workers": jobs, "threads_per_worker": 1}
    try:
        client = Client(scheduler) if scheduler else Client(**local)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageError(f"no Dask scheduler answers at {scheduler} ({error})") from error
    with client, joblib.parallel_config(backend="dask"):
        yield


@contextmanager
def _watched(
    plan: Plan, mine: Sequence[Unit], datasets: OpenDatasets, progress: Progress
) -> Iterator[None]:
    """Show how far the run is, and turn the parent's stop into the file that workers look for."""
    stop_file = stop_path(Path(plan.out))
    stop_file.unlink(missing_ok=True)

    def hand_on() -> None:
        if progress.stop.is_set():
            stop_file.touch()

    try:
        with shown(steps_of(plan, work_of(mine), datasets), progress, hand_on):
            yield
    finally:
        stop_file.unlink(missing_ok=True)
