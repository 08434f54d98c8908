"""From samples on disk to batches of tensors, in order, read by worker processes if asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..dataset import Dataset, Reading, Sample
from ..errors import DataError, ZsadError, message_of
from ..images import resize_mask
from ..metrics.mask_regions import MaskRegions, regions_of
from ..names import display_name
from ..preprocess import Preprocess

LOG = logging.getLogger(__name__)
_HOST: Final = torch.device("cpu")

Change = Callable[[Sample, Reading], Reading]
"""What is done to a sample as it was read, in the process that reads it."""


@dataclass(frozen=True)
class Batch:
    """Samples as tensors, in the order that was asked for.

    Attributes:
        images: [B, 3, S, S] float32, normalised, or the shape that the preprocessing gives.
        labels: [B] int64, 0 normal, 1 anomalous.
        masks: [B, M, M] bool, True = anomalous ([B, H, W] where the dataset's rule resizes
            nothing); None where the samples have no pixel-level truth.
        class_names: B words for the prompts.
        names: B identities of the samples, for records.
        regions_lost: mask regions of the whole batch that vanished when masks were resized.
        warnings: what is odd about masks of the batch, a sentence each.
        regions: of each mask, where they were asked for.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor | None
    class_names: list[str]
    names: list[str]
    regions_lost: int
    warnings: tuple[str, ...] = ()
    regions: tuple[MaskRegions, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, images: slice) -> Batch:
        """Some of the samples; what is said of the whole batch stays with its first one."""
        first = not images.start
        return replace(
            self,
            images=self.images[images],
            labels=self.labels[images],
            masks=None if self.masks is None else self.masks[images],
            class_names=self.class_names[images],
            names=self.names[images],
            regions_lost=self.regions_lost if first else 0,
            warnings=self.warnings if first else (),
            regions=None if self.regions is None else self.regions[images],
        )

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory; the DataLoader calls this by its name."""
        masks = None if self.masks is None else self.masks.pin_memory()
        return replace(self, images=self.images.pin_memory(), masks=masks)


@dataclass(frozen=True)
class _Failure:
    """An error on its way out of a worker; raised there, it would come with torch's traceback."""

    message: str


@dataclass(frozen=True)
class _Reader:
    """Reads some samples as a batch; the loader calls it in its workers."""

    dataset: Dataset
    preprocess: Preprocess
    map_size: int
    with_masks: bool
    change: Change | None = None
    with_regions: bool = False

    def __call__(self, samples: Sequence[Sample]) -> Batch | _Failure:
        images: list[Tensor] = []
        masks: list[Tensor] = []
        warnings: list[str] = []
        regions_lost = 0
        for sample in samples:
            try:
                reading = self.dataset.read(sample)
                if self.change is not None:
                    reading = self.change(sample, reading)
                if self.with_masks and reading.mask is not None:
                    rule = self.dataset.mask_rule
                    resized, lost = resize_mask(reading.mask, self.map_size, rule)
                    masks.append(torch.from_numpy(np.array(resized, dtype=bool)))
                    regions_lost += lost
                images.append(self.preprocess(reading.image))
            except ZsadError as error:
                return _Failure(str(error))
            except OSError as error:
                return _Failure(f"image {sample.image_path} cannot be read ({error})")
            warnings += reading.warnings
        if len({mask.shape for mask in masks}) > 1:
            return _Failure(
                "masks that are not resized (mask_resize=none) need images of one size in a batch: "
                "use batch size 1"
            )
        whole = len(masks) == len(samples)
        return Batch(
            images=torch.stack(images),
            labels=torch.tensor([sample.label for sample in samples]),
            masks=torch.stack(masks) if whole else None,
            class_names=[sample.class_name for sample in samples],
            names=[sample.name(self.dataset.root) for sample in samples],
            regions_lost=regions_lost,
            warnings=tuple(warnings),
            regions=tuple(regions_of(mask.numpy()) for mask in masks)
            if self.with_regions and whole
            else None,
        )


@dataclass(frozen=True)
class Readers:
    """What reads batches, which are the same whatever reads them.

    Attributes:
        workers: processes that read ahead; 0 reads in this one.
        device: where the batches are used; what a GPU fetches lies in page-locked memory.
    """

    workers: int = 0
    device: torch.device = _HOST


def load_batches(
    dataset: Dataset,
    samples: Sequence[Sample],
    preprocess: Preprocess,
    map_size: int,
    batch_size: int = 8,
    readers: Readers = Readers(),
    change: Change | None = None,
    label_regions: bool = False,
) -> Iterator[Batch]:
    """Read samples in their order, as batches; the last one may be smaller.

    Args:
        dataset: reads the samples; its mask rule says how masks are resized.
        samples: what to read, in the order in which it is wanted.
        preprocess: from the image to the backbone's input.
        map_size: side of the masks, which is that of the anomaly maps they are compared with.
        batch_size: images in a batch.
        readers: how many processes, and for which device.
        change: what is done to image and mask before they are resized.
        label_regions: give the regions of the masks, labelled where they are read.

    Raises:
        DataError: an image or a mask is missing or broken (the message names the file), or the
            mask rule is "none" and the images of a batch differ in size.
    """
    with_masks = dataset.has_masks and not _lacks_masks(dataset, samples)
    loader: DataLoader[Any] = DataLoader(
        samples,  # type: ignore[arg-type]  # a list is a dataset to torch, but not to its types
        batch_size=batch_size,
        num_workers=readers.workers,
        collate_fn=_Reader(dataset, preprocess, map_size, with_masks, change, label_regions),
        pin_memory=readers.device.type == "cuda",
        # Without its own generator the loader draws from torch's generator, so that reading would
        # change what a method draws.
        generator=torch.Generator(),
    )
    try:
        for batch in loader:
            if isinstance(batch, _Failure):
                raise DataError(batch.message)
            yield batch
    except RuntimeError as error:
        if not is_death_of_reader(error):
            raise
        raise death_of_reader(dataset, error) from error


def is_death_of_reader(error: BaseException) -> bool:
    """Whether an error says that a reading process died.

    The loader raises it from a signal handler, so it can come up in any code.
    """
    return isinstance(error, RuntimeError) and "DataLoader worker" in message_of(error)


def death_of_reader(dataset: Dataset, error: BaseException) -> DataError:
    """The same error as one line with the fix."""
    return DataError(
        f"a process that reads images of {display_name(dataset.name)} died ({message_of(error)}): "
        "read with --workers 0, or give the processes more memory"
    )


def _lacks_masks(dataset: Dataset, samples: Sequence[Sample]) -> bool:
    """Whether anomalous samples come without masks, so that pixels have no full truth."""
    anomalous = [sample for sample in samples if sample.label == 1]
    lacking = [sample for sample in anomalous if not sample.mask_paths]
    if lacking and len(lacking) < len(anomalous):
        LOG.warning(
            "%d of %d anomalous images of %s have no mask (%s is one): masks are left out",
            len(lacking),
            len(anomalous),
            display_name(dataset.name),
            lacking[0].image_path,
        )
    return bool(lacking)
