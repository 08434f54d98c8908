"""Where a method's training batches come from: memory, the feature cache, or the encoder itself.

All sources give the same batches for the same order of samples; they differ in what they recompute.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..backbone import TokenSpec, VisualFeatures
from ..data.loading import Batch, load_batches
from ..dataset import Dataset, Sample
from ..errors import DataError, UsageError
from ..images import MaskRule, resize_mask
from ..method import Query, TrainableMethod
from ..progress import Progress
from .feature_cache import SHARD, CachedFeatures, CachedMasks, FeatureCache

LOG = logging.getLogger(__name__)
ENCODE_AT_ONCE = 8
"""Images of one visual forward when features are cached; divides `SHARD`."""


@dataclass(frozen=True)
class TrainingBatch:
    """One training batch on the method's device.

    Attributes:
        query: what the method sees; its features carry no gradient.
        labels: [B] int64, 0 normal, 1 anomalous.
        masks: [B, M, M] of the features' dtype, 0 or 1, at the method's map size.
    """

    query: Query
    labels: Tensor
    masks: Tensor

    @classmethod
    def of(cls, query: Query, labels: Tensor, masks: Tensor, device: torch.device) -> TrainingBatch:
        """A batch on a device, of masks [B, M, M] bool."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        dtype = query.features.class_token.dtype
        return cls(query.map(move), move(labels), move(masks).to(dtype))


