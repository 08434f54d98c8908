"""One category, many methods: encode once, predict, measure.

All methods whose `forward_key` is equal read one visual forward per batch. A method that fails
keeps its error and is left out; the others are scored to the end. Each method reads its own copies,
so that what it writes into does not reach another method, and what it returns is copied.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ..anomaly_maps import upsample
from ..backbone import TokenSpec
from ..category import conclude, observe, observes_category, observes_references, refuse_parts
from ..data.loading import Batch, death_of_reader, is_death_of_reader, load_batches
from ..dataset import Dataset, Sample
from ..errors import ContractError, Stopped
from ..method import Method, Prediction, Query
from ..metric_table import of_level
from ..metrics import (
    Curve,
    ImageMetrics,
    PixelAccumulator,
    PixelMetrics,
    UndefinedMetric,
    image_metrics,
    roc_curve_points,
)
from ..names import display_name
from ..progress import Progress
from ..randomness import image_keys
from ..records.category_record import CategoryRecord
from ..records.cell import Cell
from ..records.gallery import Gallery
from ..records.maps import write_maps
from ..records.prompt_scores import PromptScores, write_prompt_scores
from ..records.provenance import environment
from ..records.record import CategoryResult, ImageScores
from .batch_check import examine
from .observation import KeptBatches, show_references
from .plan import Plan
from .prepared_method import PreparedMethod, isolated

CURVE_POINTS = 120
BYTES_OF_PIXELS = 2 << 30  # normal pixels kept in memory per category, over all methods
P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Accumulators:
    """What is gathered about one prepared method while its category runs."""

    prepared: PreparedMethod
    pixels: PixelAccumulator
    scores: list[Tensor] = field(default_factory=list)
    parts: list[Tensor] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)
    prompts: list[Tensor] = field(default_factory=list)
    has_maps: bool = False
    seconds_forward: float = 0.0
    seconds_predict: float = 0.0


@dataclass
class Targets:
    """Labels and names of a category's images, in order."""

    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    masks: list[NDArray[np.bool_]] = field(default_factory=list)
    regions_lost: int = 0
    warnings: list[str] = field(default_factory=list)

    def add(self, batch: Batch, with_masks: bool) -> None:
        """Take what is known of a batch, and its masks if they are to be kept."""
        self.names += batch.names
        self.labels += batch.labels.tolist()
        self.regions_lost += batch.regions_lost
        self.warnings += batch.warnings
        if with_masks and batch.masks is not None:
            self.masks += list(np.asarray(batch.masks))


@dataclass(frozen=True)
class _Category:
    """A category while it is scored: what all its methods share."""

    plan: Plan
    dataset: Dataset
    samples: Sequence[Sample]
    progress: Progress
    gallery: Gallery | None


