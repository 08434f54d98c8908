"""From a cell to a method that is ready to be scored: backbone, options, learned weights.

The protocol of the paper: learn from MVTec AD and be tested on all others, learn from VisA and be
tested on MVTec AD (a dataset names its own auxiliary dataset). Learned weights are kept in the run
and shared by all its datasets.
"""

from __future__ import annotations

import dataclasses
import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from .. import registry
from ..backbone import Backbone, Precision
from ..checkpoint import file_sha256
from ..data.loading import is_death_of_reader
from ..dataset import Dataset, Sample
from ..errors import ContractError, DataError, Stopped, UsageError, message_of
from ..factory import create
from ..method import AuxiliarySplit, Method, Options, TrainableMethod, make_options
from ..metrics import METRIC_VERSION
from ..progress import Progress
from ..records.cell import Cell
from ..records.record import Auxiliary
from ..records.run_folder import lock, supersede, weights_path
from ..training.feature_cache import FeatureCache
from ..training.optimisation import TrainingConfig
from ..training.sources import cache_features
from ..training.trainer import Training, auxiliary_samples, train_method
from ..training.user_checkpoint import (
    Checkpoint,
    auxiliary_options,
    choose,
    learned_from,
    open_checkpoint,
    refuse_leak,
)
from .plan import PUBLISHED, Plan, auxiliary_of

LOG = logging.getLogger(__name__)


@dataclass
class EvaluatedMethod:
    """A cell with its method, ready to be scored, or with the error that took it out.

    Attributes:
        protocol: what a record must state for numbers to be comparable.
        training: seconds and epochs spent on fitting it in this process.
        auxiliary: what it was learned from, where that is known.
        answers: whether it gives scores and whether it gives maps, once it has answered.
        examined: its answers were seen not to depend on how images are batched.
    """

    cell: Cell
    method: Method | None = None
    error: BaseException | None = None
    map_size: int = 0
    protocol: dict[str, Any] = field(default_factory=dict)
    training: dict[str, float] = field(default_factory=dict)
    auxiliary: Auxiliary | None = None
    answers: tuple[bool, bool] | None = None
    examined: bool = False

    def group_key(self) -> tuple[Any, ...]:
        """Contestants with equal keys share batches and visual forwards."""
        return (*self.ready.forward_key(), self.map_size)

    @property
    def ready(self) -> Method:
        """The method; only of a evaluated without an error."""
        if self.method is None:
            raise ValueError(f"{self.cell.key} is not ready")
        return self.method


