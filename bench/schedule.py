"""How a trainable method is fitted: the schedule of a stage, and the stages."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

if TYPE_CHECKING:
    from .query import Query

Loss = Callable[["Query", Tensor, Tensor], dict[str, Tensor]]
"""As `TrainableMethod.loss`."""

STATED_IF_SET = frozenset(
    {
        "augments_images",
        "relabels",
        "per_step",
        "floor",
        "rising_share",
        "milestones",
        "gamma",
        "rates",
    }
)
"""Fields of a schedule that a checkpoint's header states only where they are not the default."""


@dataclass(frozen=True)
class Schedule:
    """How a stage, or a method that learns in one, is fitted.

    Attributes:
        epochs, batch_size, lr: as usual.
        optimizer: "adam", "adamw" (Loshchilov and Hutter, "Decoupled Weight Decay Regularization",
            ICLR 2019) or "sgd".
        betas: of Adam and AdamW.
        momentum: of SGD.
        weight_decay: of all three; decoupled from the gradient in AdamW alone.
        cosine: learning rate follows a cosine to `floor` over the epochs, stepped per epoch.
        warmup_epochs, warmup_lr: constant rate in the first epochs.
        augments: the method's `augment` changes training batches, so cached features cannot be
            used.
        relabels: an image whose mask is not empty after `augment` counts as anomalous; else every
            image keeps its label.
        augments_images: the method's `augment_image` changes training images before they are
            resized, so cached features cannot be used.
        per_step: the cosine is stepped per optimiser step, not per epoch.
        floor: rate at the end of the cosine.
        rising_share: share of all optimiser steps, rounded down to whole steps, in which the rate
            rises linearly from 0; the cosine begins after them.
        milestones: optimiser steps, in rising order, from each of which on the rate is multiplied
            by `gamma` once more.
        gamma: see `milestones`.
        rates: name prefix of parameters -> their rate, in the place of `lr`; the first prefix that
            fits a parameter counts.
    """

    epochs: int
    batch_size: int = 8
    lr: float = 1e-3
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    betas: tuple[float, float] = (0.5, 0.999)
    momentum: float = 0.9
    weight_decay: float = 0.0
    cosine: bool = False
    warmup_epochs: int = 0
    warmup_lr: float = 1e-5
    augments: bool = False
    augments_images: bool = False
    relabels: bool = True
    per_step: bool = False
    floor: float = 0.0
    rising_share: float = 0.0
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    rates: Mapping[str, float] = field(default_factory=dict, hash=False)

    def facts(self) -> dict[str, Any]:
        """What a checkpoint's header states, see `STATED_IF_SET`."""
        plain = dataclasses.asdict(Schedule(self.epochs))
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in STATED_IF_SET or value != plain[name]
        }

    def rate(self, position: Position, lr: float | None = None) -> float:
        """The learning rate of an optimiser step.

        Constant warm-up, then floor + (lr - floor) (1 + cos(pi e / epochs)) / 2 with e counted
        again after the warm-up, as Dassl's ConstantWarmupScheduler does by default
        (WARMUP_RECOUNT). Per step, e counts the steps after those in which the rate rises.

        Args:
            position: of the step in its stage.
            lr: of a group of parameters; None is the schedule's own.
        """
        lr = self.lr if lr is None else lr
        if position.epoch < self.warmup_epochs:
            return self.warmup_lr
        rising = int(self.rising_share * position.steps)
        if position.step < rising:
            return lr * position.step / rising
        if self.milestones:
            lr *= self.gamma ** bisect.bisect_right(self.milestones, position.step)
        if not self.cosine:
            return lr
        done = (position.epoch - self.warmup_epochs) / position.epochs
        if self.per_step:
            done = (position.step - rising) / (position.steps - rising)
        return self.floor + 0.5 * (lr - self.floor) * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Position:
    """Where an optimiser step stands in its stage.

    Attributes:
        epoch: of the step, from 0.
        epochs: of the stage.
        step: from 0 over all epochs of the stage.
        steps: of the stage.
    """

    epoch: int
    epochs: int
    step: int = 0
    steps: int = 1


@dataclass(frozen=True)
class Stage:
    """One of the stages in which a method learns, each with an optimiser of its own.

    Attributes:
        schedule: how it is fitted.
        name: for messages and the checkpoint's header.
        learns: name prefixes of the parameters that learn in it; "" is all of them. The others are
            frozen: they require no gradient as long as the stage lasts.
        loss: what it minimises; None is the method's `loss`.
        needs_images: `Query.images` is read by the loss; None is the method's `needs_images`.
            A stage that does not read images and changes none learns from cached features.
        mean_over_images: see `TrainableMethod`; None is the method's where the loss is.
    """

    schedule: Schedule
    name: str = "training"
    learns: tuple[str, ...] = ("",)
    loss: Loss | None = None
    needs_images: bool | None = None
    mean_over_images: bool | None = None

    def facts(self) -> dict[str, Any]:
        """What a checkpoint's header states of it."""
        return {"name": self.name, "learns": list(self.learns), **self.schedule.facts()}
