"""Families of folder trees that datasets come in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bench.dataset import SPLITS, Split
from ..bench.errors import DataError
from ..bench.names import registry_name
from ._folders import *  # noqa: F403 (datasets of earlier versions import them from here)
from ._folders import (
    child,
    descend,
    lacking,
    lacking_folders,
    list_images,
    refuse_unreadable,
    subfolders,
    unreadable,
)
from ._laid_out import *  # noqa: F403
from ._laid_out import LaidOutDataset
from ._listing import Layout, Listing
from ._masks import *  # noqa: F403
from ._masks import normal_masks, pair_masks
from ._meta import MetaJson

NORMAL_FOLDERS = frozenset({"good", "ok", "normal"})
GROUND_TRUTH = ("ground_truth", "groundtruth", "ground truth", "ground-truth", "gt")
MASK_FOLDERS = (*GROUND_TRUTH, "masks", "mask")


@dataclass(frozen=True)
class CategoryTrees(Layout):
    """MVTec AD's tree: <category>/{train,test}/<normal or kind of defect>, ground_truth/<kind>.

    A folder that holds test/ itself is one category. Masks are paired by stem.
    """

    key: str = "tree"
    mask_endings: tuple[str, ...] = ("_mask", "", "_segmentation", "_label")

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`: 2 if a category that the dataset knows has a test folder."""
        inside = subfolders(folder)
        if "test" in inside:
            parts = subfolders(inside["test"])
            normal = any(name in NORMAL_FOLDERS for name in parts)
            return int(normal or len(parts) > 1 or (bool(parts) and "ground_truth" in inside))
        trees = {path for path in inside.values() if "test" in subfolders(path)}
        if trees.intersection(dataset.known_folders(folder)):
            return 2
        return 1 if trees and (dataset.open_categories or len(dataset.categories) == 1) else 0

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = Listing()
        inside = subfolders(folder)
        if "test" in inside:
            category = dataset.category_named(folder.resolve().name)
            single = len(dataset.categories) == 1 or category is None
            self._list_category(
                folder, dataset.only_category() if single else str(category), dataset, found
            )
            return found
        taken: dict[str, Path] = {}
        for path in inside.values():
            category = dataset.category_named(path.name)
            if "test" in subfolders(path):
                if category is None and len(dataset.categories) == 1:
                    category = dataset.only_category()
                if category is None:
                    found.notes.append(
                        f"folder {path} is not a category of the dataset and was left out"
                    )
                    continue
                earlier = taken.setdefault(registry_name(category), path)
                if earlier != path:
                    raise DataError(
                        f"folders {earlier} and {path} are the same category: rename one"
                    )
                found.add_category(path, category, dataset, self._list_category)
            elif why := unreadable(path):
                if category is None:
                    found.faults.append(f"folder {path} cannot be read ({why}) and was left out")
                else:
                    found.add_category(path, category, dataset, self._list_category)
            elif category and category in dataset.categories and dataset.may_choose(category):
                raise DataError(f"category folder {path} has no test folder in it")
        return found

    def _list_category(
        self, folder: Path, category: str, dataset: LaidOutDataset, found: Listing
    ) -> None:
        truth = child(folder, *MASK_FOLDERS)
        refuse_unreadable(child(folder, "train"), child(folder, "test"), truth)
        for split in SPLITS:
            for kind, place in subfolders(child(folder, split)).items():
                images = list_images(place)
                drawn = child(truth, kind) if dataset.has_masks and split == "test" else None
                if kind in NORMAL_FOLDERS:
                    found.samples += [
                        dataset.sample(image, 0, category, split=split) for image in images
                    ]
                    if drawn is not None:
                        found.normal_masks |= normal_masks(
                            images, list_images(drawn), self.mask_endings
                        )
                    continue
                if not images:
                    raise DataError(f"folder {place} holds no image: complete or remove it")
                masks: dict[Path, Path] = {}
                if dataset.has_masks and split == "test":
                    if drawn is None:
                        where = (truth or folder / MASK_FOLDERS[0]) / place.name
                        found.gaps.append(
                            f"folder {place} of {len(images)} images has no folder of masks {where}"
                        )
                    else:
                        masks = pair_masks(images, list_images(drawn), self.mask_endings, found)
                    images = [image for image in images if image in masks]
                found.samples += [
                    dataset.sample(
                        image,
                        1,
                        category,
                        anomaly_type=place.name,
                        split=split,
                        masks=[masks.get(image)],
                    )
                    for image in images
                ]
        tested = subfolders(child(folder, "test"))
        for kind in subfolders(truth) if dataset.has_masks else {}:
            if kind not in tested and kind not in NORMAL_FOLDERS:
                found.faults.append(f"masks in {truth}/{kind} have no images in test/{kind}")