@contextmanager
def isolated(evaluated: EvaluatedMethod, progress: Progress) -> Iterator[None]:
    """Whatever a method raises inside takes its evaluated out, and nobody else.

    `sys.exit` and a KeyboardInterrupt that the method raises are failures of the method. A user's
    interrupt is told from it by `progress`, which learns of the signal first.

    Raises:
        Stopped, KeyboardInterrupt: the user wants the work to stop.
    """
    try:
        yield
    except Stopped:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and progress.asked_to_stop():
            raise
        if is_death_of_reader(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they would keep tensors in memory
        if not isinstance(error, Exception):  # raised again it would end the process
            what = f"{type(error).__name__}({message_of(error)})"
            reason = ContractError(f"method '{evaluated.cell.method}' raised {what}")
            reason.__cause__ = error
            error = reason
        LOG.warning("%s drops out: %s", evaluated.cell.key, message_of(error))
        evaluated.error = error


@lru_cache(maxsize=4)
def cached_backbone(
    name: str, pretrained: str | None, config: str | None, device: str, precision: Precision
) -> Backbone:
    """A backbone, loaded once per process."""
    from ..weights import load_backbone  # imports open_clip, which takes seconds

    return load_backbone(name, pretrained, config, device, precision)


def backbone_for(plan: Plan, method: str) -> Backbone:
    """The backbone of the plan, or with "published" the one that the method was published with."""
    name, pretrained = plan.backbone, plan.pretrained
    if name == PUBLISHED:
        spec = registry.method_class(method).backbone_spec
        name, pretrained = spec.name, spec.pretrained
    return cached_backbone(name, pretrained, plan.backbone_config, plan.device, plan.precision)


def prepare(
    plan: Plan, dataset: Dataset, cells: Sequence[Cell], progress: Progress
) -> list[EvaluatedMethod]:
    """Create the cells' methods, fitting first those that have to learn and have not yet."""
    evaluated_methods = [_created(plan, cell, dataset, progress) for cell in cells]
    _learn(plan, dataset, [c for c in evaluated_methods if needs_learning(plan, c.cell)], progress)
    for evaluated in evaluated_methods:
        if evaluated.error is None:
            with isolated(evaluated, progress):
                evaluated.protocol |= _protocol(plan, dataset, evaluated)
    return evaluated_methods


def checkpoint_of(plan: Plan, cell: Cell, target: Dataset) -> Checkpoint | None:
    """The checkpoint that the plan gives a cell, or None where it gives none.

    Raises:
        UsageError: it was learned on the target, or its header contradicts the plan.
        WeightsError: a file is missing or broken.
    """
    given = plan.method_of(cell).checkpoint
    if not given:
        return None
    auxiliary = choose(given, cell.method, type(target), auxiliary_of(plan, cell.dataset))
    checkpoint = open_checkpoint(given[auxiliary], auxiliary)
    refuse_leak(checkpoint, cell.method, target)
    return checkpoint


def _created(plan: Plan, cell: Cell, target: Dataset, progress: Progress) -> EvaluatedMethod:
    """A evaluated with its method, which has been asked for all that it declares."""
    evaluated = EvaluatedMethod(cell)
    with isolated(evaluated, progress):
        checkpoint = checkpoint_of(plan, cell, target)
        evaluated.method = method = _method(plan, cell, checkpoint)
        evaluated.map_size = plan.map_size or method.map_size
        method.backbone.check_specs(method.token_specs)
        evaluated.group_key()
        if checkpoint is not None:
            evaluated.protocol |= checkpoint.protocol()
            evaluated.auxiliary = checkpoint.learned_from
    return evaluated


def _method(plan: Plan, cell: Cell, checkpoint: Checkpoint | None = None) -> Method:
    entry = plan.method_of(cell)
    learns = needs_learning(plan, cell)
    options = dict(entry.options)
    if (
        learns
        and plan.auxiliary_split is not None
        and "split" in dataclasses.asdict(_options(plan, cell))
    ):
        options["split"] = plan.auxiliary_split
    auxiliary = auxiliary_of(plan, cell.dataset) if learns else None
    return create(
        cell.method,
        backbone_for(plan, cell.method),
        cell.variant,
        None if checkpoint is None else checkpoint.files,
        cell.seed,
        auxiliary if checkpoint is None else checkpoint.trained_on,
        **options,
    )


def _options(plan: Plan, cell: Cell) -> Options:
    """What the cell's method is trained with, as far as the method says."""
    cls, auxiliary = registry.method_class(cell.method), auxiliary_of(plan, cell.dataset)
    return make_options(cls, cell.variant, cell.options, auxiliary)


# -- learning -----------------------------------------------------------------------------------


def needs_learning(plan: Plan, cell: Cell) -> bool:
    """The cell's method is trained, and the plan gives it no checkpoint."""
    trained = issubclass(registry.method_class(cell.method), TrainableMethod)
    return trained and not plan.method_of(cell).checkpoint


def open_auxiliary(plan: Plan, target: str) -> Dataset:
    """The dataset that methods learn from before they are tested on `target`.

    Raises:
        DataError: it is not there; the message says how to name another one.
    """
    name = auxiliary_of(plan, target)
    try:
        options = plan.options_of_auxiliary(name)
        auxiliary = registry.load_dataset(name, plan.data_root, **options)
        auxiliary.samples("test")
    except DataError as error:
        raise DataError(
            f"trained methods learn from {name} before they are tested on {target}: give "
            f"--auxiliary NAME to learn from another dataset, or get that one: {error}"
        ) from error
    return auxiliary


def split_of(plan: Plan, cell: Cell) -> AuxiliarySplit:
    """Which images of its auxiliary dataset a cell's method is trained on."""
    if plan.auxiliary_split is not None:
        return plan.auxiliary_split
    cls = registry.method_class(cell.method)
    assert issubclass(cls, TrainableMethod)
    return cls.split_of(_options(plan, cell))


def checkpoint_path(plan: Plan, cell: Cell) -> Path:
    """Where a run keeps the learned weights of a cell; cells of equal training share it."""
    auxiliary = auxiliary_of(plan, cell.dataset)
    options = {k: v for k, v in cell.options.items() if k != "smoothing_sigma"}  # not learned from
    dataset = f"on-{auxiliary}-{split_of(plan, cell)}"
    learned = dataclasses.replace(
        cell, dataset=dataset, options=options, label="", dataset_label=""
    )
    return weights_path(Path(plan.out), learned)


def is_learned(plan: Plan, cell: Cell) -> bool:
    """The run has the cell's learned weights already."""
    return checkpoint_path(plan, cell).exists()


def train_one(plan: Plan, out: Path, progress: Progress) -> Training:
    """Train the plan's only method on its only dataset; what `zsad train` does.

    Raises:
        UsageError: the method learns nothing.
    """
    (cell,) = plan.cells()
    if not needs_learning(plan, cell):
        supervision = registry.method_class(cell.method).supervision
        raise UsageError(f"method '{cell.method}' is {supervision}: it learns nothing")
    learner = _learner(plan, EvaluatedMethod(cell, _method(plan, cell)))
    entry = plan.dataset_of(cell.target)
    root = entry.root if entry.root is not None else plan.data_root
    auxiliary = registry.load_dataset(cell.dataset, root, **entry.options)
    config = TrainingConfig(seed=cell.seed, workers=plan.workers, progress=progress)
    return train_method(learner, auxiliary, out, config, split=plan.auxiliary_split)


def _learner(plan: Plan, evaluated: EvaluatedMethod) -> TrainableMethod:
    """The method that learns for a evaluated: itself, or its twin in another precision."""
    method = evaluated.ready
    precision = method.backbone.training_precision
    if precision != method.backbone.precision:
        method = _method(dataclasses.replace(plan, precision=precision), evaluated.cell)
    assert isinstance(method, TrainableMethod)
    return method


def _learn(
    plan: Plan, dataset: Dataset, evaluated_methods: Sequence[EvaluatedMethod], progress: Progress
) -> None:
    """Give learned weights to the evaluated_methods, training what the run has not learned yet."""
    waiting: list[tuple[EvaluatedMethod, TrainableMethod]] = []
    for evaluated in evaluated_methods:
        if evaluated.error is None:
            with isolated(evaluated, progress):
                waiting.append((evaluated, _learner(plan, evaluated)))
    if not waiting:
        return
    name = auxiliary_of(plan, dataset.name)
    try:
        auxiliary = open_auxiliary(plan, dataset.name)
        new = [(c.cell, learner) for c, learner in waiting if not is_learned(plan, c.cell)]
        with lock(Path(plan.out), f"features-{name}"):
            _cache(plan, auxiliary, new, progress)
    except Stopped:
        raise
    except Exception as error:
        for pupil, _ in waiting:
            pupil.error = error
        return
    for blocking in (False, True):  # first what is free, then what others have learned meanwhile
        waiting = [
            (pupil, learner)
            for pupil, learner in waiting
            if not _learn_one(plan, auxiliary, dataset, pupil, learner, progress, blocking)
        ]


def _cache(
    plan: Plan,
    auxiliary: Dataset,
    learners: Sequence[tuple[Cell, TrainableMethod]],
    progress: Progress,
) -> None:
    """One visual forward per auxiliary image for all methods that share it."""
    groups: list[tuple[list[Sample], list[TrainableMethod]]] = []
    for cell, learner in learners:
        samples = auxiliary_samples(auxiliary, split_of(plan, cell))
        members = next((members for other, members in groups if other == samples), None)
        if members is None:  # a dataset without a train split gives both splits the same images
            groups.append((samples, [learner]))
        else:
            members.append(learner)
    for samples, members in groups:
        cache_features(
            members,
            auxiliary,
            samples,
            FeatureCache(),
            plan.workers,
            progress,
        )


def _learn_one(
    plan: Plan,
    auxiliary: Dataset,
    target: Dataset,
    evaluated: EvaluatedMethod,
    learner: TrainableMethod,
    progress: Progress,
    blocking: bool,
) -> bool:
    """Train one evaluated method, or load what an earlier attempt or another process has learned.

    Returns:
        Whether it was done; an error counts as done. Not so while another process learns it and
        this one is not blocking.
    """
    path = checkpoint_path(plan, evaluated.cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(Path(plan.out), path.stem, blocking) as mine:
        if not mine:
            return False
        with isolated(evaluated, progress):
            training = train_method(
                learner,
                auxiliary,
                path,
                TrainingConfig(seed=evaluated.cell.seed, workers=plan.workers, progress=progress),
                split=split_of(plan, evaluated.cell),
                target=target,
                supersede=partial(supersede, Path(plan.out)),
            )
            _take(plan, evaluated, training)
            evaluated.protocol |= {
                "auxiliary": auxiliary.name,
                "checkpoint_sha256": file_sha256(path),
                **auxiliary_options(training.provenance),
            }
            evaluated.auxiliary = learned_from(training.provenance)
    return True


def _take(plan: Plan, evaluated: EvaluatedMethod, training: Training) -> None:
    """Give a evaluated what was learned for it, and state how."""
    method = evaluated.ready
    assert isinstance(method, TrainableMethod)
    if training.method is not method:
        method.load_learned(training.method.learned_state())
    evaluated.training["seconds_train"] = training.seconds
    if training.history:
        per_batch = training.seconds / len(training.history)
        evaluated.training["train_ms_per_batch"] = 1000 * per_batch
    evaluated.protocol |= {
        "auxiliary_split": split_of(plan, evaluated.cell),
        "epochs": training.provenance.get("epochs"),
        "training_precision": training.provenance.get("precision"),
    }


def _protocol(plan: Plan, dataset: Dataset, evaluated: EvaluatedMethod) -> dict[str, Any]:
    method = evaluated.ready
    rule = dataset.mask_rule
    return {
        **method.protocol(),
        "options": dataclasses.asdict(method.options),
        "map_size": evaluated.map_size,
        "backbone": method.backbone.name,
        "weights_sha256": method.backbone.weights_sha256,
        "precision": plan.precision,
        "mask_threshold": rule.threshold,
        "mask_resize": rule.resize,
        "dataset_options": dict(dataset.options),
        "limit": plan.limit,
        "metric_version": METRIC_VERSION,
        "seed": evaluated.cell.seed,
    }
