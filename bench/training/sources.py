"""How training samples are made ready: frozen features are computed once, where they can be."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..backbone import TokenSpec, VisualFeatures
from ..data.loading import Readers, load_batches
from ..dataset import Dataset, Sample
from ..errors import UsageError
from ..method import Stage, TrainableMethod
from ..progress import Progress
from .batches import (
    CachedSource,
    DiskSource,
    ImageSource,
    MemorySource,
    Source,
    changes_images,
    encoding_limit,
    masks_of,
    reads_images,
    resized,
)
from .feature_cache import FeatureCache
from .optimisation import TrainingConfig
from .sharded_array import SHARD
from .stages import passes

LOG = logging.getLogger(__name__)
ENCODE_AT_ONCE = 8
"""Images of one visual forward when features are cached; divides `SHARD`."""


def can_cache(method: TrainableMethod, stage: Stage) -> bool:
    """Whether a stage learns from frozen features alone, so that they are computed once."""
    return not (changes_images(stage) or reads_images(method, stage))


def memory_sources(
    method: TrainableMethod,
    stages: Sequence[Stage],
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    masks: Sequence[NDArray[Any]] | NDArray[Any],
    labels: Sequence[int] | NDArray[Any] | Tensor,
    class_names: str | Sequence[str],
    batch_size: int,
) -> list[Source]:
    """Sources over arrays in memory, one a stage; where images stay, features are computed once.

    Args:
        method: says how images are prepared and which patch tokens it reads.
        stages: of the method, and the pass in which it remembers.
        images: N uint8 RGB images [H, W, 3].
        masks: N boolean masks [H, W], resized here by the official rule.
        labels: N labels, 0 or 1.
        class_names: one word for all, or N words.
        batch_size: images of one visual forward.

    Raises:
        UsageError: lengths differ, or an image, a mask or a label is of another kind.
    """
    if masks is None or labels is None or class_names is None:
        raise UsageError("fit needs masks, labels and class names of its images")
    names = [class_names] * len(images) if isinstance(class_names, str) else list(class_names)
    truth = torch.as_tensor(np.asarray(labels)).long()
    _refuse_misfit(images, masks, truth, names)
    sources: list[Source] = []
    still: MemorySource | None = None
    for stage in stages:
        if changes_images(stage):
            drawn = [np.asarray(mask) > 0 for mask in masks]
            sources.append(ImageSource(method, stage, list(images), drawn, truth, names))
            continue
        still = still or _still_source(method, images, masks, truth, names, batch_size)
        sources.append(still if reads_images(method, stage) else replace(still, images=None))
    return sources


def _still_source(
    method: TrainableMethod,
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    masks: Sequence[NDArray[Any]] | NDArray[Any],
    labels: Tensor,
    names: Sequence[str],
    batch_size: int,
) -> MemorySource:
    """Images that stay as they are, with their features; arguments as of `memory_sources`."""
    prepared = torch.stack([method.preprocess(Image.fromarray(image)) for image in images])
    truth = torch.stack([resized(mask, method) for mask in masks])
    backbone = method.backbone

    def encode(images: Tensor) -> VisualFeatures:
        return method.preprocess.encode(backbone, images.to(backbone.device), method.token_specs)

    encoding = encoding_limit(method)
    parts = [
        features
        for chunk in torch.split(prepared, batch_size)
        for _, features in encoding.each(chunk, encode)
    ]
    return MemorySource(method, VisualFeatures.joined(parts), labels, truth, names, prepared)


def _refuse_misfit(
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    masks: Sequence[NDArray[Any]] | NDArray[Any],
    labels: Tensor,
    names: Sequence[str],
) -> None:
    """Refuse arrays that `memory_sources` does not take; raises `UsageError`."""
    count = len(images)
    if not count or not (len(masks) == len(labels) == len(names) == count):
        raise UsageError(
            f"fit needs as many masks, labels and class names as images, and at least one: got "
            f"{count} images, {len(masks)} masks, {len(labels)} labels, {len(names)} class names"
        )
    if not bool(((labels == 0) | (labels == 1)).all()):
        raise UsageError("labels are 0 (normal) or 1 (anomalous)")
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UsageError(
                f"image {number} is not a uint8 array [H, W, 3] but {image.dtype} of "
                f"shape {image.shape}"
            )
        if mask.shape != image.shape[:2]:
            raise UsageError(f"mask {number} has shape {mask.shape}, its image {image.shape[:2]}")


def dataset_sources(
    method: TrainableMethod,
    stages: Sequence[Stage],
    dataset: Dataset,
    samples: Sequence[Sample],
    cache: FeatureCache,
    config: TrainingConfig,
) -> list[Source]:
    """Sources over samples on disk, one a stage: from the cache, filled first, where possible.

    Args:
        method: that learns.
        stages: of it, and the pass in which it remembers.
        dataset: the auxiliary dataset.
        samples: of it, in a fixed order.
        cache: where frozen features go.
        config: says how many processes read images, and shows the progress of filling the cache.

    Raises:
        DataError: as `cache_features`.
    """
    cached: CachedSource | None = None
    if any(can_cache(method, stage) for stage in stages):
        (cached,) = cache_features(
            [method], dataset, samples, cache, config.workers, config.progress
        )
    sources: list[Source] = []
    for stage in stages:
        if not can_cache(method, stage):
            LOG.info("%s: every epoch of stage '%s' encodes images", method.name, stage.name)
        rounding = cache if can_cache(method, stage) else None
        view = read_for(method, dataset)
        live = DiskSource(method, stage, view, samples, config.workers, rounding)
        sources.append(cached if cached and can_cache(method, stage) else live)
    return sources


def cache_features(
    methods: Sequence[TrainableMethod],
    dataset: Dataset,
    samples: Sequence[Sample],
    cache: FeatureCache,
    workers: int = 0,
    progress: Progress | None = None,
) -> list[CachedSource | None]:
    """Compute what the cache lacks of the frozen features that these methods learn from.

    Methods with equal `forward_key` are served by one visual forward per image, and only the patch
    tokens that they declare are kept.

    Args:
        methods: to be trained; those of which no stage learns from frozen features are passed over.
        dataset: the auxiliary dataset.
        samples: of it, in a fixed order.
        cache: where the features go.
        workers: processes that read images.
        progress: asked after each batch whether to stop; what is cached stays.

    Returns:
        One source a method, or None where features do not fit the cache or cannot be cached.

    Raises:
        DataError: an image is broken, or the anomalous images have no masks.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, method in enumerate(methods):
        if any(can_cache(method, stage) for stage in passes(method)):
            groups.setdefault(method.forward_key(), []).append(number)
    sources: list[CachedSource | None] = [None] * len(methods)
    for key, numbers in groups.items():
        members = [methods[i] for i in numbers]
        specs = frozenset().union(*(m.token_specs for m in members))
        first = members[0]
        cached = cache.features(first.backbone, key, first.image_size, specs, dataset, samples)
        if not cache.has_room_for(cached):
            continue
        for number, method in zip(numbers, members, strict=True):
            view = read_for(method, dataset)
            masks = cache.masks(view, samples, method.map_size)
            source = CachedSource(method, cached, masks, view, samples)
            _fill(source, workers, progress or Progress())
            sources[number] = source
    return sources


