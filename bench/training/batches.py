"""Where a method's training batches come from: memory, the feature cache, or the encoder itself.

All sources give the same batches for the same order of samples; they differ in what they recompute.
Which one serves a stage depends on what the stage reads and changes.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..at_once import AtOnce
from ..backbone import VisualFeatures
from ..data.loading import Batch, Readers, load_batches
from ..dataset import Dataset, Domain, Sample
from ..errors import DataError
from ..images import MaskRule, resize_mask
from ..method import Query, Stage, TrainableMethod
from ..names import display_name
from ..union import Union
from .augmentation import Draws, ImageChange, changed
from .feature_cache import CachedFeatures, CachedMasks, FeatureCache

LOG = logging.getLogger(__name__)

SMALL_CACHE = 256 << 20  # bytes that stay in memory, so that a thread that reads them only disturbs


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

    def rounded(self, cache: FeatureCache) -> TrainingBatch:
        """The same batch with the features that a cache would give back."""
        query = replace(self.query, features=cache.rounded(self.query.features))
        return replace(self, query=query)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, images: slice) -> TrainingBatch:
        """Some images of the batch."""
        return TrainingBatch(self.query[images], self.labels[images], self.masks[images])


Batches = Iterator[TrainingBatch]


class Source(ABC):
    """Training samples that can be asked for in any order.

    Attributes:
        method: that learns from them.
    """

    method: TrainableMethod

    @cached_property
    def encoding(self) -> AtOnce:
        """How many images are encoded at once, of as many as come."""
        return encoding_limit(self.method)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.words())

    @abstractmethod
    def words(self) -> Sequence[str]:
        """The word for the prompts of each sample."""

    @abstractmethod
    def batches(self, order: Sequence[int], batch_size: int, draws: Draws) -> Batches:
        """The samples in this order, as batches; the last one may be smaller.

        Args:
            order: indices of samples.
            batch_size: samples in a batch.
            draws: what a method that augments draws from.
        """


@dataclass(frozen=True)
class MemorySource(Source):
    """Features in memory; nothing is recomputed.

    Attributes:
        features: of all N samples.
        labels: [N] int64.
        masks: [N, M, M] bool.
        class_names: N words for the prompts.
        images: [N, 3, S, S], kept only for a stage that reads them.
    """

    method: TrainableMethod
    features: VisualFeatures
    labels: Tensor
    masks: Tensor
    class_names: Sequence[str]
    images: Tensor | None = None

    def words(self) -> Sequence[str]:
        """See `Source`."""
        return self.class_names

    def batches(self, order: Sequence[int], batch_size: int, draws: Draws) -> Batches:
        """See `Source`."""
        return map(self._batch, _chunks(order, batch_size))

    def _batch(self, chosen: Sequence[int]) -> TrainingBatch:
        index = torch.tensor(chosen)
        features = self.features.map(lambda tensor: tensor[index]).select(self.method.token_specs)
        query = Query(
            features,
            tuple(self.class_names[i] for i in chosen),
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
    dataset: Dataset
    samples: Sequence[Sample]

    def words(self) -> Sequence[str]:
        """See `Source`."""
        return [sample.class_name for sample in self.samples]

    def batches(self, order: Sequence[int], batch_size: int, draws: Draws) -> Batches:
        """See `Source`."""
        batches = map(self._batch, _chunks(order, batch_size))
        small = self.features.nbytes(self.method.token_specs) <= SMALL_CACHE
        return batches if small else _read_ahead(batches)

    def _batch(self, chosen: Sequence[int]) -> TrainingBatch:
        device = self.method.backbone.device
        features = self.features.batch(chosen, self.method.token_specs, device)
        samples = [self.samples[i] for i in chosen]
        names, domains = [s.class_name for s in samples], domains_of(self.dataset, samples)
        return TrainingBatch.of(
            Query.of(self.method, features, names, domains=domains),
            torch.tensor([sample.label for sample in samples]),
            self.masks.batch(chosen),
            device,
        )


@dataclass(frozen=True)
class ImageSource(Source):
    """Images in memory, prepared and encoded each time; for a stage that changes images.

    Attributes:
        stage: what is read and changed.
        images: N uint8 arrays [H, W, 3].
        masks: N bool arrays [H, W].
        labels: [N] int64.
        class_names: N words for the prompts.
    """

    method: TrainableMethod
    stage: Stage
    images: Sequence[NDArray[np.uint8]]
    masks: Sequence[NDArray[np.bool_]]
    labels: Tensor
    class_names: Sequence[str]

    def words(self) -> Sequence[str]:
        """See `Source`."""
        return self.class_names

    def batches(self, order: Sequence[int], batch_size: int, draws: Draws) -> Batches:
        """See `Source`."""
        partners = mosaic_partners(self.method, self.stage)
        for every in _with_partners(self.class_names, order, batch_size, partners, draws.generator):
            images, masks = zip(*(self._prepared(index, draws) for index in every), strict=True)
            batch = _Prepared(
                torch.stack(images),
                torch.stack(masks),
                self.labels[torch.tensor(every)],
                [self.class_names[i] for i in every],
            )
            yield _encoded(self.stage, batch, draws.generator, self)

    def _prepared(self, index: int, draws: Draws) -> tuple[Tensor, Tensor]:
        """An image and its mask [M, M] bool."""
        method, mask = self.method, self.masks[index]
        image = Image.fromarray(self.images[index])
        if self.stage.schedule.augments_images:
            generator = draws.of_sample(str(index))
            image, mask = changed(method, image, mask, self.class_names[index], generator)
        return method.preprocess(image), resized(mask, method)


def resized(mask: NDArray[Any], method: TrainableMethod) -> Tensor:
    """A mask [H, W] from memory at the size of a method's maps, [M, M] bool."""
    rule = MaskRule(resize=method.mask_resize or "official")
    return torch.from_numpy(resize_mask(np.asarray(mask) > 0, method.map_size, rule)[0].copy())


