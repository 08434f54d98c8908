"""The one optimisation loop of all trained methods: on arrays (`fit`) and on datasets (`train`).

Frozen visual features are computed once and every epoch runs on them. A training that is killed
goes on from its last whole epoch; on a CPU it ends in the same bits as one that was not.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import logging
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..backbone import Backbone
from ..checkpoint import read_header, read_payload, write_tensors
from ..code_hash import training_code
from ..data.completeness import completeness
from ..dataset import Dataset, Sample
from ..errors import ContractError, UsageError
from ..factory import create
from ..files import whole_file
from ..method import AuxiliarySplit, Schedule, TrainableMethod
from ..options import DEFAULT_SEED, EVALUATION_ONLY
from ..progress import Progress
from ..records.provenance import environment
from ..registry import names
from .batches import Source, TrainingBatch, dataset_source, memory_source
from .feature_cache import FeatureCache, digest
from .leakage import content_marks, refuse_leakage

LOG = logging.getLogger(__name__)

AUGMENTATION_STREAM = 1 << 32  # added to the seed, so that augmenting does not change the order
SHOWN_TERMS = 4
POSITION = ("epoch", "step", "lr")  # of a step in the history, beside the loss terms
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # that Adam keeps of each parameter
SHOWN_IDLE = 3  # parameters without a gradient that a message names

Step = dict[str, float]
"""One optimiser step: "epoch" and "step" (from 0), "lr", and every loss term with "total"."""

History = list[Step]


@dataclass(frozen=True)
class TrainingConfig:
    """How a source is gone through.

    Attributes:
        epochs: how often every sample is seen; the cosine schedule ends there.
        batch_size: samples of a step; the last step of an epoch may have fewer.
        shuffle: a new order each epoch.
        seed: of the order, of the augmentation, and of whatever the method draws itself.
        progress: shows time left and loss terms; asked after each step whether to stop.
    """

    epochs: int
    batch_size: int
    shuffle: bool
    seed: int
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True)
class Training:
    """What `train` has done.

    Attributes:
        method: with its learned weights, in eval mode.
        path: the checkpoint.
        history: of every step, those before a kill included; empty where the checkpoint was there.
        provenance: what stands in the checkpoint's header.
        seconds: spent in the loop, over all attempts.
    """

    method: TrainableMethod
    path: Path
    history: History
    provenance: Mapping[str, Any]
    seconds: float


@dataclass
class TrainingState:
    """How far a training has come."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    history: History = field(default_factory=list)


def fit(
    method: TrainableMethod,
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    masks: Sequence[NDArray[Any]] | NDArray[Any],
    labels: Sequence[int] | NDArray[Any] | Tensor,
    class_names: str | Sequence[str],
    epochs: int | None = 1,
    batch_size: int | None = 8,
    shuffle: bool = False,
    seed: int = DEFAULT_SEED,
) -> History:
    """Fit a method to arrays in memory, in place, by the loop that `train` uses.

    Args:
        method: from `create`; keeps its backbone frozen.
        images: N uint8 RGB images [H, W, 3], of any sizes.
        masks: N boolean masks [H, W], True = anomalous.
        labels: N labels, 0 normal, 1 anomalous.
        class_names: the word for the prompts, one for all or N.
        epochs: None is the method's own schedule.
        batch_size: None is the method's own.
        shuffle: a new order each epoch.
        seed: of the order and of all else that is random.

    Returns:
        Every step with its epoch, learning rate and loss terms.

    Raises:
        UsageError: the arrays do not fit each other.
        ContractError: the loss is no finite number; names method, epoch, step and term.
    """
    if not isinstance(method, TrainableMethod):
        raise UsageError(f"method '{getattr(method, 'name', method)}' learns nothing")
    schedule = method.schedule
    size = schedule.batch_size if batch_size is None else batch_size
    count = schedule.epochs if epochs is None else epochs
    config = TrainingConfig(count, size, shuffle, seed)
    if size < 1:
        raise UsageError(f"epochs and batch size must be positive, not {count} and {size}")
    source = memory_source(method, images, masks, labels, class_names, size)
    return optimise(method, source, config).history


