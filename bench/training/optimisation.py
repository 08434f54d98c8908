"""What changes while a method learns: its parameters, the optimiser, the random generators."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import ContractError, UsageError
from ..method import Schedule, TrainableMethod
from ..names import display_name
from ..options import DEFAULT_SEED
from ..progress import Progress
from .batches import Source, TrainingBatch

AUGMENTATION_STREAM = 1 << 32  # added to the seed, so that augmenting does not change the order
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # that Adam keeps of each parameter
SHOWN_IDLE = 3  # parameters without a gradient that a message names

Step = dict[str, float]
"""One optimiser step: "epoch" and "step" (from 0), "lr", and every loss term with "total"."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a source is gone through.

    Attributes:
        epochs: how often every sample is seen; the cosine schedule ends there. None is the
            method's schedule.
        batch_size: samples of a step; the last step of an epoch may have fewer. None is the
            method's schedule.
        shuffle: a new order each epoch.
        seed: of the order, of the augmentation, and of whatever the method draws itself.
        workers: processes that read images.
        progress: shows time left and loss terms; asked after each step whether to stop.
    """

    epochs: int | None = None
    batch_size: int | None = None
    shuffle: bool = True
    seed: int = DEFAULT_SEED
    workers: int = 0
    progress: Progress = field(default_factory=Progress)

    def lengths(self, schedule: Schedule) -> tuple[int, int]:
        """(epochs, batch size), where they are not given the schedule's.

        Raises:
            UsageError: one of them is not positive.
        """
        epochs = schedule.epochs if self.epochs is None else self.epochs
        batch_size = schedule.batch_size if self.batch_size is None else self.batch_size
        if epochs < 1 or batch_size < 1:
            what = f"{epochs} and {batch_size}"
            raise UsageError(f"epochs and batch size must be positive, not {what}")
        return epochs, batch_size


class Optimisation:
    """The parts of a training that change from step to step."""

    def __init__(self, method: TrainableMethod, config: TrainingConfig) -> None:
        self.method, self.shuffle = method, config.shuffle
        self.epochs, self.batch_size = config.lengths(method.schedule)
        self.optimizer = _optimizer(method)
        backbone = method.backbone
        self.scaler = torch.amp.GradScaler(
            backbone.device.type, enabled=backbone.precision == "fp16"
        )
        self.shuffling = torch.Generator().manual_seed(config.seed)
        self.augmenting = torch.Generator().manual_seed(config.seed + AUGMENTATION_STREAM)
        self.idle = {n: p for n, p in method.named_parameters() if p.requires_grad}

    def epoch(self, source: Source, epoch: int, step: int) -> Iterator[Step]:
        """Go through the source once, yielding each step after it was made.

        Args:
            source: the samples.
            epoch: number of the epoch, from 0.
            step: number of its first step, from 0 over all epochs.
        """
        count = len(source)
        rate = learning_rate(self.method.schedule, epoch, self.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        order = list(range(count))
        if self.shuffle:
            order = torch.randperm(count, generator=self.shuffling).tolist()
        batches = source.batches(order, self.batch_size, self.augmenting)
        for number, batch in enumerate(batches, start=step):
            where = {"epoch": epoch, "step": number}
            yield {**where, "lr": rate, **self._step(batch, where)}

    def _step(self, batch: TrainingBatch, where: Mapping[str, int]) -> Step:
        terms = self.method.loss(batch.query, batch.labels, batch.masks)
        values = _values(self.method.name, terms, where)
        if not terms["total"].requires_grad:
            self.refuse_idle()
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(terms["total"]).backward()  # type: ignore[no-untyped-call]
        self.idle = {name: p for name, p in self.idle.items() if p.grad is None}
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return values

    def refuse_idle(self) -> None:
        """Refuse parameters that were to learn and had no gradient in any step so far.

        Raises:
            ContractError: names the method and the parameters.
        """
        if self.idle:
            names = ", ".join(f"'{name}'" for name in list(self.idle)[:SHOWN_IDLE])
            more = f" and {len(self.idle) - SHOWN_IDLE} more" if len(self.idle) > SHOWN_IDLE else ""
            raise ContractError(
                f"method '{self.method.name}': the loss gave no gradient to {names}{more} in any "
                "step of the first epoch: let the loss depend on it (no detach, no no_grad "
                "between), or set requires_grad=False where it is not to learn"
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        device = self.method.backbone.device
        return {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "shuffling": self.shuffling.get_state(),
            "augmenting": self.augmenting.get_state(),
            "random": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state_dict` was taken.

        Raises:
            Exception: whatever is wrong with the state; everything is then as it was before.
        """
        before = copy.deepcopy(self.state_dict())
        try:
            self._load(state)
        except Exception:
            self._load(before)
            raise

    def _load(self, state: Mapping[str, Any]) -> None:
        device = self.method.backbone.device
        self.method.load_state_dict(state["method"])
        settings = _settings(self.optimizer)
        self.optimizer.load_state_dict(state["optimizer"])
        if _settings(self.optimizer) != settings:
            raise ValueError("the optimiser has other settings")
        _check_moments(self.optimizer)
        if _kinds(state["scaler"]) != _kinds(self.scaler.state_dict()):
            raise ValueError("the gradient scaler's state does not fit")
        self.scaler.load_state_dict(state["scaler"])
        self.shuffling.set_state(state["shuffling"])
        self.augmenting.set_state(state["augmenting"])
        torch.set_rng_state(state["random"])
        if device.type == "cuda" and state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], device)


