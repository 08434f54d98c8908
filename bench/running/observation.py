"""What a run shows to methods that see more of their target than the image that they score."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from ..at_once import AtOnce
from ..category import KeptImages, observe
from ..data.loading import Batch, Readers, load_batches
from ..dataset import Dataset
from ..method import Method, Query
from ..progress import Progress
from ..scratch import Scratch
from ..training.references import normal_references, shots_of
from .plan import Plan


@dataclass
class KeptBatches:
    """The batches of a category, encoded once, for methods that observe it before they answer.

    Attributes:
        images: room for all of them.
        batches: with the masks and the images that are kept.
    """

    scratch: Scratch
    images: KeptImages
    batches: list[Batch] = field(default_factory=list)

    @classmethod
    def with_room_for(cls, count: int) -> KeptBatches:
        """Room for so many images, in memory and on disk."""
        scratch = Scratch()
        return cls(scratch, KeptImages(count, scratch))

    def add(self, query: Query, batch: Batch) -> None:
        """Keep a batch and what was encoded of it; the query holds the images."""
        self.images.add(query)
        masks = batch.masks
        if masks is not None:
            masks = self.scratch.zeros(masks.shape, masks.dtype).copy_(masks)
        self.batches.append(dataclasses.replace(batch, masks=masks, images=torch.empty(0)))

    def seen_by(self, method: Method) -> Iterator[tuple[Query, Batch]]:
        """The batches as a method sees them, kept tensors and no copies, and as they were read."""
        for query, batch in zip(self.images.batches(), self.batches, strict=True):
            assert query.images is not None
            yield query.seen_by(method), dataclasses.replace(batch, images=query.images)


def show_references(
    method: Method,
    dataset: Dataset,
    category: str,
    plan: Plan,
    progress: Progress,
    at_once: AtOnce,
) -> list[str]:
    """Let a few-shot or full-shot method observe normal training images of a category.

    Args:
        method: that observes.
        dataset: to read from.
        category: of it.
        plan: says how many processes read.
        progress: asked before each batch whether to stop.
        at_once: how many images are encoded together.

    Returns:
        What a record says of memory that ran out while the method observed them.

    Raises:
        DataError: there are too few, one is a test image, or one cannot be read; names the dataset
            and the fix.
    """
    chosen = normal_references(
        dataset, category, shots_of(type(method), method.options), method.seed
    )
    kept = KeptImages(len(chosen))
    domain, description = dataset.domain, dataset.description(category)

    def encode(batch: Batch) -> Query:
        told = [domain] * len(batch), [description] * len(batch)
        return Query.encoded(method, batch.images, batch.class_names, *told)

    for batch in load_batches(
        dataset,
        chosen,
        method.preprocess,
        method.map_size,
        at_once.images,
        Readers(plan.workers, method.backbone.device),
    ):
        progress.check()
        for _, query in at_once.each(batch, encode):
            kept.add(query)
    return observe(method, kept, progress.check)