class Source(ABC):
    """Training samples that can be asked for in any order."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def batches(
        self, order: Sequence[int], batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """The samples in this order, as batches; the last one may be smaller.

        Args:
            order: indices of samples.
            batch_size: samples in a batch.
            generator: what a method that augments draws from.
        """


@dataclass(frozen=True)
class MemorySource(Source):
    """Features in memory; nothing is recomputed.

    Attributes:
        features: of all N samples.
        labels: [N] int64.
        masks: [N, M, M] bool.
        class_names: N words for the prompts.
        images: [N, 3, S, S], kept only for a method that reads them.
    """

    method: TrainableMethod
    features: VisualFeatures
    labels: Tensor
    masks: Tensor
    class_names: Sequence[str]
    images: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, order: Sequence[int], batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """See `Source`."""
        return map(self._batch, _chunks(order, batch_size))

    def _batch(self, chosen: Sequence[int]) -> TrainingBatch:
        index = torch.tensor(chosen)
        query = Query.of(
            self.method,
            self.features.map(lambda tensor: tensor[index]),
            [self.class_names[i] for i in chosen],
            None if self.images is None else self.images[index],
        )
        device = self.method.backbone.device
        return TrainingBatch.of(query, self.labels[index], self.masks[index], device)


@dataclass(frozen=True)
class CachedSource(Source):
    """Features from the cache on disk."""

    method: TrainableMethod
    features: CachedFeatures
    masks: CachedMasks
    samples: Sequence[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    def batches(
        self, order: Sequence[int], batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """See `Source`."""
        return _read_ahead(map(self._batch, _chunks(order, batch_size)))

    def _batch(self, chosen: Sequence[int]) -> TrainingBatch:
        features = self.features.batch(chosen, self.method.token_specs)
        return TrainingBatch.of(
            Query.of(self.method, features, [self.samples[i].class_name for i in chosen]),
            torch.tensor([self.samples[i].label for i in chosen]),
            self.masks.batch(chosen),
            self.method.backbone.device,
        )


@dataclass(frozen=True)
class ImageSource(Source):
    """Images in memory, encoded each time; for a method that augments.

    Attributes:
        images: [N, 3, S, S] float32, normalised.
        labels: [N] int64.
        masks: [N, M, M] bool.
    """

    method: TrainableMethod
    images: Tensor
    labels: Tensor
    masks: Tensor
    class_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)

    def batches(
        self, order: Sequence[int], batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """See `Source`."""
        each = 1 + _mosaic_partners(self.method)
        for every in _with_partners(self.method, self.class_names, order, batch_size, generator):
            index = torch.tensor(every)
            names = [self.class_names[i] for i in every]
            images, masks, labels = self.images[index], self.masks[index], self.labels[index]
            yield encoded_batch(
                self.method, images, masks, labels, names, generator, len(every) // each
            )


@dataclass(frozen=True)
class DiskSource(Source):
    """Images read from disk and encoded each time; for a method that augments, or a full cache."""

    method: TrainableMethod
    dataset: Dataset
    samples: Sequence[Sample]
    workers: int = 0

    def __len__(self) -> int:
        return len(self.samples)

    def batches(
        self, order: Sequence[int], batch_size: int, generator: torch.Generator
    ) -> Iterator[TrainingBatch]:
        """See `Source`."""
        names = [sample.class_name for sample in self.samples]
        rows = _with_partners(self.method, names, order, batch_size, generator)
        each = 1 + _mosaic_partners(self.method)
        batches = load_batches(
            self.dataset,
            [self.samples[i] for chosen in rows for i in chosen],
            self.method.preprocess,
            self.method.map_size,
            batch_size * each,
            self.workers,
            pin=self.method.backbone.device.type == "cuda",
        )
        for batch in batches:
            yield encoded_batch(
                self.method,
                batch.images,
                masks_of(batch, self.dataset),
                batch.labels,
                batch.class_names,
                generator,
                len(batch) // each,
            )


def encoded_batch(
    method: TrainableMethod,
    images: Tensor,
    masks: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    generator: torch.Generator,
    count: int | None = None,
) -> TrainingBatch:
    """Augment a batch as the method asks, and send it through the visual tower.

    Args:
        method: its `augment` is called where its schedule says that it augments.
        images: [B, 3, S, S] normalised.
        masks: [B, M, M] bool.
        labels: [B] int64; an image whose augmented mask is not empty counts as anomalous.
        class_names: B words.
        generator: of the random numbers of the augmentation.
        count: images of the training batch, the first ones; None is all B.
    """
    if method.schedule.augments:
        images, masks = method.augment(images, masks, list(class_names), generator)
        labels = labels | masks.flatten(1).any(dim=1).long()
    kept = slice(count)
    images, masks, labels = images[kept], masks[kept], labels[kept]
    class_names = class_names[kept]
    query = Query.encoded(method, images, class_names)
    return TrainingBatch.of(query, labels, masks, method.backbone.device)


def can_cache(method: TrainableMethod) -> bool:
    """Whether the method learns from frozen features alone, so that they are computed once."""
    return not (method.schedule.augments or method.needs_images)


def masks_of(batch: Batch, dataset: Dataset) -> Tensor:
    """The batch's masks [B, M, M] bool.

    Raises:
        DataError: the samples have no pixel-level truth.
    """
    if batch.masks is None:
        raise DataError(
            f"dataset '{dataset.name}' lacks masks for its anomalous images, so nothing can be "
            "learned from it: choose an auxiliary dataset with pixel-level masks"
        )
    return batch.masks


def memory_source(
    method: TrainableMethod,
    images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    masks: Sequence[NDArray[Any]] | NDArray[Any],
    labels: Sequence[int] | NDArray[Any] | Tensor,
    class_names: str | Sequence[str],
    batch_size: int,
) -> Source:
    """A source over arrays in memory; features are computed here, once, unless they cannot be.

    Args:
        method: says how images are prepared and which patch tokens it reads.
        images: N uint8 RGB images [H, W, 3].
        masks: N boolean masks [H, W], resized here by the official rule.
        labels: N labels, 0 or 1.
        class_names: one word for all, or N words.
        batch_size: images of one visual forward.

    Raises:
        UsageError: lengths differ, or an image, a mask or a label is none.
    """
    if masks is None or labels is None or class_names is None:
        raise UsageError("fit needs masks, labels and class names of its images")
    count = len(images)
    names = [class_names] * count if isinstance(class_names, str) else list(class_names)
    if not count or not (len(masks) == len(labels) == len(names) == count):
        raise UsageError(
            f"fit needs as many masks, labels and class names as images, and at least one: got "
            f"{count} images, {len(masks)} masks, {len(labels)} labels, {len(names)} class names"
        )
    truth = torch.as_tensor(np.asarray(labels)).long()
    if not bool(((truth == 0) | (truth == 1)).all()):
        raise UsageError("labels are 0 (normal) or 1 (anomalous)")
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UsageError(
                f"image {number} is no uint8 array [H, W, 3] but {image.dtype} of "
                f"shape {image.shape}"
            )
        if mask.shape != image.shape[:2]:
            raise UsageError(f"mask {number} has shape {mask.shape}, its image {image.shape[:2]}")
    prepared = torch.stack([method.preprocess(Image.fromarray(image)) for image in images])
    resized = torch.stack([_resized(mask, method.map_size) for mask in masks])
    if method.schedule.augments:
        return ImageSource(method, prepared, truth, resized, names)
    backbone = method.backbone
    parts = [
        method.preprocess.encode(backbone, part.to(backbone.device), method.token_specs)
        for part in torch.split(prepared, batch_size)
    ]
    seen = prepared if method.needs_images else None
    return MemorySource(method, VisualFeatures.joined(parts), truth, resized, names, seen)


def dataset_source(
    method: TrainableMethod,
    dataset: Dataset,
    samples: Sequence[Sample],
    cache: FeatureCache,
    workers: int = 0,
    progress: Progress | None = None,
) -> Source:
    """A source over samples on disk: from the cache, which is filled first, where that is possible.

    Args and errors as `cache_features`.
    """
    if can_cache(method):
        cached = cache_features([method], dataset, samples, cache, workers, progress)
        if cached[0] is not None:
            return cached[0]
    else:
        LOG.info("%s changes images while it learns: every epoch encodes them", method.name)
    return DiskSource(method, dataset, samples, workers)


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
        methods: to be trained; those that augment are passed over.
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
        if can_cache(method):
            groups.setdefault(method.forward_key(), []).append(number)
    sources: list[CachedSource | None] = [None] * len(methods)
    for key, numbers in groups.items():
        members = [methods[i] for i in numbers]
        specs = frozenset().union(*(m.token_specs for m in members))
        first = members[0]
        cached = cache.features(first.backbone, key, first.image_size, specs, dataset, samples)
        if not cache.has_room_for(cached):
            continue
        sizes = dict.fromkeys(method.map_size for method in members)
        masks = {size: cache.masks(dataset, samples, size) for size in sizes}
        for size in sizes:
            _fill(first, cached, masks[size], dataset, samples, workers, progress or Progress())
        for number, method in zip(numbers, members, strict=True):
            sources[number] = CachedSource(method, cached, masks[method.map_size], samples)
    return sources


def _fill(
    method: TrainableMethod,
    cached: CachedFeatures,
    masks: CachedMasks,
    dataset: Dataset,
    samples: Sequence[Sample],
    workers: int,
    progress: Progress,
) -> None:
    """Compute the shards that are absent, whole shards in their order."""
    to_encode = frozenset(cached.missing())
    lacking = sorted(to_encode.union(masks.missing()))
    if not lacking:
        return
    rows = [i for s in lacking for i in range(s * SHARD, min((s + 1) * SHARD, len(samples)))]
    batches = load_batches(
        dataset,
        [samples[i] for i in rows],
        method.preprocess,
        masks.size,
        ENCODE_AT_ONCE,
        workers,
        pin=method.backbone.device.type == "cuda",
    )
    with progress.track(len(rows), f"features of {dataset.title}", "img") as bar:
        for shard in lacking:
            size = min(SHARD, len(samples) - shard * SHARD)
            parts: list[VisualFeatures] = []
            truths: list[Tensor] = []
            specs = cached.specs_missing(shard)
            while sum(map(len, truths)) < size:
                batch = next(batches)
                truths.append(masks_of(batch, dataset))
                if shard in to_encode:
                    parts.append(_encoded(method, batch.images, specs))
                bar.update(len(batch))
                progress.check()
            if shard in to_encode:
                cached.write(shard, VisualFeatures.joined(parts))
            masks.write(shard, torch.cat(truths))


def _encoded(
    method: TrainableMethod, images: Tensor, specs: frozenset[TokenSpec]
) -> VisualFeatures:
    """Features [B, ...] on the CPU, so that a shard does not fill the GPU."""
    on_device = images.to(method.backbone.device, non_blocking=True)
    return method.preprocess.encode(method.backbone, on_device, specs).map(lambda t: t.cpu())


def _resized(mask: NDArray[Any], size: int) -> Tensor:
    return torch.from_numpy(resize_mask(np.asarray(mask) > 0, size, MaskRule())[0].copy())


def _mosaic_partners(method: TrainableMethod) -> int:
    return method.mosaic_partners if method.schedule.augments else 0


def _with_partners(
    method: TrainableMethod,
    class_names: Sequence[str],
    order: Sequence[int],
    batch_size: int,
    generator: torch.Generator,
) -> list[list[int]]:
    """The batches of an epoch, each followed by its mosaic partners, drawn with replacement."""
    count = _mosaic_partners(method)
    of_class: dict[str, list[int]] = {}
    for index, name in enumerate(class_names):
        of_class.setdefault(name, []).append(index)
    rows = []
    for chosen in _chunks(order, batch_size):
        partners: list[int] = []
        for index in chosen if count else ():
            alike = of_class[class_names[index]]
            places = torch.randint(len(alike), (count,), generator=generator).tolist()
            partners += [alike[place] for place in places]
        rows.append([*chosen, *partners])
    return rows


def _read_ahead(batches: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
    """The same batches, each read while the one before is learned from."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _chunks(order: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(order), size):
        yield list(order[start : start + size])