def score_category(
    plan: Plan,
    dataset: Dataset,
    samples: Sequence[Sample],
    prepared_methods: Sequence[PreparedMethod],
    progress: Progress,
) -> dict[Cell, CategoryRecord]:
    """Score one category for all methods.

    A method that fails keeps its error and is absent from the answer; a broken image or mask
    is an error of all of them.

    Args:
        plan: batch size, workers, what to keep.
        dataset: to read from.
        samples: of one category.
        prepared_methods: without errors.
        progress: asked before each batch whether to stop; counts the images of all forwards.
    """
    groups: dict[tuple[Any, ...], list[PreparedMethod]] = {}
    for prepared in prepared_methods:
        with isolated(prepared, progress):
            groups.setdefault(prepared.group_key(), []).append(prepared)
    gallery = Gallery(Path(plan.out), plan.gallery) if plan.gallery else None
    category = _Category(plan, dataset, samples, progress, gallery)
    budget = max(BYTES_OF_PIXELS // max(len(prepared_methods), 1), 1 << 20)
    records: dict[Cell, CategoryRecord] = {}
    title = f"{dataset.title} {samples[0].category}"
    with progress.track(len(samples) * len(groups), title, "img") as bar:
        for group in groups.values():
            with ExitStack() as memory:
                members = [
                    Accumulators(prepared, memory.enter_context(PixelAccumulator(budget)))
                    for prepared in group
                ]
                targets = _score_group(category, members, bar)
                records |= _records(category, members, targets)
    if gallery is not None:
        gallery.write(samples[0].category)
    return records


def _score_group(category: _Category, members: Sequence[Accumulators], bar: tqdm[Any]) -> Targets:
    """Score the methods of one group; what goes wrong with the images is an error of them all."""
    targets = Targets()
    try:
        _run_group(category, members, targets, bar)
    except Stopped:
        raise
    except Exception as error:
        dead = is_death_of_reader(error)
        reason = death_of_reader(category.dataset, error) if dead else error
        for member in members:
            member.prepared.error = member.prepared.error or reason
    return targets


def _run_group(
    category: _Category, members: Sequence[Accumulators], targets: Targets, bar: tqdm[Any]
) -> None:
    """Feed the methods of one group from one visual forward per batch."""
    progress = category.progress
    for member in members:
        _show_references(category, member)
    observers = [m for m in members if observes_category(m.prepared.ready)]
    others = [m for m in members if not observes_category(m.prepared.ready)]
    kept = KeptBatches.with_room_for(len(category.samples))
    for batch, query, seconds in _encoded(category, members):
        targets.add(batch, category.plan.save_maps)
        if observers:
            kept.add(query, batch)
        for member in members:
            member.seconds_forward += seconds
        for member in others:
            if member.prepared.error is None:
                with isolated(member.prepared, progress):
                    seen = query.seen_by(member.prepared.ready)
                    _predict(category, member, seen.map(_own_copy), batch)
        bar.update(len(batch))
    for member in observers:
        _predict_observed(category, member, kept)
    for member in members:
        _conclude(category, member)


def _encoded(
    category: _Category, members: Sequence[Accumulators]
) -> Iterator[tuple[Batch, Query, float]]:
    """Each batch, what all methods of a group read of it, and the seconds of its forward."""
    dataset, plan = category.dataset, category.plan
    first = members[0].prepared.ready
    device = first.backbone.device
    specs: set[TokenSpec] = set()
    for member in members:
        with isolated(member.prepared, category.progress):
            specs |= member.prepared.ready.token_specs
    needs_keys = any(member.prepared.ready.needs_keys for member in members)
    description = dataset.description(category.samples[0].category)
    batches = load_batches(
        dataset,
        category.samples,
        first.preprocess,
        members[0].prepared.map_size,
        plan.batch_size,
        plan.workers,
        label_regions=True,
    )
    for batch in batches:
        category.progress.check()
        images = batch.images.to(device, non_blocking=True)
        features, seconds = _timed(device, first.preprocess.encode, first.backbone, images, specs)
        domains, descriptions = [dataset.domain] * len(batch), [description] * len(batch)
        keys = image_keys(batch.images) if needs_keys else None
        yield (
            batch,
            Query(features, batch.class_names, images, domains, descriptions, keys),
            seconds,
        )


def _show_references(category: _Category, member: Accumulators) -> None:
    """Let a method of the few-shot or full-shot track observe normal training images."""
    plan, prepared = category.plan, member.prepared
    if prepared.error is not None or not observes_references(prepared.ready):
        return
    with isolated(prepared, category.progress):
        _, seconds = _timed(
            prepared.ready.backbone.device,
            show_references,
            prepared.ready,
            category.dataset,
            category.samples[0].category,
            plan,
            category.progress,
        )
        member.seconds_predict += seconds


def _predict_observed(category: _Category, member: Accumulators, kept: KeptBatches) -> None:
    """Let one method observe the whole category and then answer it, batch by batch."""
    prepared, progress = member.prepared, category.progress
    if prepared.error is not None:
        return
    with isolated(prepared, progress):
        method = prepared.ready
        _, seconds = _timed(method.backbone.device, observe, method, kept.images, progress.check)
        member.seconds_predict += seconds
        for query, batch in kept.seen_by(method):
            progress.check()
            _predict(category, member, query, batch)


def _conclude(category: _Category, member: Accumulators) -> None:
    """Make the scores of a method that answered with parts, now that all images have theirs."""
    prepared = member.prepared
    if prepared.error is not None or not member.parts:
        return
    with isolated(prepared, category.progress):
        device = prepared.ready.backbone.device
        parts = Prediction(None, None, torch.cat(member.parts).to(device))
        answer, seconds = _timed(device, conclude, prepared.ready, parts)
        member.seconds_predict += seconds
        assert answer.scores is not None
        member.scores = [answer.scores.cpu()]


def _own_copy(tensor: Tensor) -> Tensor:
    """A copy with the same strides: another layout in memory may be rounded otherwise."""
    copy = torch.empty_strided(
        tensor.size(), tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )
    return copy.copy_(tensor)


def _predict(category: _Category, member: Accumulators, query: Query, batch: Batch) -> None:
    """Let one method answer a batch, and keep what it said."""
    plan, prepared = category.plan, member.prepared
    method = prepared.ready
    versions = _versions(query)
    with torch.no_grad():
        answer, seconds = _timed(method.backbone.device, method.predict, query)
    prediction = answer.checked(len(query), method.name)
    member.seconds_predict += seconds
    if plan.save_prompt_scores:
        member.prompts += _prompt_maps(method, query)
    _refuse_changes(method, versions, _versions(query))
    _refuse_gaps(prepared, prediction)
    if not prepared.examined:
        examine(prepared, query, prediction)
    refuse_parts(method, prediction)
    if prediction.parts is not None:
        member.parts.append(prediction.parts.cpu())
    if prediction.scores is not None:
        member.scores.append(prediction.scores.cpu())
    if prediction.maps is None:
        return
    maps = resized(prediction.maps, prepared.map_size).cpu()
    if batch.masks is not None:
        member.has_maps = True
        member.pixels.update(np.asarray(batch.masks), maps.numpy(), batch.regions)
        if plan.save_maps:
            member.maps.append(maps)
    if category.gallery is not None:
        category.gallery.add_batch(prepared.cell, batch, prediction.scores, maps, method.preprocess)


def _versions(query: Query) -> dict[str, int]:
    """How often each tensor of a query was written into, by the tensor's name."""
    return {name: tensor._version for name, tensor in query.tensors().items()}


def _refuse_changes(method: Method, before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Raise `ContractError` if a tensor of the query was written into, or replaced."""
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    if changed:
        raise ContractError(
            f"method '{display_name(method.name)}' changed {', '.join(sorted(changed))} of its "
            "query in place: work on a copy (tensor.clone())"
        )


def _refuse_gaps(prepared: PreparedMethod, prediction: Prediction) -> None:
    """Raise `ContractError` if scores or maps come for some batches only."""
    scored = prediction.scores is not None or prediction.parts is not None
    answers = (scored, prediction.maps is not None)
    prepared.answers = prepared.answers or answers
    for part, now, earlier in zip(("scores", "maps"), answers, prepared.answers, strict=True):
        if now != earlier:
            raise ContractError(
                f"method '{display_name(prepared.ready.name)}' returned {part} for some batches "
                "and none for others: return them always or never"
            )


def _prompt_maps(method: Method, query: Query) -> list[Tensor]:
    """[B, K, L] of each single prompt; empty where the method has none."""
    with torch.no_grad():
        maps = method.prompt_maps(query)
    if maps is None:
        return []
    if maps.dim() != 3 or len(maps) != len(query) or not bool(torch.isfinite(maps).all()):
        raise ContractError(
            f"method '{display_name(method.name)}' returned prompt maps of shape "
            f"{tuple(maps.shape)} for a batch of {len(query)}: expected finite values [B, K, L]"
        )
    return [maps.detach().float().cpu()]


def resized(maps: Tensor, size: int) -> Tensor:
    """Maps [B, H, W] at the evaluated size, bilinear; unchanged where they have it."""
    height, width = maps.shape[1:]
    same = (height, width) == (size, size)
    return maps if same else upsample(maps.flatten(1), (height, width), size)


# -- what is recorded ---------------------------------------------------------------------------


def _records(
    category: _Category, members: Sequence[Accumulators], targets: Targets
) -> dict[Cell, CategoryRecord]:
    """The category's records of the methods without errors; writes what the plan keeps besides."""
    records: dict[Cell, CategoryRecord] = {}
    for member in members:
        prepared = member.prepared
        if prepared.error is None:
            with isolated(prepared, category.progress):
                record = _category_record(category, member, targets)
        if prepared.error is None:
            _keep(Path(category.plan.out), record.result.category, member, targets)
            records[prepared.cell] = record
    return records


def _category_record(category: _Category, member: Accumulators, targets: Targets) -> CategoryRecord:
    """What the record of the category states of one method."""
    prepared = member.prepared
    method = prepared.ready
    published, effective = method.parameter_counts()
    return CategoryRecord(
        result=_result(category, member, targets),
        protocol=prepared.protocol,
        provenance={
            **environment(),
            "device": _device_name(method.backbone.device),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        timing={
            "images": len(targets.labels),
            "seconds_forward": member.seconds_forward,
            "seconds_predict": member.seconds_predict,
            "peak_memory_mb": _peak_memory_mb(method.backbone.device),
            **prepared.training,
        },
        published_parameters=published,
        effective_parameters=effective,
        auxiliary=prepared.auxiliary,
        warnings=targets.warnings,
    )


def _result(category: _Category, member: Accumulators, targets: Targets) -> CategoryResult:
    """The metrics of what one method said about the category."""
    labels = np.asarray(targets.labels)
    scores = torch.cat(member.scores).numpy() if member.scores else None
    measured: list[ImageMetrics | PixelMetrics] = []
    curves: dict[str, Callable[[], Curve]] = {}
    undefined: dict[str, str] = {}
    if scores is None:
        undefined |= dict.fromkeys(of_level("image"), "the method gives no anomaly scores")
    else:
        measured.append(image_metrics(labels, scores))
        undefined |= measured[-1].undefined
        curves["image_roc"] = lambda: roc_curve_points(labels, scores, CURVE_POINTS)
    if member.has_maps:
        measured.append(member.pixels.result())
        undefined |= measured[-1].undefined
        curves["pixel_roc"] = lambda: member.pixels.roc_curve(CURVE_POINTS)
        curves["pixel_pro"] = lambda: member.pixels.pro_curve(CURVE_POINTS)
    else:
        masked = category.dataset.has_masks
        why = "was given no anomaly maps" if masked else "has no pixel-level masks"
        undefined |= dict.fromkeys(of_level("pixel"), f"the dataset {why}")
    return CategoryResult(
        category=category.samples[0].category,
        class_name=category.samples[0].class_name,
        n_normal=targets.labels.count(0),
        n_anomalous=targets.labels.count(1),
        metrics={name: value for one in measured for name, value in one.defined().items()},
        undefined=undefined,
        images=ImageScores(
            targets.names, targets.labels, None if scores is None else scores.tolist()
        ),
        curves=_curves(curves),
        regions_lost=targets.regions_lost,
    )


def _curves(makers: Mapping[str, Callable[[], Curve]]) -> dict[str, Mapping[str, list[float]]]:
    """Thinned curves for reading; one that is undefined is left out."""
    curves: dict[str, Mapping[str, list[float]]] = {}
    for name, make in makers.items():
        with suppress(UndefinedMetric):
            curve = make()
            curves[name] = {
                "x": [round(float(v), 5) for v in curve.fpr],
                "y": [round(float(v), 5) for v in curve.detection_rate],
            }
    return curves


def _keep(run: Path, category: str, member: Accumulators, targets: Targets) -> None:
    """Write raw maps and prompt-wise scores, where they were asked for."""
    cell = member.prepared.cell
    if member.maps:
        maps, masks = torch.cat(member.maps).numpy(), np.asarray(targets.masks, dtype=bool)
        write_maps(run, cell, category, maps, masks)
    if member.prompts:
        prompts = PromptScores(torch.cat(member.prompts).numpy(), np.asarray(targets.labels))
        write_prompt_scores(run, cell, category, prompts)


def _timed(
    device: torch.device, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> tuple[T, float]:
    """What a call returns and its wall seconds, waiting for the GPU at both ends."""
    _synchronise(device)
    start = time.perf_counter()
    answer = work(*args, **kwargs)
    _synchronise(device)
    return answer, time.perf_counter() - start


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _peak_memory_mb(device: torch.device) -> float:
    """Peak memory: of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
