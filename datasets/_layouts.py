"""Families of folder trees that datasets come in, and the dataset class that tries them in turn."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from ..bench.errors import DataError, UsageError, unknown_name
from ..bench.sample import Box, Dataset, LayoutError, Sample, Split, is_debris, is_folder, locate
from ._splits import NormalSplit

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})
NORMAL_FOLDERS = frozenset({"good", "ok", "normal"})
MASK_FOLDERS = ("ground_truth", "groundtruth", "ground truth", "gt", "masks", "mask")


# --- looking at folders ---------------------------------------------------------------------------


def list_images(folder: Path) -> list[Path]:
    """Image files of one folder by suffix (any case), sorted by name; nothing is opened."""
    try:
        with os.scandir(folder) as entries:
            names = [
                e.name
                for e in entries
                if not is_debris(e.name)
                and os.path.splitext(e.name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 (speed)
                and not is_folder(e)
            ]
    except OSError as error:
        raise DataError(f"folder {folder} cannot be listed ({error})") from error
    return [folder / name for name in sorted(names)]


def subfolders(folder: Path | None) -> dict[str, Path]:
    """Folders in a folder, by lower-case name, sorted; hidden ones are left out."""
    if folder is None:
        return {}
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if is_folder(e) and not is_debris(e.name))
    except OSError:
        return {}
    return {name.lower(): folder / name for name in names}


def child(folder: Path | None, *names: str) -> Path | None:
    """The first subfolder that bears one of the names, in any case."""
    if folder is None:
        return None
    found = subfolders(folder)
    return next((found[name] for name in names if name in found), None)


def descend(folder: Path | None, *names: str) -> Path | None:
    """Follow a path of lower-case folder names, in any case."""
    place = folder
    for name in names:
        place = child(place, name)
    return place


def find_file(folder: Path, *names: str) -> Path | None:
    """The first file of a folder that bears one of the lower-case names, in any case."""
    try:
        with os.scandir(folder) as entries:
            found = {e.name.lower(): e.name for e in entries if not is_folder(e)}
    except OSError:
        return None
    return next((folder / found[name] for name in names if name in found), None)


# --- what a layout hands over ---------------------------------------------------------------------


@dataclass
class Listing:
    """What was found in a dataset's folder.

    Attributes:
        samples: of both splits.
        notes: what is worth knowing and right, such as a folder that is left out.
        faults: what is wrong and no obstacle, such as a mask without an image.
        gaps: what makes the set unusable unless the user wants it skipped: an anomalous image
            without a mask, a listed image without a file.
    """

    samples: list[Sample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)


def few(items: Iterable[object], limit: int = 3) -> str:
    """The first items in words, and how many more there are."""
    texts = [str(item) for item in items]
    more = f" and {len(texts) - limit} more" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


class Layout(ABC):
    """One way in which a dataset lies on disk."""

    key: str

    @abstractmethod
    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """How surely `folder` is of this layout: 0 no, 1 by its shape, 2 by names it holds."""

    @abstractmethod
    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """All samples below a folder that matches.

        Raises:
            DataError: a file that the layout needs is missing or broken.
        """


class LaidOutDataset(Dataset):
    """A dataset that lies on disk in one of several layouts.

    Attributes:
        layouts: tried in order; the surest match wins, the earlier one of equals.
        open_categories: categories that the class does not know are taken as they are found.
    """

    layouts: ClassVar[Sequence[Layout]] = ()
    open_categories: ClassVar[bool] = False
    option_defaults: ClassVar[Mapping[str, Any]] = {
        **Dataset.option_defaults,
        "layout": None,
        "categories": None,
        "missing": "refuse",
    }

    def __init__(self, root: Path | str | None = None, **options: Any) -> None:
        super().__init__(root, **options)
        if self.options["missing"] not in ("refuse", "skip"):
            raise UsageError(f"missing is 'refuse' or 'skip', not '{self.options['missing']}'")
        for name in ("layout", "class_name", "split_list"):
            if not isinstance(self.options.get(name), str | Path | None):
                raise UsageError(f"{name} of {self.name} is text, not {self.options[name]!r}")
        keys = [layout.key for layout in self.layouts]
        if self.options["layout"] not in (None, *keys):
            raise unknown_name(f"layout of {self.name}", str(self.options["layout"]), keys)
        self._listing: Listing | None = None
        self._fault: DataError | None = None
        try:
            self.root = self.find_root(root)
        except DataError as fault:  # told when samples are asked for
            self._fault = fault

    @classmethod
    def open(cls, root: Path | str | None = None, **options: Any) -> Self:
        """See `Dataset.open`: what the constructor puts off is told at once."""
        dataset = cls(root, **options)
        if dataset._fault is not None:
            raise dataset._fault
        return dataset

    @classmethod
    def find_root(cls, root: Path | str | None) -> Path:
        """The dataset's own folder.

        Raises:
            DataError: it is not at or below `root`.
        """
        if root is None:
            raise DataError(
                f"{cls.title} needs a folder: point --data-root at the one that holds it "
                f"(from {cls.source.page or 'your own files'})"
            )
        return locate(cls, root)

    @classmethod
    def match(cls, folder: Path) -> int:
        """See `Dataset.match`: the surest of the layouts."""
        return max((layout.match(folder, cls) for layout in cls.layouts), default=0)

    def samples(self, split: Split = "test") -> list[Sample]:
        """See `Dataset.samples`. A set without a train part has an empty one."""
        if split not in ("train", "test"):
            raise UsageError(f"a split is 'train' or 'test', not '{split}'")
        return [sample for sample in self.listing().samples if sample.split == split]

    def layout_found(self) -> str:
        """See `Dataset.layout_found`."""
        return self._layout().key

    def listing(self) -> Listing:
        """All samples, sorted by category and path, and what was odd; listed once.

        Raises:
            DataError: the folder is missing, empty, or something in it does not fit.
        """
        if self._listing is None:
            self._listing = self._list()
        return self._listing

    def notes(self) -> list[str]:
        """See `Dataset.notes`."""
        return list(self.listing().notes)

    def faults(self) -> list[str]:
        """See `Dataset.faults`."""
        return list(self.listing().faults)

    def category_named(self, text: str) -> str | None:
        """The category that a folder name or a csv cell means, None for an unknown one."""
        by_name = {_squeeze(known): known for known in self.categories}
        found = by_name.get(_squeeze(text))
        return text if found is None and self.open_categories else found

    def only_category(self) -> str:
        """The category of a set that has one."""
        return next(iter(self.categories), self.name)

    def sample(
        self,
        image: Path,
        label: int,
        category: str,
        *,
        anomaly_type: str = "good",
        split: Split = "test",
        masks: Sequence[Path] = (),
        crop: Box | None = None,
    ) -> Sample:
        """A sample of this dataset, with the class name that the options ask for."""
        return Sample(
            image,
            label,
            category,
            self.class_name(category),
            masks[0] if masks else None,
            anomaly_type,
            split,
            crop,
            tuple(masks[1:]),
        )

    def _layout(self) -> Layout:
        if self._fault is not None:
            raise self._fault
        wanted = self.options["layout"]
        fitting = [
            (-layout.match(self.root, type(self)), rank, layout)
            for rank, layout in enumerate(self.layouts)
            if wanted in (None, layout.key)
        ]
        sureness, _, layout = min(fitting, key=lambda entry: entry[:2])
        if sureness == 0:
            known = wanted or ", ".join(layout.key for layout in self.layouts)
            raise LayoutError(
                f"{self.root} is not {self.title} in a layout that is known ({known}); "
                f"expected is\n{self.source.tree}"
            )
        return layout

    def _list(self) -> Listing:
        layout = self._layout()
        found = layout.index(self.root, self)
        if found.gaps and self.options["missing"] == "refuse":
            raise DataError(
                f"{self.title} in {self.root} is incomplete: {few(found.gaps)}; complete the copy, "
                "or leave those images out with --dataset-option "
                f"{self.name.replace('_', '-')}.missing=skip"
            )
        found.faults += [f"left out: {gap}" for gap in found.gaps]
        rank = {category: position for position, category in enumerate(self.categories)}
        found.samples.sort(
            key=lambda s: (
                rank.get(s.category, len(rank)),
                s.category,
                str(s.image_path),
                s.crop or (),
            )
        )
        found.samples = self._chosen(found.samples)
        self._refuse_useless(found)
        for note in found.notes:
            logger.info("%s: %s", self.title, note)
        for fault in found.faults:
            logger.warning("%s: %s", self.title, fault)
        return found

    def _refuse_useless(self, found: Listing) -> None:
        """No image, or no anomalous one in a category: nothing could be measured."""
        tested = Counter(s.category for s in found.samples if s.split == "test")
        anomalous = Counter(s.category for s in found.samples if s.split == "test" and s.label == 1)
        why = f" ({len(found.gaps)} gaps, {few(found.gaps, 1)})" if found.gaps else ""
        if not tested:
            raise DataError(
                f"{self.title} in {self.root} has no test image{why}; expected is\n"
                f"{self.source.tree}"
            )
        for category in dict.fromkeys(s.category for s in found.samples):
            lacks = None if anomalous[category] else "anomalous test image"
            lacks = lacks if tested[category] else "test image"
            if lacks is not None:
                raise DataError(
                    f"category '{category}' of {self.title} in {self.root} has no {lacks}{why}, "
                    "so nothing can be measured: complete it or remove its folder"
                )

    def _chosen(self, samples: list[Sample]) -> list[Sample]:
        """The samples of the categories that the option `categories` keeps."""
        wanted = self.options["categories"]
        if wanted is None:
            return samples
        there = {_squeeze(s.category): s.category for s in samples}
        keep: set[str] = set()
        for name in _names_in(wanted, there):
            if _squeeze(name) in there:
                keep.add(there[_squeeze(name)])
            elif self.category_named(name) in self.categories:
                raise DataError(
                    f"category '{name}' of {self.title} is not in {self.root}, which has "
                    f"{few(there.values(), 20)}"
                )
            else:
                raise unknown_name(f"category of {self.title}", name, there.values())
        return [sample for sample in samples if sample.category in keep]


def _names_in(wanted: Any, there: Container[str]) -> list[str]:
    """The categories that an option names: a list, or text with commas.

    Raises:
        UsageError: it is neither, or empty.
    """
    if isinstance(wanted, str):
        wanted = [wanted] if _squeeze(wanted) in there else wanted.split(",")
    good = isinstance(wanted, list | tuple) and all(isinstance(name, str) for name in wanted)
    names = [name.strip() for name in wanted if name.strip()] if good else []
    if not names:
        raise UsageError(f"categories is a list of names, as in categories=a,b, not {wanted!r}")
    return names


class SplitDataset(LaidOutDataset):
    """A dataset whose normal images are divided by the seeded rule of `NormalSplit`."""

    option_defaults: ClassVar[Mapping[str, Any]] = {
        **LaidOutDataset.option_defaults,
        "normal_test_fraction": 0.25,
        "split_seed": 42,
        "split_list": None,
    }
    count_options: ClassVar[Set[str]] = frozenset({"normal_test_fraction", "split_list"})

    def divide(self, normals: Sequence[Sample]) -> list[Sample]:
        """The normal samples with their splits; their order decides who goes where."""
        listed = self.options["split_list"]
        rule = NormalSplit(
            self.options["normal_test_fraction"],
            self.options["split_seed"],
            None if listed is None else Path(listed),
        )
        names = [sample.name(self.root) for sample in normals]
        tested, trained = rule.divide(normals, names)
        return [replace(s, split="test") for s in tested] + [
            replace(s, split="train") for s in trained
        ]


def _squeeze(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


# --- masks ----------------------------------------------------------------------------------------


def pair_masks(
    images: Sequence[Path], masks: Sequence[Path], endings: Sequence[str], found: Listing
) -> dict[Path, Path]:
    """The mask of each image by stem; what is left over goes to `found`.

    Args:
        images: anomalous images; all of them should have a mask.
        masks: the files to choose from.
        endings: what a mask's stem may add to the image's, in order of preference ("_mask", "").
        found: takes a gap for each image without a mask and a fault for masks without an image.
    """
    by_stem: dict[tuple[int, str], Path] = {}
    for mask in masks:
        stem = mask.stem.lower()
        for preference, ending in enumerate(endings):
            if stem.endswith(ending.lower()):
                by_stem[preference, stem[: len(stem) - len(ending)]] = mask
    pairs: dict[Path, Path] = {}
    for image in images:
        keys = [(i, image.stem.lower()) for i in range(len(endings))]
        chosen = next((by_stem[key] for key in keys if key in by_stem), None)
        if chosen is None:
            found.gaps.append(f"no mask for image {image}")
        else:
            pairs[image] = chosen
    used = set(pairs.values())
    unused = [mask for mask in masks if mask not in used]
    if unused:
        found.faults.append(f"{len(unused)} masks have no image: {few(unused)}")
    return pairs


# --- the families ---------------------------------------------------------------------------------


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
        known = {_squeeze(category) for category in dataset.categories}
        trees = [name for name, path in inside.items() if "test" in subfolders(path)]
        if any(_squeeze(name) in known for name in trees):
            return 2
        return 1 if trees and (dataset.open_categories or len(known) == 1) else 0

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
        trees = {path.name: path for path in inside.values() if "test" in subfolders(path)}
        for name, path in trees.items():
            category = dataset.category_named(name)
            if category is None and len(dataset.categories) == 1:
                category = dataset.only_category()
            if category is None:
                found.notes.append(f"folder {path} is no category of the dataset and was left out")
            else:
                self._list_category(path, category, dataset, found)
        for name, path in inside.items():
            if path.name not in trees and dataset.category_named(name) in dataset.categories:
                raise DataError(f"category folder {path} has no test folder in it")
        return found

    def _list_category(
        self, folder: Path, category: str, dataset: LaidOutDataset, found: Listing
    ) -> None:
        truth = child(folder, *MASK_FOLDERS)
        splits: tuple[Split, ...] = ("train", "test")
        for split in splits:
            for kind, place in subfolders(child(folder, split)).items():
                images = list_images(place)
                if kind in NORMAL_FOLDERS:
                    found.samples += [
                        dataset.sample(image, 0, category, split=split) for image in images
                    ]
                    continue
                if not images:
                    raise DataError(f"folder {place} holds no image: complete or remove it")
                masks: dict[Path, Path] = {}
                if dataset.has_masks and split == "test":
                    drawn = child(truth, kind)
                    masks = pair_masks(
                        images, list_images(drawn) if drawn else [], self.mask_endings, found
                    )
                    images = [image for image in images if image in masks]
                found.samples += [
                    dataset.sample(
                        image,
                        1,
                        category,
                        anomaly_type=place.name,
                        split=split,
                        masks=[masks[image]] if image in masks else [],
                    )
                    for image in images
                ]
        tested = subfolders(child(folder, "test"))
        for kind in subfolders(truth) if dataset.has_masks else {}:
            if kind not in tested and kind not in NORMAL_FOLDERS:
                found.faults.append(f"masks in {truth}/{kind} have no images in test/{kind}")


@dataclass(frozen=True)
class LabelFolders(Layout):
    """Two folders, one of normal and one of anomalous images, without masks."""

    normal: tuple[str, ...]
    anomalous: tuple[str, ...]
    key: str = "folders"

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`: by shape only, such folders may be anybody's."""
        inside = subfolders(folder)
        return int(
            any(n in inside for n in self.normal) and any(n in inside for n in self.anomalous)
        )

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = Listing()
        for label, names in ((0, self.normal), (1, self.anomalous)):
            place = child(folder, *names)
            images = list_images(place) if place else []
            if not images:
                raise DataError(
                    f"{dataset.title}: folder {place or folder / names[0]} holds no image"
                )
            found.samples += [
                dataset.sample(
                    image,
                    label,
                    dataset.only_category(),
                    anomaly_type=names[0] if label else "good",
                )
                for image in images
            ]
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
                dataset.sample(
                    image,
                    1,
                    dataset.only_category(),
                    anomaly_type="anomaly",
                    split=split,
                    masks=[masks[image]],
                )
                for image in images
                if image in masks
            ]
        return found


IMAGES_AND_MASKS = PairFolders(("images", "image"), ("masks", "mask"))
"""The tree that copies of segmentation sets come in, whatever the official archive looks like."""


def _either(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of several folders, each a name or a path of names in lower case."""
    found = (descend(folder, *name.split("/")) for name in names)
    return next((path for path in found if path is not None), None)