def read_for(method: TrainableMethod, dataset: Dataset) -> Dataset:
    """A dataset with masks that are resized as a method's training wants them."""
    if method.mask_resize is None:
        return dataset
    view = copy.copy(dataset)
    view.mask_rule = replace(dataset.mask_rule, resize=method.mask_resize)
    return view


def _fill(source: CachedSource, workers: int, progress: Progress) -> None:
    """Compute the shards that are absent, whole shards in their order."""
    method, dataset, samples = source.method, source.dataset, source.samples
    to_encode = frozenset(source.features.missing())
    lacking = sorted(to_encode.union(source.masks.missing()))
    if not lacking:
        return
    rows = [i for s in lacking for i in range(s * SHARD, min((s + 1) * SHARD, len(samples)))]
    batches = load_batches(
        dataset,
        [samples[i] for i in rows],
        method.preprocess,
        source.masks.size,
        ENCODE_AT_ONCE,
        Readers(workers, method.backbone.device),
    )
    with progress.track(len(rows), f"features of {dataset.title}", "img") as bar:
        for shard in lacking:
            size = min(SHARD, len(samples) - shard * SHARD)
            parts: list[VisualFeatures] = []
            truths: list[Tensor] = []
            specs = source.features.specs_missing(shard)
            while sum(map(len, truths)) < size:
                batch = next(batches)
                truths.append(masks_of(batch, dataset))
                if shard in to_encode:
                    encode = partial(_encoded, method, specs)
                    parts += [own for _, own in source.encoding.each(batch.images, encode)]
                bar.update(len(batch))
                progress.check()
            if shard in to_encode:
                source.features.write(shard, VisualFeatures.joined(parts))
            source.masks.write(shard, torch.cat(truths))


def _encoded(
    method: TrainableMethod, specs: frozenset[TokenSpec], images: Tensor
) -> VisualFeatures:
    """Features [B, ...] on the CPU, so that a shard does not fill the GPU."""
    on_device = images.to(method.backbone.device, non_blocking=True)
    return method.preprocess.encode(method.backbone, on_device, specs).map(lambda t: t.cpu())
