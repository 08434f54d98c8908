"""From a cell to a method that is ready to be scored: backbone, options, learned weights.

The protocol of the paper: learn from MVTec AD and be tested on all others, learn from VisA and be
tested on MVTec AD (a dataset names its own auxiliary dataset). Learned weights are kept in the run
and shared by all its datasets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from .. import registry
from ..backbone import Backbone
from ..backbone_spec import Precision
from ..category import observes_references
from ..dataset import Dataset, Sample
from ..errors import Stopped
from ..factory import create
from ..method import AuxiliarySplit, Method, Options, TrainableMethod, make_options
from ..options import EVALUATION_ONLY
from ..progress import Progress
from ..records.protocol import GIVEN, REDUCED, TF32, metric_versions
from ..records.run_folder import lock, supersede, weights_path
from ..training.feature_cache import FeatureCache
from ..training.optimisation import TrainingConfig
from ..training.references import references_of, shots_of
from ..training.sources import cache_features
from ..training.trainer import Training, auxiliary_samples, train_method
from ..training.user_checkpoint import Checkpoint, choose, open_checkpoint, refuse_leak
from .open_datasets import OpenDatasets
from .plan import PUBLISHED, Job, Plan
from .prepared_method import PreparedMethod, isolated


@lru_cache(maxsize=4)
def cached_backbone(
    name: str,
    pretrained: str | None,
    config: str | None,
    device: str,
    precision: Precision,
    compiled: bool = False,
) -> Backbone:
    """A backbone, loaded once per process, its blocks compiled where that is asked for."""
    if compiled:
        return cached_backbone(name, pretrained, config, device, precision).with_compiled_blocks()
    from ..weights import load_backbone  # imports open_clip, which takes seconds

    return load_backbone(name, pretrained, config, device, precision)


def backbone_name(plan: Plan, method: str) -> tuple[str, str | None]:
    """Name and tag (or file) of a method's backbone: the plan's, or the one it was published with.

    Without a tag the backbone's default is meant.
    """
    if plan.backbone == PUBLISHED:
        spec = registry.method_class(method).backbone_spec
        return spec.name, spec.pretrained or None
    name, _, tag = plan.backbone.partition(":")
    return name, plan.pretrained or tag or None


def prepare(
    plan: Plan, target: Dataset, jobs: Sequence[Job], datasets: OpenDatasets, progress: Progress
) -> list[PreparedMethod]:
    """Create the jobs' methods, training first those that have to learn and have not yet.

    Args:
        plan: backbone, precision, map size and what else all jobs share.
        target: the dataset that all these jobs are tested on.
        jobs: to be done.
        datasets: where the auxiliary dataset is asked for.
        progress: of the training.
    """
    prepared_methods = [created(plan, job, target, progress) for job in jobs]
    training = [one for one in prepared_methods if one.job.trained and one.error is None]
    if training:
        _train_all(plan, target, training, datasets, progress)
    for prepared in prepared_methods:
        if prepared.error is None:
            with isolated(prepared, progress):
                prepared.protocol |= _protocol(plan, target, prepared)
    return prepared_methods


def checkpoint_of(job: Job, target: Dataset) -> Checkpoint | None:
    """The checkpoint that the plan gives a job, or None where it gives none.

    Raises:
        UsageError: it was trained on the target, or its header contradicts the plan.
        WeightsError: a file is missing or broken.
    """
    given = job.method.checkpoint
    if not given:
        return None
    auxiliary = choose(given, job.cell.method, type(target), job.auxiliary.name)
    checkpoint = open_checkpoint(given[auxiliary], auxiliary)
    refuse_leak(checkpoint, job.cell.method, target)
    return checkpoint


def split_of(plan: Plan, job: Job) -> AuxiliarySplit:
    """Which images of its auxiliary dataset a job's method is trained on."""
    if plan.auxiliary_split is not None:
        return plan.auxiliary_split
    cls = registry.method_class(job.cell.method)
    assert issubclass(cls, TrainableMethod)
    return cls.split_of(_options(job))


def checkpoint_path(plan: Plan, job: Job) -> Path:
    """Where a run keeps the learned weights of a job; jobs of equal training share it."""
    cell = job.cell
    options = {k: v for k, v in cell.options.items() if k not in EVALUATION_ONLY}
    dataset = f"on-{job.auxiliary.name}-{split_of(plan, job)}"
    if plan.auxiliary_limit is not None:
        dataset += f"-first{plan.auxiliary_limit}"
    training = dataclasses.replace(
        cell, dataset=dataset, options=options, label="", dataset_label=""
    )
    return weights_path(Path(plan.out), training)


