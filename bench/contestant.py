"""From a cell to a method that is ready to be scored: backbone, options, learned weights.

The protocol of the paper: learn from MVTec AD and be tested on all others, learn from VisA and be
tested on MVTec AD (a dataset names its own auxiliary dataset). Learned weights are kept in the run
and shared by all its datasets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from . import registry
from .backbone import Backbone, Precision
from .checkpoint import file_sha256
from .errors import Stopped, UsageError
from .lessons import cache_features
from .method import Method, TrainableMethod
from .metrics import METRIC_VERSION
from .plan import PUBLISHED, Plan
from .records import Cell, file_name
from .sample import Dataset
from .store import FeatureStore
from .training import Training, auxiliary_samples, train_method
from .weights import load_backbone


class Stoppable(Protocol):
    """Whoever asked for the work, and may want it to stop."""

    bar: bool

    def check(self) -> None:
        """Raise `Stopped` if the work is to stop now."""


@dataclass
class Contestant:
    """A cell with its method, ready to be scored, or with the error that took it out.

    Attributes:
        protocol: what a record must state for numbers to be comparable.
        training: seconds and epochs spent on fitting it in this process.
    """

    cell: Cell
    method: Method | None = None
    error: BaseException | None = None
    map_size: int = 0
    protocol: dict[str, Any] = field(default_factory=dict)
    training: dict[str, float] = field(default_factory=dict)

    def group_key(self) -> tuple[Any, ...]:
        """Contestants with equal keys share batches and visual forwards."""
        return (*self.ready.forward_key(), self.map_size)

    @property
    def ready(self) -> Method:
        """The method; only of a contestant without an error."""
        if self.method is None:
            raise ValueError(f"{self.cell.key} is not ready")
        return self.method


@lru_cache(maxsize=4)
def cached_backbone(
    name: str, pretrained: str | None, config: str | None, device: str, precision: Precision
) -> Backbone:
    """A backbone, loaded once per process."""
    return load_backbone(name, pretrained, config, device, precision)


def backbone_for(plan: Plan, method: str) -> Backbone:
    """The backbone of the plan, or with "published" the one that the method was published with."""
    name, pretrained = plan.backbone, plan.pretrained
    if name == PUBLISHED:
        spec = registry.method_class(method).backbone_spec
        name, pretrained = spec.name, spec.pretrained
    return cached_backbone(name, pretrained, plan.backbone_config, plan.device, plan.precision)


def prepare(
    plan: Plan, dataset: Dataset, cells: Sequence[Cell], progress: Stoppable
) -> list[Contestant]:
    """Create the cells' methods, fitting first those that have to learn and have not yet."""
    contestants = [_created(plan, cell) for cell in cells]
    _learn(plan, dataset, [c for c in contestants if needs_learning(plan, c.cell)], progress)
    for contestant in contestants:
        if contestant.error is None:
            contestant.map_size = plan.map_size or contestant.ready.map_size
            contestant.protocol |= _protocol(plan, dataset, contestant)
    return contestants


def _created(plan: Plan, cell: Cell) -> Contestant:
    entry = plan.method_of(cell)
    try:
        backbone = backbone_for(plan, cell.method)
        method = registry.create(
            cell.method, backbone, cell.variant, entry.checkpoint, cell.seed, **entry.options
        )
    except Exception as error:
        return Contestant(cell, error=error)
    contestant = Contestant(cell, method)
    if entry.checkpoint is not None:
        contestant.protocol["checkpoint_sha256"] = file_sha256(Path(entry.checkpoint))
    return contestant


# -- learning -----------------------------------------------------------------------------------


def needs_learning(plan: Plan, cell: Cell) -> bool:
    """The cell's method is trained, and the plan gives it no checkpoint."""
    trained = issubclass(registry.method_class(cell.method), TrainableMethod)
    return trained and plan.method_of(cell).checkpoint is None


def auxiliary_of(plan: Plan, target: str) -> str:
    """The dataset that methods learn from before they are tested on `target`."""
    return plan.auxiliary or registry.dataset_class(target).auxiliary


def checkpoint_path(plan: Plan, cell: Cell) -> Path:
    """Where a run keeps the learned weights of a cell; cells of one auxiliary dataset share it."""
    auxiliary = registry.canonical(auxiliary_of(plan, cell.dataset))
    options = {k: v for k, v in cell.options.items() if k != "smoothing_sigma"}  # not learned from
    dataset = f"on-{auxiliary}-{plan.auxiliary_split}"
    learned = dataclasses.replace(cell, dataset=dataset, options=options)
    return Path(plan.out) / "checkpoints" / f"{file_name(learned.key)}.safetensors"


