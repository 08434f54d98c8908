"""How long the parts of a run take on this machine, measured on a few of its own images.

The measurement runs in a process of its own, which is stopped after some seconds, however large
the backbone is; parts that it has not come to stay unmeasured. It scores and trains with the code
of a run, in a folder that is deleted afterwards.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import joblib
import torch
from tqdm import tqdm

from ..dataset import Sample
from ..errors import ZsadError
from ..names import display_name
from ..progress import Progress
from ..training.loop import optimise
from ..training.optimisation import TrainingConfig
from ..training.sources import cache_features, can_cache, dataset_sources
from ..training.stages import passes
from ..training.trainer import auxiliary_samples
from .evaluation import score_category
from .forecast import Forecast, Part
from .open_datasets import OpenDatasets, OpenedDataset
from .parallel import default_jobs
from .plan import Job, Plan
from .prepare import created, feature_cache, in_training_precision, split_of, trainings_of
from .prepared_method import PreparedMethod
from .runner import units
from .thresholds import further_images

LOG = logging.getLogger(__name__)
SECONDS = 10.0  # of measuring; importing and loading do not count
LOADING_SECONDS = 120.0
SCORED = 8  # images of a dataset
STEPS = 2  # of an epoch of a measured training
EPOCHS = (1, 4, 16)
ENOUGH = 0.25  # seconds of steps, so that the start of a training does not count

Tell = Callable[[Sequence[Part]], None]


def forecast(plan: Plan, jobs: Sequence[Job], seconds: float = SECONDS) -> Forecast | None:
    """How long some jobs of a plan will take, or None where not even their parts are known.

    Args:
        plan: what is to be run.
        jobs: those that are not done and that can be done.
        seconds: of measuring, at most.
    """
    if not jobs:
        return Forecast(())
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    worker = context.Process(target=_measure_alone, args=(plan, jobs, sender), daemon=True)
    worker.start()
    sender.close()
    parts: Sequence[Part] | None = None
    deadline = time.monotonic() + LOADING_SECONDS
    with suppress(EOFError):
        while receiver.poll(max(deadline - time.monotonic(), 0)):
            if parts is None:
                deadline = time.monotonic() + seconds
            parts = receiver.recv()
        worker.terminate()
    worker.join()
    return None if parts is None else Forecast(parts)


def _measure_alone(plan: Plan, jobs: Sequence[Job], sender: Connection) -> None:
    """What the process does; a fault leaves parts unmeasured and is a fault of the run itself."""
    logging.disable(logging.ERROR)
    tqdm.set_lock(threading.RLock())  # its own is shared by processes and left behind by a stop
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZSAD_FEATURES"] = folder
        elsewhere = dataclasses.replace(plan, out=folder, workers=0)
        with suppress(ZsadError):
            measure(elsewhere, jobs, Path(plan.out), sender.send)


def measure(plan: Plan, jobs: Sequence[Job], run: Path, tell: Tell) -> None:
    """Measure one part after the other.

    Args:
        plan: of the run, with a folder to write to.
        jobs: to be done.
        run: the run's own folder, where learned weights may lie already.
        tell: is given all parts, first unmeasured and then with every new measurement.
    """
    started = time.perf_counter()
    datasets = OpenDatasets(plan.limit)
    processes = default_jobs(plan, datasets)
    torch.set_num_threads(max(joblib.cpu_count() // processes, 1))
    first = {_entry(job): job for job in jobs}
    prepared = [
        created(plan, job, datasets.target(job.dataset).dataset, Progress())
        for job in first.values()
    ]
    ready = [one for one in prepared if one.error is None]
    scorings = _scorings(plan, jobs, ready, datasets, processes)
    work = [*scorings, *_trainings(plan, jobs, ready, datasets, run)]
    parts = [Part("start", 1, "start", 1, time.perf_counter() - started)]
    parts += [part for measured in work for part in measured.parts]
    tell(parts)
    for measured in work:
        known = {part.name: part for part in measured.run()}
        parts = [known.get(part.name, part) for part in parts]
        tell(parts)


@dataclasses.dataclass(frozen=True)
class _Work:
    """Parts that are measured together."""

    parts: Sequence[Part]
    seconds: Callable[[], Sequence[float]]

    def run(self) -> list[Part]:
        return [p.measured(s) for p, s in zip(self.parts, self.seconds(), strict=True)]


def _trainings(
    plan: Plan,
    jobs: Sequence[Job],
    ready: Sequence[PreparedMethod],
    datasets: OpenDatasets,
    run: Path,
) -> list[_Work]:
    """Each training that the run has not done: the features it learns from, and its steps."""
    own = dataclasses.replace(plan, out=str(run))
    of_entry = {_entry(one.job): one for one in ready}
    found = [
        (of_entry[_entry(job)], job)
        for path, (job, *_) in trainings_of(own, jobs).items()
        if _entry(job) in of_entry and not path.exists()
    ]
    at_once = min(default_jobs(plan, datasets), max(len(found), 1))
    cached: set[tuple[object, ...]] = set()
    return [
        work
        for prepared, job in found
        for work in _training(plan, prepared, job, datasets, at_once, cached)
    ]


def _training(
    plan: Plan,
    prepared: PreparedMethod,
    job: Job,
    datasets: OpenDatasets,
    at_once: int,
    cached: set[tuple[object, ...]],
) -> list[_Work]:
    """The features and the steps of one training; features that another one shares count once."""
    method = in_training_precision(plan, prepared)
    auxiliary = datasets.auxiliary(job)
    samples = auxiliary_samples(auxiliary, split_of(plan, job), plan.auxiliary_limit)
    stages = passes(method)
    config = TrainingConfig(progress=Progress())
    lengths = [config.lengths(stage.schedule) for stage in stages]
    few = samples[: STEPS * max(size for _, size in lengths)]
    cache = feature_cache(plan)
    about = f"{method.title} on {auxiliary.title}"
    work = []

    def encode() -> Sequence[float]:
        started = time.perf_counter()
        cache_features([method], auxiliary, few, cache)
        return [(time.perf_counter() - started) / len(few)]

    key = (*method.forward_key(), auxiliary.name, len(samples))
    if any(can_cache(method, stage) for stage in stages) and key not in cached:
        cached.add(key)
        work.append(_Work([Part(f"features for {about}", len(samples), "image")], encode))
    steps = sum(-(-len(samples) // size) * epochs for epochs, size in lengths)

    def learn() -> Sequence[float]:
        sources = dataset_sources(method, stages, auxiliary, few, cache, config)
        optimise(method, sources, TrainingConfig(epochs=1, progress=Progress()))
        each = 0.0  # the first steps allocate memory
        for epochs in EPOCHS:
            started = time.perf_counter()
            state = optimise(method, sources, TrainingConfig(epochs=epochs, progress=Progress()))
            taken = time.perf_counter() - started
            each = taken / (len(state.history) or sum(-(-len(few) // size) for _, size in lengths))
            if taken > ENOUGH:
                break
        return [each]

    return [*work, _Work([Part(f"training of {about}", steps, "step", at_once)], learn)]


def _scorings(
    plan: Plan,
    jobs: Sequence[Job],
    ready: Sequence[PreparedMethod],
    datasets: OpenDatasets,
    processes: int,
) -> list[_Work]:
    """Each dataset: what its first batch takes once a process, and each further image."""
    work: list[_Work] = []
    learned_on: set[tuple[str, frozenset[tuple[str, ...]]]] = set()
    for target, group in itertools.groupby(jobs, lambda job: job.cell.target):
        members = list(group)
        opened = datasets.target(members[0].dataset)
        at_once = min(processes, len(units(members, datasets, split=processes > 1)))
        entries = {_entry(job) for job in members}
        methods = [one for one in ready if _entry(one.job) in entries]
        samples = _mixture(next(iter(opened.by_category.values())), SCORED)
        thresholds = _for_thresholds(plan, members, datasets, learned_on)

        def score(
            samples: Sequence[Sample] = samples,
            methods: Sequence[PreparedMethod] = methods,
            opened: OpenedDataset = opened,
            further: int = len(thresholds),
        ) -> Sequence[float]:
            seconds = []
            for chosen in (samples[:2], samples):
                started = time.perf_counter()
                score_category(plan, opened.dataset, chosen, methods, Progress())
                seconds.append(time.perf_counter() - started)
            each = seconds[1] / len(samples)
            return [max(seconds[0] - 2 * each, 0.0), each, *[each] * further]

        name = display_name(target)
        parts = [
            Part(f"first batch of {name}", 1, "start"),
            Part(f"scoring of {name}", opened.images, "image", at_once),
            *thresholds,
        ]
        work.append(_Work(parts, score))
    return work


def _for_thresholds(
    plan: Plan,
    members: Sequence[Job],
    datasets: OpenDatasets,
    learned_on: set[tuple[str, frozenset[tuple[str, ...]]]],
) -> list[Part]:
    """What is scored for the thresholds of a target's methods, as far as nothing has counted it.

    Args:
        plan: of the run.
        members: jobs of one target.
        datasets: that were opened.
        learned_on: auxiliary datasets with the entries that have thresholds from them; added to.
    """
    target, parts = members[0].cell.target, []
    entries = frozenset(map(_entry, members))
    for name, count in further_images(plan, members[0], datasets).items():
        if name != target and (name, entries) in learned_on:
            continue
        learned_on.add((name, entries))
        title = f"thresholds of {display_name(target)} on {display_name(name)}"
        parts.append(Part(title, count, "image"))
    return parts


def _entry(job: Job) -> tuple[str, ...]:
    """What jobs of one entry of a plan's methods have in common."""
    return job.cell.method, job.cell.variant, job.cell.options_text, job.cell.label


def _mixture(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Some images of a category, as evenly spread over its list as they can be."""
    step = max(len(samples) / count, 1.0)
    return [samples[int(step * number)] for number in range(min(count, len(samples)))]