def trainings_of(plan: Plan, jobs: Iterable[Job]) -> dict[Path, list[Job]]:
    """The trainings of some jobs: where learned weights are kept, and the jobs that share them."""
    found: dict[Path, list[Job]] = {}
    for job in jobs:
        if job.trained:
            found.setdefault(checkpoint_path(plan, job), []).append(job)
    return found


def created(plan: Plan, job: Job, target: Dataset, progress: Progress) -> PreparedMethod:
    """A prepared method that has been asked for all that it declares."""
    prepared = PreparedMethod(job)
    with isolated(prepared, progress):
        checkpoint = checkpoint_of(job, target)
        prepared.method = method = _method(plan, job, checkpoint)
        prepared.map_size = plan.map_size or method.map_size
        method.backbone.check_specs(method.token_specs)
        prepared.group_key()
        if checkpoint is not None:
            prepared.protocol |= checkpoint.protocol()
            prepared.auxiliary = checkpoint.learned_from
    return prepared


def _method(
    plan: Plan, job: Job, checkpoint: Checkpoint | None = None, precision: Precision | None = None
) -> Method:
    """The method of a job, in the plan's precision unless another is asked for."""
    cell, options = job.cell, _own_options(plan, job)
    backbone = cached_backbone(
        *backbone_name(plan, cell.method),
        plan.backbone_config,
        plan.device,
        precision or plan.precision,
        plan.compile and precision is None,
    )
    files, trained_on = None, job.auxiliary.name if job.trained else None
    if checkpoint is not None:
        files, trained_on = checkpoint.files, checkpoint.trained_on
    return create(cell.method, backbone, cell.variant, files, cell.seed, trained_on, **options)


def outlined(plan: Plan, job: Job) -> TrainableMethod:
    """The method that is trained for a job, on a backbone without weights: for what it declares.

    Raises:
        UsageError, WeightsError: as `weights.outline_backbone`.
    """
    asked = (*backbone_name(plan, job.cell.method), plan.backbone_config)
    outline = _outline_backbone(*asked, plan.precision)
    if outline.training_precision != plan.precision:
        outline = _outline_backbone(*asked, outline.training_precision)
    cell, options = job.cell, _own_options(plan, job)
    trained_on = job.auxiliary.name
    method = create(cell.method, outline, cell.variant, None, cell.seed, trained_on, **options)
    assert isinstance(method, TrainableMethod)
    return method


@lru_cache(maxsize=8)
def _outline_backbone(
    name: str, pretrained: str | None, config: str | None, precision: Precision
) -> Backbone:
    from ..weights import outline_backbone  # imports open_clip, which takes seconds

    return outline_backbone(name, pretrained, config, precision)


def _own_options(plan: Plan, job: Job) -> dict[str, Any]:
    """What the plan says of a job's method, and the split that it chooses for all."""
    options = dict(job.method.options)
    if job.trained and plan.auxiliary_split is not None and hasattr(_options(job), "split"):
        options["split"] = plan.auxiliary_split
    return options


def _options(job: Job) -> Options:
    """What the job's method is trained with, as far as the method says."""
    cls = registry.method_class(job.cell.method)
    return make_options(cls, job.cell.variant, job.cell.options, job.auxiliary.name)


# -- training -----------------------------------------------------------------------------------


def _train_all(
    plan: Plan,
    target: Dataset,
    prepared_methods: Sequence[PreparedMethod],
    datasets: OpenDatasets,
    progress: Progress,
) -> None:
    """Give learned weights to methods of one target, training what the run has not trained yet."""
    waiting: list[_Training] = []
    for prepared in prepared_methods:
        with isolated(prepared, progress):
            waiting.append(_Training(plan, prepared, in_training_precision(plan, prepared)))
    try:
        auxiliary = datasets.auxiliary(prepared_methods[0].job)
        with lock(Path(plan.out), f"features-{auxiliary.name}"):
            _cache(plan, auxiliary, [one for one in waiting if not one.path.exists()], progress)
    except Stopped:
        raise
    except Exception as error:
        for one in waiting:
            one.prepared.error = error
        return
    for blocking in (False, True):  # first what is free, then what others have trained since
        waiting = [one for one in waiting if not one.do(auxiliary, target, progress, blocking)]


def in_training_precision(plan: Plan, prepared: PreparedMethod) -> TrainableMethod:
    """The method that is trained for a prepared one: itself, or its twin in another precision."""
    method = prepared.ready
    precision = method.backbone.training_precision
    if precision != method.backbone.precision:
        method = _method(plan, prepared.job, precision=precision)
    assert isinstance(method, TrainableMethod)
    return method


