"""Whether a loss is the mean over images that a method says it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..method import TrainableMethod
from .augmentation import Draws
from .batches import Source
from .optimisation import Optimisation, TrainingConfig
from .stages import checked_stages, is_mean_over_images, only_learning, stage_runs
from .state import TrainingRun

TERMS, GRADIENTS = 1e-5, 1e-2  # rounding, of half precision where a method emulates it


def fault_of_parts(method: TrainableMethod, sources: Sequence[Source]) -> str:
    """What a batch gives otherwise where it is learned from in two parts; "" where nothing does.

    Args:
        method: with its stages; those whose loss is not said to be a mean are passed over.
        sources: of each of them, with a few images, which are one batch.
    """
    stages = checked_stages(method)
    lengths = [(1, len(source)) for source in sources]
    training = TrainingRun(method, stage_runs(stages, sources, lengths), TrainingConfig())
    for run in training.runs:
        if is_mean_over_images(method, run.stage):
            with only_learning(method, run.stage):
                fault = _fault(method, training.begin(run))
            if fault:
                return f"stage '{run.stage.name}' says mean_over_images, but {fault}"
    return ""


def _fault(method: TrainableMethod, optimisation: Optimisation) -> str:
    source, where = optimisation.run.source, {"epoch": 0, "step": 0}
    draws = Draws(torch.Generator().manual_seed(0), 0)
    batch = next(source.batches(range(len(source)), len(source), draws))
    own = dict(method.named_parameters())
    method.train()
    whole = optimisation.gradients([batch], where)
    gradients = {name: p.grad for name, p in own.items() if p.grad is not None}
    parts = optimisation.gradients([batch[:1], batch[1:]], where)
    method.eval()
    for term, value in whole.items():
        if abs(parts[term] - value) > TERMS * max(abs(value), 1):
            return f"term '{term}' is {value:g} of a batch and {parts[term]:g} of its parts"
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        found = own[name].grad
        if found is None or float((found - gradient).abs().max()) > GRADIENTS * largest:
            return f"the gradient of '{name}' is another one of its parts"
    return ""
