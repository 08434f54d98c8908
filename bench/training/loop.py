"""The one optimisation loop of all trained methods, on arrays and on datasets alike.

Frozen visual features are computed once and every epoch runs on them. A training that is killed
resumes from its last whole epoch; on a CPU it ends in the same bits as one that was not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from tqdm import tqdm

from ..at_once import AtOnce
from ..backbone import Backbone
from ..method import TrainableMethod
from ..names import display_name
from .augmentation import Draws
from .batches import Source, TrainingBatch
from .optimisation import Optimisation, Step, TrainingConfig
from .stages import REMEMBERING, StageRun, checked_stages, only_learning, stage_runs
from .state import POSITION, History, StateFile, TrainingRun, TrainingState

LOG = logging.getLogger(__name__)

SHOWN_TERMS = 4


def optimise(
    method: TrainableMethod,
    sources: Sequence[Source],
    config: TrainingConfig,
    file: StateFile | None = None,
) -> TrainingState:
    """Optimise a method's parameters stage by stage; the loop of `fit` and `train` alike.

    Args:
        method: changed in place, in eval mode afterwards.
        sources: the samples, as each of the method's `passes` needs them.
        config: how they are gone through.
        file: where to resume from, and where each whole epoch is kept.

    Raises:
        UsageError: epochs or batch size are not positive, or the method has nothing to learn.
        ContractError: the loss is not a finite number, or a parameter that learns in a stage has
            no gradient in the first epoch of it.
    """
    memory = sources[0] if method.remembers else None
    stages = checked_stages(method)
    learned_from = sources[len(sources) - len(stages) :]
    runs = stage_runs(stages, learned_from, [config.lengths(stage.schedule) for stage in stages])
    backbone = method.backbone
    with _own_randomness(backbone.device, config.seed), _few_threads(backbone):
        training = TrainingRun(method, runs, config)
        if file is not None:
            file.restore(training)
        if memory is not None and training.resumed is None and not method.remembers_last:
            remember(method, memory, config)
        method.train()
        try:
            total = sum(run.steps for run in runs)
            with config.progress.track(
                total, method.name, "step", initial=training.state.step
            ) as bar:
                for run in runs:
                    if training.state.epoch < run.end:
                        _learn_stage(training, run, file, bar)
        finally:
            method.eval()
        if memory is not None and method.remembers_last:
            remember(method, memory, config)
    encoding = {id(source): source.encoding for source in sources}
    training.state.remarks += [text for one in encoding.values() for text in one.remarks()]
    return training.state


def remember(method: TrainableMethod, source: Source, config: TrainingConfig) -> None:
    """Show a method every sample once, in their order.

    Args:
        method: that remembers; changed in place, in eval mode.
        source: the samples, as `REMEMBERING` needs them.
        config: shows how far this has come.
    """
    method.eval()
    draws = Draws(torch.Generator(), config.seed)
    size = REMEMBERING.schedule.batch_size
    batches = source.batches(range(len(source)), size, draws)
    whole = AtOnce(  # a method may have kept a part of a batch before memory ran out
        method.backbone.device,
        least=size,
        what=f"while method '{display_name(method.name)}' remembered",
        option="",
        fix=f"lower --option {method.name}.image_size",
    )

    def show(parts: Sequence[TrainingBatch]) -> None:
        for part in parts:
            method.remember(part.query, part.labels, part.masks)

    with (
        torch.no_grad(),
        config.progress.track(len(source), f"{method.name} remembers", "img") as bar,
    ):
        for batch in batches:
            whole.together(batch, show)
            bar.update(len(batch.query))
            config.progress.check()
        method.settle()
    method.to(method.backbone.device)


def _learn_stage(
    training: TrainingRun, run: StageRun, file: StateFile | None, bar: tqdm[Any]
) -> None:
    """Go through a stage from its beginning, or from where the training was kept."""
    with only_learning(training.method, run.stage):
        optimisation = training.begin(run)
        while training.state.epoch < run.end:
            _learn_epoch(training, optimisation, bar)
            if file is not None:
                file.keep(optimisation, training.state)
        training.state.remarks += optimisation.at_once.remarks()


def _learn_epoch(training: TrainingRun, optimisation: Optimisation, bar: tqdm[Any]) -> None:
    """Go through the source once more, and take down every step in the state."""
    started = time.perf_counter()
    state, progress, epochs = training.state, training.config.progress, training.runs[-1].end
    for step in optimisation.epoch(state.epoch, state.step):
        state.history.append(step)
        state.step += 1
        bar.update()
        bar.set_postfix_str(_short(step, epochs))
        progress.check()
    if state.epoch == optimisation.run.first_epoch:
        optimisation.refuse_idle()
    state.epoch += 1
    state.seconds += time.perf_counter() - started
    means = epoch_means([step for step in state.history if step["epoch"] == state.epoch - 1])[0]
    LOG.info(
        "%s epoch %d/%d: %s",
        training.method.name,
        state.epoch,
        epochs,
        ", ".join(f"{term} {value:.4f}" for term, value in means.items()),
    )


def epoch_means(history: History) -> list[dict[str, float]]:
    """The mean of every loss term over the steps of each epoch."""
    epochs: dict[float, list[Step]] = {}
    for entry in history:
        epochs.setdefault(entry["epoch"], []).append(entry)
    return [
        {
            term: sum(step[term] for step in steps) / len(steps)
            for term in steps[0]
            if term not in POSITION
        }
        for steps in epochs.values()
    ]


@contextmanager
def _own_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch inside, and leave it as it was outside."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def _few_threads(backbone: Backbone) -> Iterator[None]:
    """One thread for a small backbone: waking others takes longer than its products do.

    It also takes the number of threads out of what is learned.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if backbone.small and backbone.device.type == "cpu" else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _short(entry: Step, epochs: int) -> str:
    """The end of the progress bar: epoch, total, and the first terms."""
    terms = [t for t in entry if t not in (*POSITION, "total")][:SHOWN_TERMS]
    shown = " ".join(f"{term} {entry[term]:.3f}" for term in ("total", *terms))
    return f"epoch {int(entry['epoch']) + 1}/{epochs} {shown}"
