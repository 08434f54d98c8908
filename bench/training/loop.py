"""The one optimisation loop of all trained methods, on arrays and on datasets alike.

Frozen visual features are computed once and every epoch runs on them. A training that is killed
resumes from its last whole epoch; on a CPU it ends in the same bits as one that was not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tqdm import tqdm

from ..backbone import Backbone
from ..method import TrainableMethod
from ..progress import Progress
from .batches import Source
from .optimisation import Optimisation, Step, TrainingConfig
from .state import POSITION, History, StateFile, TrainingState

LOG = logging.getLogger(__name__)

SHOWN_TERMS = 4


def optimise(
    method: TrainableMethod, source: Source, config: TrainingConfig, file: StateFile | None = None
) -> TrainingState:
    """Optimise a method's parameters over a source; the loop of `fit` and `train` alike.

    Args:
        method: changed in place, in eval mode afterwards.
        source: the samples.
        config: how they are gone through.
        file: where to resume from, and where each whole epoch is kept.

    Raises:
        UsageError: epochs or batch size are not positive, or the method has no parameters.
        ContractError: the loss is not a finite number, or a parameter that requires a gradient has
            none after the first epoch.
    """
    optimisation = Optimisation(method, config)
    state = TrainingState()
    backbone = method.backbone
    with _own_randomness(backbone.device, config.seed), _few_threads(backbone):
        if file is not None:
            state = file.restore(optimisation) or state
        total = -(-len(source) // optimisation.batch_size) * optimisation.epochs
        method.train()
        try:
            with config.progress.track(total, method.name, "step", initial=state.step) as bar:
                while state.epoch < optimisation.epochs:
                    _learn_epoch(optimisation, source, state, config.progress, bar)
                    if file is not None:
                        file.keep(optimisation, state)
        finally:
            method.eval()
    return state


def _learn_epoch(
    optimisation: Optimisation,
    source: Source,
    state: TrainingState,
    progress: Progress,
    bar: tqdm[Any],
) -> None:
    """Go through the source once more, and take down every step in the state."""
    started = time.perf_counter()
    for step in optimisation.epoch(source, state.epoch, state.step):
        state.history.append(step)
        state.step += 1
        bar.update()
        bar.set_postfix_str(_short(step, optimisation.epochs))
        progress.check()
    if state.epoch == 0:
        optimisation.refuse_idle()
    state.epoch += 1
    state.seconds += time.perf_counter() - started
    means = epoch_means([step for step in state.history if step["epoch"] == state.epoch - 1])[0]
    LOG.info(
        "%s epoch %d/%d: %s",
        optimisation.method.name,
        state.epoch,
        optimisation.epochs,
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