def feature_cache(plan: Plan) -> FeatureCache:
    """The feature cache of this machine, with features as precise as a plan wants them."""
    return FeatureCache(precision=plan.feature_precision)


def _cache(plan: Plan, auxiliary: Dataset, new: Sequence[_Training], progress: Progress) -> None:
    """One visual forward per auxiliary image for all methods that share it."""
    groups: dict[tuple[Sample, ...], list[_Training]] = {}
    for one in new:  # without a train split both splits are the same images
        samples = tuple(auxiliary_samples(auxiliary, one.split, plan.auxiliary_limit))
        groups.setdefault(samples, []).append(one)
    for samples, members in groups.items():
        learning, cache = [one.trained for one in members], feature_cache(plan)
        sources = cache_features(learning, auxiliary, samples, cache, plan.workers, progress)
        remarks = [text for one in sources if one is not None for text in one.encoding.remarks()]
        for one in members:
            one.prepared.remarks += remarks


@dataclass(frozen=True)
class _Training:
    """A prepared method that has no learned weights yet, and the method that is trained for it."""

    plan: Plan
    prepared: PreparedMethod
    trained: TrainableMethod

    @property
    def path(self) -> Path:
        """Where the learned weights are written."""
        return checkpoint_path(self.plan, self.prepared.job)

    @property
    def split(self) -> AuxiliarySplit:
        """Which images of the auxiliary dataset are trained on."""
        return split_of(self.plan, self.prepared.job)

    def do(self, auxiliary: Dataset, target: Dataset, progress: Progress, blocking: bool) -> bool:
        """Train the method, or load what an earlier attempt or another process has trained.

        Returns:
            Whether it was done; an error counts as done. Not so while another process trains it and
            this one is not blocking.
        """
        run = Path(self.plan.out)
        with lock(run, self.path.stem, blocking) as mine:
            if not mine:
                return False
            with isolated(self.prepared, progress):
                training = train_method(
                    self.trained,
                    auxiliary,
                    self.path,
                    TrainingConfig(
                        seed=self.prepared.cell.seed,
                        workers=self.plan.workers,
                        progress=progress,
                        limit=self.plan.auxiliary_limit,
                    ),
                    split=self.split,
                    target=target,
                    cache=feature_cache(self.plan),
                    supersede=partial(supersede, run),
                )
                self._take(training)
        return True

    def _take(self, training: Training) -> None:
        """Give the prepared method what was learned for it, and state how."""
        prepared, method = self.prepared, self.prepared.ready
        assert isinstance(method, TrainableMethod)
        if self.trained is not method:
            method.load_learned(self.trained.learned_state())
        prepared.remarks += training.provenance.get("remarks", [])
        prepared.training["seconds_train"] = training.seconds
        if training.history:
            per_batch = training.seconds / len(training.history)
            prepared.training["train_ms_per_batch"] = 1000 * per_batch
        learned = open_checkpoint([training.path])
        stated = learned.protocol()
        del stated[GIVEN]
        prepared.protocol |= stated
        prepared.auxiliary = learned.learned_from


def _protocol(plan: Plan, dataset: Dataset, prepared: PreparedMethod) -> dict[str, Any]:
    method = prepared.ready
    rule = dataset.mask_rule
    return {
        **method.protocol(),
        "options": dataclasses.asdict(method.options),
        "map_size": prepared.map_size,
        "backbone": method.backbone.name,
        "weights_sha256": method.backbone.weights_sha256,
        "precision": method.backbone.precision,
        **_reduced(method.backbone),
        **({"compiled": True} if method.backbone.compiled else {}),
        "mask_threshold": rule.threshold,
        "mask_resize": rule.resize,
        "dataset_options": dict(dataset.options),
        "limit": plan.limit,
        **metric_versions(),
        "seed": prepared.cell.seed,
        **_references(dataset, method),
    }


def _reduced(backbone: Backbone) -> dict[str, str]:
    """What is rounded: by autocast, and to tf32 on a GPU; a CPU never does the latter."""
    stated = {}
    if backbone.precision in ("fp16", "bf16"):
        stated[REDUCED] = "products of the visual tower's blocks"
    if backbone.device.type == "cuda":
        stated[TF32] = "in the visual tower" if backbone.precision == "tf32" else "nowhere"
    return stated


def _references(dataset: Dataset, method: Method) -> dict[str, Any]:
    """What a record states of the normal images that a method is shown; nothing if it is not."""
    if not observes_references(method):
        return {}
    shots = shots_of(type(method), method.options)
    shown = references_of(dataset, shots, method.seed)
    return {
        "shots": shots,
        "references": len(shown),
        "references_sha256": dataset.fingerprint_of(shown),
    }