def is_learned(plan: Plan, cell: Cell) -> bool:
    """The run has the cell's learned weights already."""
    return checkpoint_path(plan, cell).exists()


def train_one(plan: Plan, out: Path, progress: Stoppable) -> Training:
    """Train the plan's only method on its only dataset; what `zsad train` does.

    Raises:
        UsageError: the method learns nothing.
    """
    (cell,) = plan.cells()
    contestant = _created(plan, cell)
    if contestant.error is not None:
        raise contestant.error
    method = contestant.ready
    if not isinstance(method, TrainableMethod):
        raise UsageError(f"method '{cell.method}' is {method.supervision}: it learns nothing")
    entry = plan.dataset_of(cell.dataset)
    root = entry.root if entry.root is not None else plan.data_root
    auxiliary = registry.load_dataset(cell.dataset, root, **entry.options)
    return train_method(
        method,
        auxiliary,
        out,
        seed=cell.seed,
        split=plan.auxiliary_split,
        workers=plan.workers,
        bar=progress.bar,
        check=progress.check,
    )


def _learn(
    plan: Plan, dataset: Dataset, contestants: Sequence[Contestant], progress: Stoppable
) -> None:
    """Give learned weights to the contestants, training what the run has not learned yet."""
    learners = [c for c in contestants if c.error is None]
    if not learners:
        return
    name = auxiliary_of(plan, dataset.name)
    try:
        auxiliary = registry.load_dataset(name, plan.data_root)
        with FileLock(str(Path(plan.out) / "locks" / f"features-{registry.canonical(name)}.lock")):
            _cache(plan, auxiliary, learners, progress)
    except Stopped:
        raise
    except Exception as error:
        for contestant in learners:
            contestant.error = error
        return
    for contestant in learners:
        try:
            _learn_one(plan, auxiliary, dataset, contestant, progress)
        except Stopped:
            raise
        except Exception as error:
            contestant.error = error


def _cache(
    plan: Plan, auxiliary: Dataset, learners: Sequence[Contestant], progress: Stoppable
) -> None:
    """One visual forward per auxiliary image for all methods that share it."""
    new = [c.ready for c in learners if not is_learned(plan, c.cell)]
    methods = [m for m in new if isinstance(m, TrainableMethod)]
    if methods:
        samples = auxiliary_samples(auxiliary, plan.auxiliary_split)
        cache_features(
            methods,
            auxiliary,
            samples,
            FeatureStore(),
            plan.workers,
            progress.bar,
            progress.check,
        )


def _learn_one(
    plan: Plan, auxiliary: Dataset, target: Dataset, contestant: Contestant, progress: Stoppable
) -> None:
    """Train one contestant, or load what an earlier attempt or another process has learned."""
    method = contestant.ready
    assert isinstance(method, TrainableMethod)
    path = checkpoint_path(plan, contestant.cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(Path(plan.out) / "locks" / f"{path.stem}.lock")):
        training = train_method(
            method,
            auxiliary,
            path,
            seed=contestant.cell.seed,
            split=plan.auxiliary_split,
            target=target,
            workers=plan.workers,
            bar=progress.bar,
            check=progress.check,
        )
    contestant.training["seconds_train"] = training.seconds
    if training.history:
        per_batch = training.seconds / len(training.history)
        contestant.training["train_ms_per_batch"] = 1000 * per_batch
    contestant.protocol |= {
        "auxiliary": auxiliary.name,
        "auxiliary_split": plan.auxiliary_split,
        "epochs": training.provenance.get("epochs"),
        "checkpoint_sha256": file_sha256(path),
    }


def _protocol(plan: Plan, dataset: Dataset, contestant: Contestant) -> dict[str, Any]:
    method = contestant.ready
    rule = dataset.mask_rule
    return {
        **method.protocol(),
        "options": dataclasses.asdict(method.options),
        "map_size": contestant.map_size,
        "backbone": method.backbone.name,
        "weights_sha256": method.backbone.weights_sha256,
        "precision": plan.precision,
        "mask_threshold": rule.threshold,
        "mask_resize": rule.resize,
        "dataset_options": dict(dataset.options),
        "dataset_fingerprint": dataset.fingerprint("test"),
        "limit": plan.limit,
        "metric_version": METRIC_VERSION,
        "seed": contestant.cell.seed,
    }