@dataclass(frozen=True)
class LabelFolders(Layout):
    """Two folders, one of normal and one of anomalous images, without masks.

    Attributes:
        normal, anomalous: lower-case names of the two folders.
        inner: names of a folder in each that holds the images, if the layout has one.
        kind: the type of the anomalies; "" is the first name of their folder.
        certain: the names alone tell the dataset.
    """

    normal: tuple[str, ...]
    anomalous: tuple[str, ...]
    key: str = "folders"
    inner: tuple[str, ...] = ()
    kind: str = ""
    certain: bool = False

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`: by shape only unless the names are the dataset's own."""
        both = child(folder, *self.normal) and child(folder, *self.anomalous)
        return (2 if self.certain else 1) if both else 0

    def lacks(self, folder: Path, dataset: type[LaidOutDataset]) -> str:
        """See `Layout.lacks`."""
        return lacking_folders(folder, self.normal, self.anomalous)

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = Listing()
        for label, names in ((0, self.normal), (1, self.anomalous)):
            outer = child(folder, *names)
            place = child(outer, *self.inner) or outer
            images = list_images(place) if place else []
            if not images:
                raise DataError(
                    f"{dataset.title}: folder {place or folder / names[0]} holds no image"
                )
            kind = (self.kind or names[0]) if label else None
            part = [dataset.sample(image, label, anomaly_type=kind) for image in images]
            found.samples += part if label else dataset.divide(part)
        return found


@dataclass(frozen=True)
class PairFolders(Layout):
    """A folder of anomalous images and one of their masks, paired by stem; no normal images.

    Attributes:
        images, masks: lower-case names of the two folders; a name may be a path.
        train_images, train_masks: the same for the train split, if the layout has one.
        certain: the names alone tell the dataset.
    """

    images: tuple[str, ...]
    masks: tuple[str, ...]
    train_images: tuple[str, ...] = ()
    train_masks: tuple[str, ...] = ()
    key: str = "pairs"
    mask_endings: tuple[str, ...] = ("", "_mask", "_segmentation")
    certain: bool = False

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`."""
        both = _either(folder, self.images) and _either(folder, self.masks)
        return (2 if self.certain else 1) if both else 0

    def lacks(self, folder: Path, dataset: type[LaidOutDataset]) -> str:
        """See `Layout.lacks`."""
        sides = (self.images, self.masks)
        return lacking({f"folder {names[0]}": _either(folder, names) for names in sides})

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = Listing()
        parts: tuple[tuple[Split, tuple[str, ...], tuple[str, ...]], ...] = (
            ("test", self.images, self.masks),
            ("train", self.train_images, self.train_masks),
        )
        for split, image_names, mask_names in parts:
            place, drawn = _either(folder, image_names), _either(folder, mask_names)
            if place is None or drawn is None:
                continue
            inside = subfolders(place).values()
            images = list_images(place) or [i for below in inside for i in list_images(below)]
            if not images:
                raise DataError(f"{dataset.title}: folder {place} holds no image")
            masks = pair_masks(images, list_images(drawn), self.mask_endings, found)
            found.samples += [
                dataset.sample(image, 1, split=split, masks=[masks[image]])
                for image in images
                if image in masks
            ]
        return found


USUAL_LAYOUTS = (CategoryTrees(), MetaJson())
"""What copies of any dataset may lie in, beside the tree of its release."""
IMAGES_AND_MASKS = PairFolders(("images", "image"), ("masks", "mask"))
"""The tree that copies of segmentation sets have, however the official archive looks."""


def _either(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of several folders, each a name or a path of names in lower case."""
    found = (descend(folder, *name.split("/")) for name in names)
    return next((path for path in found if path is not None), None)