@dataclass(frozen=True)
class DiskSource(Source):
    """Images read from disk and encoded each time.

    For a stage that reads or changes images, or where the cache is full.

    Attributes:
        cache: that has no room for the features, which are rounded as it would have done; so
            what is learned does not depend on the room. None rounds nothing.
    """

    method: TrainableMethod
    stage: Stage
    dataset: Dataset
    samples: Sequence[Sample]
    workers: int = 0
    cache: FeatureCache | None = None

    def words(self) -> Sequence[str]:
        """See `Source`."""
        return [sample.class_name for sample in self.samples]

    def batches(self, order: Sequence[int], batch_size: int, draws: Draws) -> Batches:
        """See `Source`."""
        partners = mosaic_partners(self.method, self.stage)
        rows = _with_partners(self.words(), order, batch_size, partners, draws.generator)
        batches = load_batches(
            self.dataset,
            [self.samples[i] for chosen in rows for i in chosen],
            self.method.preprocess,
            self.method.map_size,
            batch_size * (1 + partners),
            Readers(self.workers, self.method.backbone.device),
            self._change(draws),
        )
        for chosen, batch in zip(rows, batches, strict=True):
            masks = masks_of(batch, self.dataset)
            domains = domains_of(self.dataset, [self.samples[i] for i in chosen])
            prepared = _Prepared(batch.images, masks, batch.labels, batch.class_names, domains)
            encoded = _encoded(self.stage, prepared, draws.generator, self)
            yield encoded if self.cache is None else encoded.rounded(self.cache)

    def _change(self, draws: Draws) -> ImageChange | None:
        if not self.stage.schedule.augments_images:
            return None
        return ImageChange(self.method, draws, self.dataset.root)


@dataclass(frozen=True)
class _Prepared:
    """A batch before it is encoded, with P mosaic partners for each of its B images after them.

    Attributes:
        images: [B + P B, 3, S, S] normalised.
        masks: [B + P B, M, M] bool.
        labels: [B + P B] int64.
        class_names: B + P B words.
        domains: B + P B domains, or none.
    """

    images: Tensor
    masks: Tensor
    labels: Tensor
    class_names: Sequence[str]
    domains: Sequence[Domain] = ()


def _encoded(
    stage: Stage, prepared: _Prepared, generator: torch.Generator, source: Source
) -> TrainingBatch:
    """Augment a batch where the stage does, and send it through the visual tower.

    An image whose augmented mask is not empty counts as anomalous, unless labels stay.
    """
    method = source.method
    images, masks, labels = prepared.images, prepared.masks, prepared.labels
    batch = slice(len(images) // (1 + mosaic_partners(method, stage)))
    if stage.schedule.augments:
        images, masks = method.augment(images, masks, list(prepared.class_names), generator)
        if stage.schedule.relabels:
            labels = labels | masks.flatten(1).any(dim=1).long()

    def encode(part: range) -> Query:
        own = slice(part.start, part.stop)
        return Query.encoded(method, images[own], prepared.class_names[own], prepared.domains[own])

    parts = [query for _, query in source.encoding.each(range(batch.stop), encode)]
    query = parts[0] if len(parts) == 1 else Query.joined(parts)
    if reads_images(method, stage) != method.needs_images:
        query = replace(query, images=None if method.needs_images else images[batch])
    return TrainingBatch.of(query, labels[batch], masks[batch], method.backbone.device)


def encoding_limit(method: TrainableMethod) -> AtOnce:
    """How many training images a method's visual tower takes at once."""
    doing = "while training images were encoded"
    return AtOnce(
        method.backbone.device, what=doing, option="", fix="take smaller images (image_size)"
    )


def masks_of(batch: Batch, dataset: Dataset) -> Tensor:
    """The batch's masks [B, M, M] bool.

    Raises:
        DataError: the samples have no pixel-level truth.
    """
    if batch.masks is None:
        raise DataError(
            f"dataset '{display_name(dataset.name)}' lacks masks for its anomalous images, so "
            "nothing can be learned from it: choose an auxiliary dataset with pixel-level masks"
        )
    return batch.masks


def domains_of(dataset: Dataset, samples: Sequence[Sample]) -> list[Domain]:
    """The domain of each sample; in a union that of the dataset that the sample is from."""
    if isinstance(dataset, Union):
        return [dataset.part_of(sample).domain for sample in samples]
    return [dataset.domain] * len(samples)


def reads_images(method: TrainableMethod, stage: Stage) -> bool:
    """Whether a stage's loss reads `Query.images`."""
    return method.needs_images if stage.needs_images is None else stage.needs_images


def changes_images(stage: Stage) -> bool:
    """Whether training images differ from epoch to epoch."""
    return stage.schedule.augments or stage.schedule.augments_images


def mosaic_partners(method: TrainableMethod, stage: Stage) -> int:
    """P, the other images that come with each training image."""
    return method.mosaic_partners if stage.schedule.augments else 0


def _with_partners(
    class_names: Sequence[str],
    order: Sequence[int],
    batch_size: int,
    count: int,
    generator: torch.Generator,
) -> list[list[int]]:
    """The batches of an epoch, each followed by its mosaic partners, drawn with replacement.

    Args:
        class_names: of all samples.
        order: of the samples.
        batch_size: without partners.
        count: partners of an image.
        generator: that they are drawn from.
    """
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


def _read_ahead(batches: Batches) -> Batches:
    """The same batches, each read while the one before is learned from."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _chunks(order: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(order), size):
        yield list(order[start : start + size])
