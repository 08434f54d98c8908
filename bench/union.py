"""Several datasets that a method is trained on as one, as AdaCLIP's MVTec AD and CVC-ColonDB."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .dataset import Dataset, Reading, Sample, Split
from .names import SEPARATOR


class Union(Dataset):
    """The samples of several opened datasets, in their order; each is read as its own does.

    Only to be learned from: it has no metrics of its own.

    Attributes:
        parts: the datasets.
    """

    name = "union"
    title = "Union"

    def __init__(self, parts: Sequence[Dataset]) -> None:
        super().__init__(_common_folder(parts))
        self.parts = tuple(parts)
        self.has_masks = all(part.has_masks for part in parts)
        self.mask_rule = parts[0].mask_rule
        self.options = {part.name: dict(part.options) for part in parts}
        domains = {part.domain for part in parts}
        vars(self).update(  # of a class otherwise, and of this object here
            name=SEPARATOR.join(part.name for part in parts),
            title=f" {SEPARATOR} ".join(part.title for part in parts),
            domain=parts[0].domain if len(domains) == 1 else "custom",
            categories={key: info for part in parts for key, info in part.categories.items()},
        )
        self._owners: dict[Sample, Dataset] = {}

    def samples(self, split: Split = "test") -> list[Sample]:
        """The samples of a split, dataset by dataset."""
        found: list[Sample] = []
        for part in self.parts:
            own = part.samples(split)
            self._owners.update(dict.fromkeys(own, part))
            found += own
        return found

    def read(self, sample: Sample) -> Reading:
        """As the dataset does that has listed the sample."""
        return self.part_of(sample).read(sample)

    def part_of(self, sample: Sample) -> Dataset:
        """The dataset that has listed a sample."""
        return self._owners[sample]


def _common_folder(parts: Sequence[Dataset]) -> Path:
    """The folder that all lie in, below which samples of equal names differ in their paths."""
    try:
        return Path(os.path.commonpath([part.root for part in parts]))
    except ValueError:  # an absolute folder and a relative one
        return Path()
