"""What changes while a method learns: its parameters, the optimiser, the random generators."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..at_once import AtOnce
from ..errors import ContractError, UsageError
from ..learned_tensors import make_room
from ..method import Schedule, TrainableMethod
from ..names import display_name
from ..options import DEFAULT_SEED
from ..progress import Progress
from ..schedule import Position
from .augmentation import Draws
from .batches import TrainingBatch
from .stages import StageRun, is_mean_over_images, learning_parameters

AUGMENTATION_STREAM = 1 << 32  # added to the seed, so that augmenting does not change the order
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # that Adam keeps of each parameter
SHOWN_IDLE = 3  # parameters without a gradient that a message names

Step = dict[str, float]
"""One optimiser step: "epoch" and "step" (from 0), "lr", and every loss term with "total"."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a source is gone through.

    Attributes:
        epochs: how often every sample is seen, in each stage; the cosine schedule ends there. None
            is the stage's schedule.
        batch_size: samples of a step, in each stage; the last step of an epoch may have fewer. None
            is the stage's schedule.
        shuffle: a new order each epoch.
        seed: of the order, of the augmentation, and of whatever the method draws itself.
        workers: processes that read images.
        progress: shows time left and loss terms; asked after each step whether to stop.
        limit: at most so many images of the auxiliary dataset per category and label; None is all.
    """

    epochs: int | None = None
    batch_size: int | None = None
    shuffle: bool = True
    seed: int = DEFAULT_SEED
    workers: int = 0
    progress: Progress = field(default_factory=Progress)
    limit: int | None = None

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


class Generators:
    """What is drawn from outside of the method: the order of the samples, and augmentation."""

    def __init__(self, seed: int) -> None:
        self.shuffling = torch.Generator().manual_seed(seed)
        self.augmenting = torch.Generator().manual_seed(seed + AUGMENTATION_STREAM)


class Optimisation:
    """The parts of a training that change from step to step of a stage."""

    def __init__(
        self,
        method: TrainableMethod,
        run: StageRun,
        config: TrainingConfig,
        generators: Generators,
    ) -> None:
        self.method, self.run = method, run
        self.shuffle, self.seed = config.shuffle, config.seed
        self.loss = run.stage.loss or method.loss
        self.idle = dict(learning_parameters(method, run.stage))
        self.optimizer, self.rates = _optimizer(self.idle, run.stage.schedule)
        backbone = method.backbone
        self.scaler = torch.amp.GradScaler(
            backbone.device.type, enabled=backbone.precision == "fp16"
        )
        self.generators = generators
        self.at_once = _limit(method, run)

    def epoch(self, epoch: int, step: int) -> Iterator[Step]:
        """Go through the source once, yielding each step after it was made.

        Args:
            epoch: number of the epoch, from 0 over all stages.
            step: number of its first step, from 0 over all epochs.
        """
        run = self.run
        count = len(run.source)
        order = list(range(count))
        if self.shuffle:
            order = torch.randperm(count, generator=self.generators.shuffling).tolist()
        draws = Draws(self.generators.augmenting, self.seed, epoch)
        batches = run.source.batches(order, run.batch_size, draws)
        for number, batch in enumerate(batches, start=step):
            rate = self._set_rates(
                Position(epoch - run.first_epoch, run.epochs, number - run.first_step, run.steps)
            )
            where = {"epoch": epoch, "step": number}
            yield {**where, "lr": rate, **self._step(batch, where)}

    def _set_rates(self, position: Position) -> float:
        """Give each group of parameters its rate; returns that of the schedule itself."""
        schedule = self.run.stage.schedule
        for group, lr in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = schedule.rate(position, lr)
        return schedule.rate(position)

    def _step(self, batch: TrainingBatch, where: Mapping[str, int]) -> Step:
        values = self.at_once.together(batch, lambda parts: self.gradients(parts, where))
        self.idle = {name: p for name, p in self.idle.items() if p.grad is None}
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return values

    def gradients(self, parts: Sequence[TrainingBatch], where: Mapping[str, int]) -> Step:
        """Give parameters the gradients of a batch, or of the parts of one; returns its loss terms.

        Raises:
            ContractError: a term is not a finite scalar, or there is no "total".
        """
        self.optimizer.zero_grad(set_to_none=True)
        count, means = sum(map(len, parts)), dict[str, float]()
        for part in parts:
            share = len(part) / count
            terms = self.loss(part.query, part.labels, part.masks)
            values = _values(self.method.name, terms, where)
            if not terms["total"].requires_grad:
                self.refuse_idle()
            self.scaler.scale(share * terms["total"]).backward()  # type: ignore[no-untyped-call]
            means = {name: means.get(name, 0.0) + share * values[name] for name in values}
        return means

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
                f"step of the first epoch{self._of_stage()}: let the loss depend on it (no detach, "
                "no no_grad between), or set requires_grad=False where it is not to learn"
            )

    def _of_stage(self) -> str:
        several = len(self.method.stages()) > 1
        return f" of stage '{self.run.stage.name}'" if several else ""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next epoch depends on."""
        device = self.method.backbone.device
        return {
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "shuffling": self.generators.shuffling.get_state(),
            "augmenting": self.generators.augmenting.get_state(),
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
        make_room(self.method, state["method"])
        self.method.load_state_dict(state["method"])
        settings = _settings(self.optimizer)
        self.optimizer.load_state_dict(state["optimizer"])
        if _settings(self.optimizer) != settings:
            raise ValueError("the optimiser has other settings")
        _check_moments(self.optimizer)
        if _kinds(state["scaler"]) != _kinds(self.scaler.state_dict()):
            raise ValueError("the gradient scaler's state does not fit")
        self.scaler.load_state_dict(state["scaler"])
        self.generators.shuffling.set_state(state["shuffling"])
        self.generators.augmenting.set_state(state["augmenting"])
        torch.set_rng_state(state["random"])
        if device.type == "cuda" and state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], device)


