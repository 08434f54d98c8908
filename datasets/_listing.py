"""What a layout is, and what it finds in a dataset's folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..bench.dataset import Sample
from ._folders import UnreadableFolder, few, refuse_unreadable

if TYPE_CHECKING:
    from ._laid_out import LaidOutDataset

    Index = Callable[[Path, str, LaidOutDataset, "Listing"], None]


@dataclass
class Listing:
    """What was found in a dataset's folder.

    Attributes:
        samples: of both splits.
        notes: what is worth knowing and right, such as a folder that is left out.
        faults: what is wrong and no obstacle, such as a mask without an image.
        gaps: what makes the set unusable unless the user wants it skipped: an anomalous image
            without a mask, a listed image without a file.
        normal_masks: masks of normal images, which should be empty.
        unreadable: category -> why it cannot be read, in words; none of its samples are listed.
        unchosen: categories that are there and that the option `categories` leaves out.
    """

    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    normal_masks: dict[Path, Path] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    unchosen: set[str] = field(default_factory=set)

    def tell_no_mask(self, image: Path) -> None:
        """An anomalous image has no mask."""
        self.gaps.append(f"no mask for image {image}")

    def tell_unused(self, masks: Collection[Path]) -> None:
        """Masks that belong to no image, if there are any."""
        if masks:
            self.faults.append(f"{len(masks)} masks have no image: {few(sorted(masks))}")

    def add_folder(self, folder: Path, dataset: LaidOutDataset, index: Index) -> None:
        """Add the category that a folder is named after, or a note that it is none.

        The arguments are those of `add_category`.
        """
        category = dataset.category_named(folder.name)
        if category is None:
            self.notes.append(f"folder {folder} is not a category of the dataset and was left out")
        else:
            self.add_category(folder, category, dataset, index)

    def add_category(
        self, folder: Path, category: str, dataset: LaidOutDataset, index: Index
    ) -> None:
        """Add a category's part of the listing, all of it or nothing.

        Args:
            folder: the category's.
            category: its name; one that was not chosen is not looked at.
            dataset: whose samples are listed.
            index: adds the samples of the folder to a listing. If it raises `UnreadableFolder`, the
                category is left out.
        """
        if not dataset.may_choose(category):
            self.unchosen.add(category)
            return
        part = Listing()
        try:
            refuse_unreadable(folder)
            index(folder, category, dataset, part)
        except UnreadableFolder as error:
            self.unreadable[category] = f"category {folder} cannot be read ({error})"
            return
        self.samples += part.samples
        self.notes += part.notes
        self.faults += part.faults
        self.gaps += part.gaps
        self.normal_masks |= part.normal_masks


class Layout(ABC):
    """One way in which a dataset lies on disk.

    Attributes:
        key: what the option `layout` calls it.
    """

    key: str = "official"

    @abstractmethod
    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """How surely `folder` is of this layout: 0 no, 1 by its shape, 2 by names it holds."""

    @abstractmethod
    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """All samples below a folder that matches.

        Raises:
            DataError: a file that the layout needs is missing or broken.
        """

    def lacks(self, folder: Path, dataset: type[LaidOutDataset]) -> str:
        """What a folder that holds a part of this layout lacks, in words; "" if it holds none."""
        return ""
