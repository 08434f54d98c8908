"""The stages of a training: which parameters learn in each, and how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from ..errors import ContractError, UsageError
from ..method import Schedule, Stage, TrainableMethod
from ..names import display_name
from .batches import Source

REMEMBERING = Stage(Schedule(epochs=1, batch_size=8), "memory", learns=())
"""Stands for the pass in which a method remembers: every image once, as it is."""


@dataclass(frozen=True)
class StageRun:
    """A stage, and what it is gone through with.

    Attributes:
        stage: of the method.
        source: the samples, as the stage needs them.
        epochs, batch_size: of the stage.
        first_epoch, first_step: counted over all stages, from 0.
    """

    stage: Stage
    source: Source
    epochs: int
    batch_size: int
    first_epoch: int
    first_step: int

    @property
    def steps(self) -> int:
        """Optimiser steps of the stage."""
        return -(-len(self.source) // self.batch_size) * self.epochs

    @property
    def end(self) -> int:
        """The first epoch after the stage."""
        return self.first_epoch + self.epochs


def stage_runs(
    stages: Sequence[Stage], sources: Sequence[Source], lengths: Sequence[tuple[int, int]]
) -> list[StageRun]:
    """The stages in their order, with the epochs and steps that lie before each.

    Args:
        stages: of a method.
        sources: one a stage.
        lengths: (epochs, batch size) of each stage.
    """
    runs: list[StageRun] = []
    epoch = step = 0
    for stage, source, (epochs, batch_size) in zip(stages, sources, lengths, strict=True):
        runs.append(StageRun(stage, source, epochs, batch_size, epoch, step))
        epoch, step = epoch + epochs, step + runs[-1].steps
    return runs


def passes(method: TrainableMethod) -> tuple[Stage, ...]:
    """The stages of a method, after the pass in which it remembers where it does.

    Raises:
        UsageError: there is neither.
        ContractError: as `checked_stages`.
    """
    stages = checked_stages(method)
    if not stages and not method.remembers:
        raise UsageError(
            f"method '{display_name(method.name)}' has nothing to learn with these options"
        )
    return (REMEMBERING, *stages) if method.remembers else stages


def checked_stages(method: TrainableMethod) -> tuple[Stage, ...]:
    """The stages of a method, which let every parameter learn that requires a gradient.

    Raises:
        ContractError: a stage has no parameters to learn, a parameter learns in no stage, or two
            stages have one name; names the method, the stage and the parameter.
        UsageError: the method has a stage, but no parameters to train.
    """
    stages = tuple(method.stages())
    left = {name for name, p in method.named_parameters() if p.requires_grad}
    if stages and not left:
        raise UsageError(
            f"method '{display_name(method.name)}' has no parameters to train with these options"
        )
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise ContractError(
            f"method '{display_name(method.name)}' has two stages of one name "
            f"({', '.join(names)}): give each its own"
        )
    for stage in stages:
        left -= learning_parameters(method, stage).keys()
    if left:
        raise ContractError(
            f"method '{display_name(method.name)}': no stage learns '{min(left)}': let a "
            "stage's `learns` begin its name, or set requires_grad=False where it is not to learn"
        )
    return stages


def learning_parameters(method: TrainableMethod, stage: Stage) -> Mapping[str, nn.Parameter]:
    """The parameters that learn in a stage, by name.

    Raises:
        ContractError: a prefix of the stage, or of its rates, fits none of them.
    """
    found = {
        name: parameter
        for name, parameter in method.named_parameters()
        if parameter.requires_grad and name.startswith(stage.learns)
    }
    for prefix in (*stage.learns, *stage.schedule.rates):
        if not any(name.startswith(prefix) for name in found):
            raise ContractError(
                f"method '{display_name(method.name)}': no parameter that learns in stage "
                f"'{stage.name}' has a name that begins with '{prefix}'"
            )
    return found


def is_mean_over_images(method: TrainableMethod, stage: Stage) -> bool:
    """Whether a stage may learn from a batch in parts, see `TrainableMethod.mean_over_images`."""
    if stage.mean_over_images is not None:
        return stage.mean_over_images
    return stage.loss is None and method.mean_over_images


@contextmanager
def only_learning(method: TrainableMethod, stage: Stage) -> Iterator[None]:
    """Let only a stage's own parameters require a gradient inside."""
    learning = learning_parameters(method, stage).keys()
    frozen = [
        parameter
        for name, parameter in method.named_parameters()
        if parameter.requires_grad and name not in learning
    ]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