def _limit(method: TrainableMethod, run: StageRun) -> AtOnce:
    """How many images of a training batch a method learns from at once: all while memory lasts."""
    sizes = [f.name for f in dataclasses.fields(method.options) if f.name.endswith("batch_size")]
    options = " or ".join(f"--option {method.name}.{name}" for name in ["image_size", *sizes])
    whole = not is_mean_over_images(method, run.stage)
    reason = "its loss is not a mean over images, so that batches cannot be cut; " if whole else ""
    return AtOnce(
        method.backbone.device,
        least=run.batch_size if whole else 1,
        what=f"while method '{display_name(method.name)}' learned",
        option="",
        fix=f"{reason}lower {options}, with which it learns something else",
    )


def _kinds(state: Mapping[str, Any]) -> dict[str, type]:
    return {name: type(value) for name, value in state.items()}


def _settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """What an optimiser was made with, but for the parameters, the rate, and how it computes."""
    return [
        {name: value for name, value in group.items() if name not in ("params", "lr", "fused")}
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


def _optimizer(
    learning: Mapping[str, nn.Parameter], schedule: Schedule
) -> tuple[torch.optim.Optimizer, list[float]]:
    """An optimiser over parameters, and the rate of each of its groups.

    Args:
        learning: parameters by name.
        schedule: which optimiser, and which parameters have rates of their own.
    """
    rates = {**schedule.rates, "": schedule.lr}
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in learning.items():
        prefix = next(prefix for prefix in rates if name.startswith(prefix))
        groups.setdefault(prefix, []).append(parameter)
    parameters = [{"params": members} for members in groups.values()]
    return _made(parameters, schedule), [rates[prefix] for prefix in groups]


def _made(groups: Sequence[dict[str, Any]], schedule: Schedule) -> torch.optim.Optimizer:
    lr, decay = schedule.lr, schedule.weight_decay
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=schedule.momentum, weight_decay=decay)
    kind = torch.optim.AdamW if schedule.optimizer == "adamw" else torch.optim.Adam
    on_cpu = all(p.device.type == "cpu" for group in groups for p in group["params"])
    # In one pass; without, torch takes a GPU's parameters together and a CPU's one by one.
    fused = True if on_cpu else None
    return kind(groups, lr=lr, betas=schedule.betas, weight_decay=decay, fused=fused)


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