def learning_rate(schedule: Schedule, epoch: int, epochs: int) -> float:
    """The rate of an epoch (from 0), constant within it.

    Constant warm-up, then lr * (1 + cos(pi * e / epochs)) / 2 with e counted again after the
    warm-up, as Dassl's ConstantWarmupScheduler does by default (WARMUP_RECOUNT).
    """
    if epoch < schedule.warmup_epochs:
        return schedule.warmup_lr
    if not schedule.cosine:
        return schedule.lr
    done = (epoch - schedule.warmup_epochs) / epochs
    return 0.5 * schedule.lr * (1 + math.cos(math.pi * done))


def _kinds(state: Mapping[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in state.items()}


def _settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """What an optimiser was made with, but for the parameters and the rate, which changes."""
    return [
        {name: value for name, value in group.items() if name not in ("params", "lr")}
        for group in optimizer.param_groups
    ]


def _check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimiser's state that its next step would stumble over.

    Raises:
        ValueError: a parameter's moments are missing, or are not tensors of its shape.
    """
    names = ("momentum_buffer",) if isinstance(optimizer, torch.optim.SGD) else MOMENTS
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        state = optimizer.state.get(parameter, {})
        if not state:  # before its first step
            continue
        for name in names:
            moment = state.get(name)
            if not isinstance(moment, Tensor) or moment.shape not in (parameter.shape, ()):
                raise ValueError(f"the optimiser's {name} does not fit its parameter")


def _optimizer(method: TrainableMethod) -> torch.optim.Optimizer:
    """Over the method's own parameters that require a gradient."""
    schedule = method.schedule
    parameters = [p for p in method.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError(
            f"method '{display_name(method.name)}' has no parameters to train with these options"
        )
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=schedule.lr,
            momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
        )
    return torch.optim.Adam(
        parameters, lr=schedule.lr, betas=schedule.betas, weight_decay=schedule.weight_decay
    )


def _values(name: str, terms: Mapping[str, Tensor], where: Mapping[str, int]) -> Step:
    """The terms as numbers, read from the device at once.

    Raises:
        ContractError: a term is not a finite scalar, or there is no "total".
    """
    at = f"method '{name}', epoch {where['epoch'] + 1}, step {where['step'] + 1}"
    if "total" not in terms:
        raise ContractError(f"{at}: the loss has no term 'total' but {', '.join(terms) or 'none'}")
    for term, value in terms.items():
        if value.numel() != 1:
            raise ContractError(f"{at}: loss term '{term}' has shape {tuple(value.shape)}")
    numbers = torch.stack([value.detach().double().reshape(()) for value in terms.values()])
    values = dict(zip(terms, numbers.tolist(), strict=True))
    for term, number in values.items():
        if not math.isfinite(number):
            raise ContractError(
                f"{at}: loss term '{term}' is {number}; use a smaller learning rate, or fp32"
            )
    return values