def train(
    name: str,
    dataset: Dataset,
    backbone: Backbone,
    out: Path | str,
    *,
    variant: str | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = DEFAULT_SEED,
    **how: Any,
) -> Training:
    """Create a method and train it on an auxiliary dataset; what `zsad train` calls.

    Args:
        name: of a trainable method.
        dataset: the auxiliary dataset.
        backbone: from `load_backbone`; its precision is the training's.
        out: the checkpoint, safetensors.
        variant: None is the method's default.
        options: of the method, where they differ from the variant's.
        seed: of the initial weights and of the loop.
        **how: as `train_method`.

    Raises:
        UsageError: an unknown name or option, or the method learns nothing.
    """
    known = dataset.name if dataset.name in names("dataset") else None
    method = create(name, backbone, variant, seed=seed, auxiliary=known, **(options or {}))
    if not isinstance(method, TrainableMethod):
        raise UsageError(f"method '{method.name}' learns nothing from an auxiliary dataset")
    return train_method(method, dataset, out, seed=seed, **how)


def train_method(
    method: TrainableMethod,
    dataset: Dataset,
    out: Path | str,
    *,
    seed: int = DEFAULT_SEED,
    split: AuxiliarySplit | None = None,
    samples: Sequence[Sample] | None = None,
    target: Dataset | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    cache: FeatureCache | None = None,
    workers: int = 0,
    overwrite: bool = False,
    supersede: Callable[[Path, str], None] | None = None,
    progress: Progress | None = None,
) -> Training:
    """Train a method on an auxiliary dataset and write its checkpoint.

    A checkpoint of the same training is loaded instead; a training of the same kind that was
    killed goes on from `<out>.state`.

    Args:
        method: with its initial weights.
        dataset: the auxiliary dataset; it must have masks.
        out: the checkpoint, safetensors with provenance in the header.
        seed: of the order of the samples, the augmentation and the method's own draws.
        split: "test", or "all" for the train and the test split; None is the method's own.
        samples: learn from these only.
        target: the dataset that will be tested on; must not overlap.
        epochs: None is the method's schedule.
        batch_size: None is the method's schedule.
        cache: where frozen features are kept; None is the default folder.
        workers: processes that read images.
        overwrite: train although the checkpoint is there.
        supersede: moves a checkpoint of another training out of the way, told how it differs; None
            refuses it.
        progress: asked after each step whether to stop; None shows bars on a terminal.

    Raises:
        UsageError: the datasets overlap, or `out` cannot be written or is the checkpoint of
            another training.
        DataError: an image or mask is broken, or masks are missing.
        ContractError: the loss is no finite number; names method, epoch, step and term.
    """
    path = Path(out)
    refuse_unwritable(path)
    split = method.split_of(method.options) if split is None else split
    chosen = list(auxiliary_samples(dataset, split) if samples is None else samples)
    if not chosen:
        raise UsageError(f"auxiliary dataset '{dataset.name}' has no images in split '{split}'")
    if target is not None:
        refuse_leakage(dataset, target, chosen)
    schedule = method.schedule
    config = TrainingConfig(
        schedule.epochs if epochs is None else epochs,
        schedule.batch_size if batch_size is None else batch_size,
        shuffle=True,
        seed=seed,
        progress=progress or Progress(bar=sys.stderr.isatty()),
    )
    cache = FeatureCache() if cache is None else cache
    training = _description(method, dataset, split, chosen, config, cache)
    identity = digest(training)
    if path.exists() and not overwrite:
        finished = _finished(method, path, training, supersede)
        if finished is not None:
            return finished
    source = dataset_source(method, dataset, chosen, cache, workers, config.progress)
    file = StateFile(path.with_name(path.name + ".state"), identity)
    state = optimise(method, source, config, file)
    provenance = {
        **training,
        "identity": identity,
        "seconds": round(state.seconds, 3),
        "loss": epoch_means(state.history),
        "parameters": method.parameter_counts()[1],
        "environment": dict(environment()),
        "device": str(method.backbone.device),
        "images": content_marks(chosen),
        "completeness": completeness(dataset, split).to_json() if samples is None else None,
    }
    write_tensors(path, method.learned_state(), provenance)
    file.remove()
    LOG.info("%s learned in %.1f s: %s", method.name, state.seconds, path)
    return Training(method, path, state.history, provenance, state.seconds)


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
        ContractError: the loss is no finite number, or a parameter that requires a gradient has
            none after the first epoch.
    """
    if config.epochs < 1 or config.batch_size < 1:
        raise UsageError(
            f"epochs and batch size must be positive, not {config.epochs} and {config.batch_size}"
        )
    loop = _Loop(method, config)
    state = TrainingState()
    backbone = method.backbone
    with _own_randomness(backbone.device, config.seed), _few_threads(backbone):
        if file is not None:
            state = file.restore(loop) or state
        steps = -(-len(source) // config.batch_size)
        method.train()
        try:
            total = steps * config.epochs
            with config.progress.track(total, method.name, "step", initial=state.step) as bar:
                while state.epoch < config.epochs:
                    started = time.perf_counter()
                    for entry in loop.epoch(source, state):
                        state.history.append(entry)
                        state.step += 1
                        bar.update()
                        bar.set_postfix_str(_short(entry, config.epochs))
                        config.progress.check()
                    if state.epoch == 0:
                        loop.refuse_idle()
                    state.epoch += 1
                    state.seconds += time.perf_counter() - started
                    _log_epoch(method, state, config)
                    if file is not None:
                        file.keep(loop, state)
        finally:
            method.eval()
    return state


def learning_rate(schedule: Schedule, epoch: int, epochs: int) -> float:
    """The rate of an epoch (from 0), constant within it.

    Constant warm-up, then lr * (1 + cos(pi * e / epochs)) / 2 with e counted anew after the
    warm-up, as Dassl's ConstantWarmupScheduler does by default (WARMUP_RECOUNT).
    """
    if epoch < schedule.warmup_epochs:
        return schedule.warmup_lr
    if not schedule.cosine:
        return schedule.lr
    done = (epoch - schedule.warmup_epochs) / epochs
    return 0.5 * schedule.lr * (1 + math.cos(math.pi * done))


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


class _Loop:
    """The parts that change while learning: parameters, optimiser, generators."""

    def __init__(self, method: TrainableMethod, config: TrainingConfig) -> None:
        self.method, self.config = method, config
        self.optimizer = _optimizer(method)
        backbone = method.backbone
        self.scaler = torch.amp.GradScaler(
            backbone.device.type, enabled=backbone.precision == "fp16"
        )
        self.shuffling = torch.Generator().manual_seed(config.seed)
        self.augmenting = torch.Generator().manual_seed(config.seed + AUGMENTATION_STREAM)
        self.idle = {n: p for n, p in method.named_parameters() if p.requires_grad}

    def epoch(self, source: Source, state: TrainingState) -> Iterator[Step]:
        """Go through the source once, yielding each step after it was made."""
        config, count = self.config, len(source)
        rate = learning_rate(self.method.schedule, state.epoch, config.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        order = list(range(count))
        if config.shuffle:
            order = torch.randperm(count, generator=self.shuffling).tolist()
        for batch in source.batches(order, config.batch_size, self.augmenting):
            where = {"epoch": state.epoch, "step": state.step}
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


@dataclass(frozen=True)
class StateFile:
    """Where a training is kept after each epoch.

    Attributes:
        path: the file; it is replaced as a whole.
        identity: of the training; a state of another training is not gone on from.
    """

    path: Path
    identity: str

    def keep(self, loop: _Loop, state: TrainingState) -> None:
        """Store the training; the file is whole or the one before."""
        payload = {
            "identity": self.identity,
            "state": dataclasses.asdict(state),
            "loop": loop.state_dict(),
        }
        buffer = io.BytesIO()  # torch would turn an error of the disk into one of its own
        torch.save(payload, buffer)
        with whole_file(self.path) as file:
            file.write(buffer.getbuffer())

    def restore(self, loop: _Loop) -> TrainingState | None:
        """Bring a loop to where it was kept; None where there is nothing to go on from."""
        if not self.path.exists():
            return None
        try:
            payload = torch.load(self.path, map_location="cpu", weights_only=True)
            if payload["identity"] != self.identity:
                LOG.warning("%s is of another training: starting again", self.path)
                return None
            state = _checked_state(payload["state"], loop.config.epochs)
            loop.load_state_dict(payload["loop"])
        except Exception as error:  # whatever a broken file holds, the training can start again
            LOG.warning("%s is not readable (%s): starting again", self.path, error)
            return None
        LOG.info("resuming from %s after %d epochs", self.path, state.epoch)
        return state

    def remove(self) -> None:
        """Drop the state of a training that is finished."""
        self.path.unlink(missing_ok=True)


def _checked_state(raw: Mapping[str, Any], epochs: int) -> TrainingState:
    """How far a stored training has come.

    Raises:
        ValueError, TypeError: a field is missing, of a wrong type or out of range.
    """
    state = TrainingState(**raw)
    counts = (state.epoch, state.step)
    if not all(isinstance(count, int) for count in counts) or not 1 <= state.epoch <= epochs:
        raise ValueError(f"epoch {state.epoch!r} and step {state.step!r} do not fit")
    if not isinstance(state.seconds, float) or len(state.history) != state.step:
        raise ValueError("its history or its seconds do not fit")
    values = [value for step in state.history for value in step.values()]
    if not all({*POSITION, "total"} <= set(step) for step in state.history) or not all(
        isinstance(value, int | float) for value in values
    ):
        raise ValueError("its history holds other things than numbers")
    return state


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
        ValueError: a parameter's moments are missing, or are no tensors of its shape.
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
        raise UsageError(f"method '{method.name}' has no parameters to train with these options")
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
        ContractError: a term is no finite scalar, or there is no "total".
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


def refuse_unwritable(path: Path) -> None:
    """Refuse a place where no checkpoint can be written; makes the folder that it lies in.

    Raises:
        UsageError: a folder has the name, or the file's own folder takes no files.
    """
    if path.is_dir():
        raise UsageError(
            f"checkpoint {path} is a folder: give --out a file, {path}/NAME.safetensors"
        )
    if path.is_file():  # a finished training, which is only read
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
            pass
    except OSError as error:
        raise UsageError(
            f"checkpoint {path} cannot be written ({error.strerror}): give --out a file in a "
            "folder that takes files"
        ) from error


def auxiliary_samples(dataset: Dataset, split: AuxiliarySplit) -> list[Sample]:
    """What methods learn from: the test split, or with "all" the train split before it.

    Raises:
        UsageError: no such split.
    """
    if split not in ("test", "all"):
        raise UsageError(f"the auxiliary split is 'test' or 'all', not '{split}'")
    test = dataset.samples("test")
    return [*dataset.samples("train"), *test] if split == "all" else test


def _description(
    method: TrainableMethod,
    dataset: Dataset,
    split: str,
    samples: Sequence[Sample],
    config: TrainingConfig,
    cache: FeatureCache,
) -> dict[str, Any]:
    """All that the learned weights depend on, as plain JSON values."""
    backbone = method.backbone
    options = dataclasses.asdict(method.options)
    if "split" in options:
        options["split"] = split  # what was trained on, whoever chose it
    return {
        "method": method.name,
        "code": training_code(type(method)),
        "variant": method.variant,
        "options": _plain(options),
        "protocol": _plain(method.protocol()),
        "schedule": _plain(dataclasses.asdict(method.schedule)),
        "backbone": backbone.name,
        "weights_sha256": backbone.weights_sha256,
        "precision": backbone.precision,
        "stored_precision": cache.precision,
        "auxiliary": {
            "dataset": dataset.name,
            "options": _plain(dataset.options),
            "split": split,
            "images": len(samples),
            "fingerprint": dataset.fingerprint_of(samples),
        },
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "seed": config.seed,
        "initial_sha256": _parameters_sha256(method),
    }


def _plain(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if name not in EVALUATION_ONLY}


def _parameters_sha256(method: TrainableMethod) -> str:
    """Of the initial weights, so that a training from other ones is told apart."""
    found = hashlib.sha256()
    for name, parameter in method.named_parameters():
        found.update(name.encode())
        found.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _finished(
    method: TrainableMethod,
    path: Path,
    training: Mapping[str, Any],
    supersede: Callable[[Path, str], None] | None,
) -> Training | None:
    """Take the weights of a training that was finished before; None where it is to be repeated.

    Raises:
        UsageError: the checkpoint is another training's, and nobody moves it away.
    """
    header = read_header(path)
    if header.get("identity") != digest(training):
        differing = [name for name in training if header.get(name) != training[name]]
        what = "other " + ", ".join(differing) if header else "it states no training"
        if supersede is not None:
            supersede(path, what)
            return None
        raise UsageError(
            f"{path} is the checkpoint of another training ({what}; its method is "
            f"{header.get('method', 'unknown')}, variant {header.get('variant', 'unknown')}, seed "
            f"{header.get('seed', 'unknown')}): name another file, or delete this one"
        )
    method.load_learned(read_payload(path))
    method.eval()
    LOG.info("%s has learned this before: %s", method.name, path)
    return Training(method, path, [], header, float(header.get("seconds", 0.0)))


def _log_epoch(method: TrainableMethod, state: TrainingState, config: TrainingConfig) -> None:
    means = epoch_means([e for e in state.history if e["epoch"] == state.epoch - 1])[0]
    LOG.info(
        "%s epoch %d/%d: %s",
        method.name,
        state.epoch,
        config.epochs,
        ", ".join(f"{term} {value:.4f}" for term, value in means.items()),
    )


def _short(entry: Step, epochs: int) -> str:
    """The end of the progress bar: epoch, total, and the first terms."""
    terms = [t for t in entry if t not in (*POSITION, "total")][:SHOWN_TERMS]
    shown = " ".join(f"{term} {entry[term]:.3f}" for term in ("total", *terms))
    return f"epoch {int(entry['epoch']) + 1}/{epochs} {shown}"
