"""One category, many methods: encode once, predict, measure.

All methods whose `forward_key` is equal read one visual forward per batch; a method that fails
drops out with its error and the others go on. Each method reads copies of its own, so that what it
writes into reaches nobody else, and what it returns is copied.
"""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..backbone import TokenSpec
from ..data.loading import Batch, death_of_reader, is_death_of_reader, load_batches
from ..dataset import Dataset, Sample
from ..errors import ContractError, Stopped
from ..method import Method, Prediction, Query
from ..metric_table import of_level
from ..metrics import Curve, PixelAccumulator, UndefinedMetric, image_metrics, roc_curve_points
from ..names import display_name
from ..progress import Progress
from ..records.category_record import CategoryRecord
from ..records.cell import Cell
from ..records.gallery import Gallery
from ..records.maps import write_maps
from ..records.prompt_scores import PromptScores, write_prompt_scores
from ..records.provenance import environment
from ..records.record import CategoryResult, ImageScores
from .accumulators import Accumulators, Targets
from .batch_check import examine
from .plan import Plan
from .prepared_method import PreparedMethod, isolated

LOG = logging.getLogger(__name__)
CURVE_POINTS = 120
BYTES_OF_PIXELS = 2 << 30  # normal pixels kept in memory per category, over all methods


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
    parts: dict[Cell, CategoryRecord] = {}
    gallery = Gallery(Path(plan.out), plan.gallery) if plan.gallery else None
    title = f"{dataset.title} {samples[0].category}"
    with progress.track(len(samples) * len(groups), title, "img") as bar:
        for group in groups.values():
            budget = max(BYTES_OF_PIXELS // len(prepared_methods), 1 << 20)
            members = [Accumulators(c, PixelAccumulator(budget)) for c in group]
            try:
                try:
                    targets = _run_group(plan, dataset, samples, members, progress, bar, gallery)
                except Stopped:
                    raise
                except Exception as error:  # of the images or of the visual forward: nobody's own
                    reason = death_of_reader(dataset, error) if is_death_of_reader(error) else error
                    for prepared in group:
                        prepared.error = prepared.error or reason
                    continue
                for accumulators in members:
                    if accumulators.prepared.error is None:
                        with isolated(accumulators.prepared, progress):
                            result = _result(dataset, samples[0], accumulators, targets)
                            one = _category_record(result, accumulators, targets)
                    if accumulators.prepared.error is None:
                        _keep(plan, samples[0].category, accumulators, targets)
                        parts[accumulators.prepared.cell] = one
            finally:
                for accumulators in members:
                    accumulators.pixels.release()
    if gallery is not None:
        gallery.write(samples[0].category)
    return parts


def _run_group(
    plan: Plan,
    dataset: Dataset,
    samples: Sequence[Sample],
    members: Sequence[Accumulators],
    progress: Progress,
    bar: tqdm[Any],
    gallery: Gallery | None,
) -> Targets:
    """Feed the methods of one group from one visual forward per batch."""
    first = members[0].prepared.ready
    specs: set[TokenSpec] = set()
    for accumulators in members:
        with isolated(accumulators.prepared, progress):
            specs |= accumulators.prepared.ready.token_specs
    targets = Targets()
    batches = load_batches(
        dataset,
        samples,
        first.preprocess,
        members[0].prepared.map_size,
        batch_size=plan.batch_size,
        workers=plan.workers,
    )
    for batch in batches:
        progress.check()
        images = batch.images.to(first.backbone.device, non_blocking=True)
        with _clock(first.backbone.device) as forward:
            features = first.preprocess.encode(first.backbone, images, specs)
        targets.names += batch.names
        targets.labels += [int(label) for label in batch.labels]
        targets.regions_lost += batch.regions_lost
        targets.warnings += batch.warnings
        if plan.save_maps and batch.masks is not None:
            targets.masks += list(np.asarray(batch.masks))
        for accumulators in members:
            accumulators.seconds_forward += forward.seconds
            if accumulators.prepared.error is None:
                with isolated(accumulators.prepared, progress):
                    query = Query.of(
                        accumulators.prepared.ready, features, batch.class_names, images
                    ).map(_own_copy)
                    _predict(plan, accumulators, query, batch, gallery)
        bar.update(len(images))
    return targets


def _own_copy(tensor: Tensor) -> Tensor:
    """A copy with the same strides: another layout in memory may be rounded otherwise."""
    copy = torch.empty_strided(
        tensor.size(), tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )
    return copy.copy_(tensor)


def _predict(
    plan: Plan, accumulators: Accumulators, query: Query, batch: Batch, gallery: Gallery | None
) -> None:
    """Let one prepared method answer a batch, and keep what it said."""
    prepared = accumulators.prepared
    method = prepared.ready
    versions = _versions(query)
    with _clock(method.backbone.device) as own, torch.no_grad():
        prediction = method.predict(query).checked(len(query), method.name)
    accumulators.seconds_predict += own.seconds
    if plan.save_prompt_scores:
        accumulators.prompts += _prompt_maps(method, query)
    _refuse_changes(method, versions, _versions(query))
    _refuse_gaps(prepared, prediction)
    if not prepared.examined:
        examine(accumulators, query, prediction)
    if prediction.scores is not None:
        accumulators.scores.append(prediction.scores.cpu())
    if prediction.maps is None:
        return
    maps = resized(prediction.maps, prepared.map_size).cpu()
    if batch.masks is not None:
        accumulators.has_maps = True
        accumulators.pixels.update(np.asarray(batch.masks), maps.numpy())
        if plan.save_maps:
            accumulators.maps.append(maps)
    if gallery is not None:
        gallery.add_batch(prepared.cell, batch, prediction.scores, maps, method.preprocess)


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
    answers = (prediction.scores is not None, prediction.maps is not None)
    if prepared.answers is None:
        prepared.answers = answers
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
    if tuple(maps.shape[-2:]) == (size, size):
        return maps
    return F.interpolate(maps[:, None], size=(size, size), mode="bilinear", align_corners=False)[
        :, 0
    ]


def _result(
    dataset: Dataset, sample: Sample, accumulators: Accumulators, targets: Targets
) -> CategoryResult:
    """The metrics of what one method said about the category that `sample` is of."""
    labels = np.asarray(targets.labels)
    metrics: dict[str, float] = {}
    undefined: dict[str, str] = {}
    curves: dict[str, Mapping[str, list[float]]] = {}
    scores = torch.cat(accumulators.scores).numpy() if accumulators.scores else None
    if scores is None:
        undefined |= dict.fromkeys(of_level("image"), "the method gives no anomaly scores")
    else:
        measured = image_metrics(labels, scores)
        metrics |= measured.defined()
        undefined |= measured.undefined
        curves |= _curves({"image_roc": lambda: roc_curve_points(labels, scores, CURVE_POINTS)})
    if not accumulators.has_maps:
        why = "has no pixel-level masks" if not dataset.has_masks else "was given no anomaly maps"
        undefined |= dict.fromkeys(of_level("pixel"), f"the dataset {why}")
    else:
        pixels = accumulators.pixels.result()
        metrics |= pixels.defined()
        undefined |= pixels.undefined
        curves |= _curves(
            {
                "pixel_roc": lambda: accumulators.pixels.roc_curve(CURVE_POINTS),
                "pixel_pro": lambda: accumulators.pixels.pro_curve(CURVE_POINTS),
            }
        )
    return CategoryResult(
        category=sample.category,
        class_name=sample.class_name,
        n_normal=int((labels == 0).sum()),
        n_anomalous=int((labels == 1).sum()),
        metrics=metrics,
        undefined=undefined,
        images=ImageScores(
            list(targets.names), list(targets.labels), None if scores is None else scores.tolist()
        ),
        curves=curves,
        regions_lost=targets.regions_lost,
    )


def _category_record(
    result: CategoryResult, accumulators: Accumulators, targets: Targets
) -> CategoryRecord:
    """What the record of the category states of one method."""
    prepared = accumulators.prepared
    method = prepared.ready
    published, effective = method.parameter_counts()
    return CategoryRecord(
        result=result,
        protocol=prepared.protocol,
        provenance={
            **environment(),
            "device": _device_name(method.backbone.device),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        },
        timing={
            "images": len(targets.labels),
            "seconds_forward": accumulators.seconds_forward,
            "seconds_predict": accumulators.seconds_predict,
            "peak_memory_mb": _peak_memory_mb(method.backbone.device),
            **prepared.training,
        },
        published_parameters=published,
        effective_parameters=effective,
        auxiliary=prepared.auxiliary,
        warnings=targets.warnings,
    )


def _keep(plan: Plan, category: str, accumulators: Accumulators, targets: Targets) -> None:
    """Write raw maps and prompt-wise scores, where they were asked for."""
    run, cell = Path(plan.out), accumulators.prepared.cell
    if accumulators.maps:
        maps, masks = torch.cat(accumulators.maps).numpy(), np.asarray(targets.masks, dtype=bool)
        write_maps(run, cell, category, maps, masks)
    if accumulators.prompts:
        prompts = PromptScores(torch.cat(accumulators.prompts).numpy(), np.asarray(targets.labels))
        write_prompt_scores(run, cell, category, prompts)


def _curves(makers: Mapping[str, Callable[[], Curve]]) -> dict[str, Mapping[str, list[float]]]:
    """Thinned curves for reading; one that is undefined is left out."""
    curves: dict[str, Mapping[str, list[float]]] = {}
    for name, make in makers.items():
        try:
            curve = make()
        except UndefinedMetric:
            continue
        curves[name] = {
            "x": [round(float(v), 5) for v in curve.fpr],
            "y": [round(float(v), 5) for v in curve.detection_rate],
        }
    return curves


@dataclass
class _Elapsed:
    seconds: float = 0.0


@contextmanager
def _clock(device: torch.device) -> Iterator[_Elapsed]:
    """Wall seconds of a block, waiting for the GPU at both ends."""
    elapsed = _Elapsed()
    _synchronise(device)
    start = time.perf_counter()
    yield elapsed
    _synchronise(device)
    elapsed.seconds = time.perf_counter() - start


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
