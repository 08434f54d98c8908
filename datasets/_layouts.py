"""Families of folder trees that datasets come in, and the dataset class that tries them in turn."""

from __future__ import annotations

import logging
import os
import stat
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from ..bench.dataset import (
    Box,
    Dataset,
    Reading,
    Sample,
    Split,
)
from ..bench.errors import DataError, LayoutError, UsageError, unknown_name
from ..bench.folders import folders_in, is_debris, is_folder
from ..bench.images import read_mask
from ..bench.names import display_name, registry_name
from ._splits import NormalSplit

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})
NORMAL_FOLDERS = frozenset({"good", "ok", "normal"})
GROUND_TRUTH = ("ground_truth", "groundtruth", "ground truth", "ground-truth", "gt")
MASK_FOLDERS = (*GROUND_TRUTH, "masks", "mask")


# --- looking at folders ---------------------------------------------------------------------------


class UnreadableFolder(DataError):
    """A folder is there and cannot be listed."""

    def __init__(self, folder: Path, why: object) -> None:
        super().__init__(f"folder {folder} cannot be listed: {why}")


def list_images(folder: Path) -> list[Path]:
    """Image files of one folder by suffix (any case), sorted by name; nothing is opened.

    Raises:
        UnreadableFolder: the folder cannot be listed.
    """
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
        raise UnreadableFolder(folder, error.strerror or error) from error
    return [folder / name for name in sorted(names)]


def subfolders(folder: Path | None) -> dict[str, Path]:
    """Folders in a folder, by lower-case name, sorted; hidden ones are left out.

    Raises:
        LayoutError: two names differ only in case, so that they mean the same.
    """
    found: dict[str, Path] = {}
    for path in [] if folder is None else folders_in(folder):
        twin = found.setdefault(path.name.lower(), path)
        if twin != path:
            raise LayoutError(
                f"folders {twin} and {path} differ only in case: rename or remove one of them"
            )
    return found


def unreadable(folder: Path) -> str:
    """Why a folder cannot be listed, "" if it can."""
    try:
        with os.scandir(folder):
            return ""
    except OSError as error:
        return str(error.strerror or error)


def refuse_unreadable(*folders: Path | None) -> None:
    """Raise `UnreadableFolder` for the first that cannot be listed; None is no folder.

    `subfolders` finds nothing in such a folder, which would pass for an empty one.
    """
    for folder in folders:
        if folder is not None and (why := unreadable(folder)):
            raise UnreadableFolder(folder, why)


def lacking(parts: Mapping[str, Path | None]) -> str:
    """What is missing where some of a layout's parts are there; "" if all or none are."""
    there = [name for name, path in parts.items() if path is not None]
    absent = [name for name, path in parts.items() if path is None]
    if not there or not absent:
        return ""
    return f"it has {', '.join(there)}, but not {', '.join(absent)}"


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
    """The first regular file of a folder that has one of the lower-case names, in any case."""
    try:
        with os.scandir(folder) as entries:
            found = {e.name.lower(): e.name for e in entries if e.is_file()}
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

    def add_category(
        self,
        folder: Path,
        category: str,
        dataset: LaidOutDataset,
        index: Callable[[Path, str, LaidOutDataset, Listing], None],
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

    def lacks(self, folder: Path, dataset: type[LaidOutDataset]) -> str:
        """What a folder that holds a part of this layout lacks, in words; "" if it holds none."""
        return ""


class LaidOutDataset(Dataset):
    """A dataset that lies on disk in one of several layouts.

    Attributes:
        layouts: tried in order; the surest match wins, the earlier one of equals.
        open_categories: categories that the class does not know are taken as they are found.
        drops_useless: a category on which nothing can be measured is left out with a fault
            instead of being refused.
    """

    layouts: ClassVar[Sequence[Layout]] = ()
    needs_match: ClassVar[bool] = True
    open_categories: ClassVar[bool] = False
    drops_useless: ClassVar[bool] = False
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

    @classmethod
    def match(cls, folder: Path) -> int:
        """See `Dataset.match`: the surest of the layouts."""
        try:
            return max((layout.match(folder, cls) for layout in cls.layouts), default=0)
        except LayoutError:  # told when it is opened, if no other folder fits better
            return 1
        except OSError:  # a table that cannot be read: `_layout` says so
            return 1

    @classmethod
    def lacks(cls, folder: Path) -> str:
        """See `Dataset.lacks`: of the first layout that the folder holds a part of."""
        try:
            return next(filter(None, (layout.lacks(folder, cls) for layout in cls.layouts)), "")
        except LayoutError as error:
            return str(error)

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

    def read(self, sample: Sample) -> Reading:
        """See `Dataset.read`; a mask that a normal image should not have is looked at, too."""
        reading = super().read(sample)
        if self._listing is None or sample.label == 1 or not self.has_masks:
            return reading
        mask = self._listing.normal_masks.get(sample.image_path)
        if mask is None or not read_mask(mask, self.mask_rule).any():
            return reading
        told = f"mask {mask} of normal image {sample.image_path} is not empty and was not used"
        return replace(reading, warnings=(*reading.warnings, told))

    def category_named(self, text: str) -> str | None:
        """The category that a folder name or a csv cell means, None for an unknown one."""
        by_name = {registry_name(known): known for known in self.categories}
        found = by_name.get(registry_name(text))
        return text if found is None and self.open_categories else found

    def may_choose(self, category: str) -> bool:
        """Whether the option `categories` may name a category; layouts pass over the others."""
        wanted = self.options["categories"]
        if isinstance(wanted, str):  # a name may have a comma in it
            wanted = [wanted, *wanted.split(",")]
        if not isinstance(wanted, list | tuple):
            return True
        return registry_name(category) in {
            registry_name(name) for name in wanted if isinstance(name, str)
        }

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
        wanted = self.options["layout"]
        try:
            fitting = [
                (-layout.match(self.root, type(self)), rank, layout)
                for rank, layout in enumerate(self.layouts)
                if wanted in (None, layout.key)
            ]
        except OSError as error:
            raise self._unlisted(error) from error
        sureness, _, layout = min(fitting, key=lambda entry: entry[:2])
        if sureness == 0:
            known = wanted or ", ".join(layout.key for layout in self.layouts)
            if why := self.lacks(self.root):
                raise LayoutError(f"{self.root} is not a complete {self.title}: {why}")
            raise LayoutError(
                f"{self.root} is not {self.title} in a layout that is known ({known}); "
                f"expected is\n{self.source.tree}"
            )
        return layout

    def _list(self) -> Listing:
        layout = self._layout()
        try:
            found = layout.index(self.root, self)
        except OSError as error:
            raise self._unlisted(error) from error
        _drop_irregular(found)
        if found.gaps and self.options["missing"] == "refuse":
            raise DataError(
                f"{self.title} in {self.root} is incomplete: {few(found.gaps)}; complete the copy, "
                "or leave those images out with --dataset-option "
                f"{display_name(self.name)}.missing=skip"
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
        found.samples = self._chosen(found)
        found.faults += [f"{text} and was left out" for text in found.unreadable.values()]
        self._refuse_useless(found)
        found.faults += self.doubts(found)
        for note in found.notes:
            logger.info("%s: %s", self.title, note)
        for fault in found.faults:
            _warn_once(f"{self.title}: {fault}")
        return found

    def _unlisted(self, error: OSError) -> DataError:
        return DataError(f"{self.title} in {self.root} cannot be listed ({error})")

    def doubts(self, found: Listing) -> list[str]:
        """What is odd about a listing as a whole; further faults."""
        return []

    def _refuse_useless(self, found: Listing) -> None:
        """No image, or no anomalous one in a category: nothing could be measured."""
        tested = Counter(s.category for s in found.samples if s.split == "test")
        anomalous = Counter(s.category for s in found.samples if s.split == "test" and s.label == 1)
        why = f" ({len(found.gaps)} gaps, {few(found.gaps, 1)})" if found.gaps else ""
        useless: dict[str, str] = {}
        for category in dict.fromkeys(s.category for s in found.samples):
            lacks = None if anomalous[category] else "anomalous test image"
            lacks = lacks if tested[category] else "test image"
            if lacks is not None:
                useless[category] = (
                    f"category '{category}' of {self.title} in {self.root} has no {lacks}{why}, "
                    "so nothing can be measured"
                )
        if tested and useless and not self.drops_useless:
            raise DataError(f"{next(iter(useless.values()))}: complete it or remove its folder")
        if len(useless) == len({s.category for s in found.samples}):
            reasons = "".join(f"; {text}" for text in useless.values()) if tested else why
            reasons += "".join(f"; {text}" for text in found.unreadable.values())
            what = "no usable category" if tested else "no test image"
            raise DataError(
                f"{self.title} in {self.root} has {what}{reasons}; expected is\n{self.source.tree}"
            )
        found.faults += [f"left out: {text}" for text in useless.values()]
        found.samples = [s for s in found.samples if s.category not in useless]

    def _chosen(self, found: Listing) -> list[Sample]:
        """The samples of the categories that the option `categories` keeps."""
        wanted = self.options["categories"]
        if wanted is None:
            return found.samples
        listed = dict.fromkeys(s.category for s in found.samples)
        there = {registry_name(c): c for c in (*listed, *found.unreadable, *sorted(found.unchosen))}
        keep: set[str] = set()
        for name in _names_in(wanted, there):
            if registry_name(name) in there:
                keep.add(there[registry_name(name)])
            elif self.category_named(name) in self.categories:
                raise DataError(
                    f"category '{name}' of {self.title} is not in {self.root}, which has "
                    f"{few(there.values(), 20)}"
                )
            else:
                raise unknown_name(f"category of {self.title}", name, there.values())
        return [sample for sample in found.samples if sample.category in keep]


@lru_cache(maxsize=10_000)
def _warn_once(text: str) -> None:
    """Log a warning; a run opens a dataset several times."""
    logger.warning("%s", text)


def _drop_irregular(found: Listing) -> None:
    """Drop samples whose files are none that can be read, or whose names are not text."""
    checked: dict[Path, str] = {}
    kept: list[Sample] = []
    for sample in found.samples:
        for path in (sample.image_path, *sample.mask_paths):
            if path not in checked:
                checked[path] = _irregular(path)
                if checked[path]:
                    found.gaps.append(checked[path])
        if not any(checked[path] for path in (sample.image_path, *sample.mask_paths)):
            kept.append(sample)
    found.samples = kept


def _irregular(path: Path) -> str:
    """Why a path is not a file to read, "" if it is one."""
    try:
        str(path).encode("utf-8")
        mode = path.stat().st_mode
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        return f"the name of {shown} is not UTF-8: rename the file"
    except OSError as error:
        why = "is a link to nowhere" if path.is_symlink() else "cannot be reached"
        return f"{path} {why} ({error.strerror})"
    return "" if stat.S_ISREG(mode) else f"{path} is not a file but a pipe, socket or device"


def _names_in(wanted: Any, there: Container[str]) -> list[str]:
    """The categories that an option names: a list, or text with commas.

    Raises:
        UsageError: it is neither, or empty.
    """
    if isinstance(wanted, str):
        wanted = [wanted] if registry_name(wanted) in there else wanted.split(",")
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


# --- masks ----------------------------------------------------------------------------------------


def pair_masks(
    images: Sequence[Path],
    masks: Sequence[Path],
    endings: Sequence[str],
    found: Listing,
    roots: tuple[Path, Path] | None = None,
) -> dict[Path, Path]:
    """The mask of each image by stem, in any case; what is left over or odd goes to `found`.

    Args:
        images: anomalous images; all of them should have a mask.
        masks: the files to choose from.
        endings: what a mask's stem may add to the image's, in order of preference ("_mask", "").
        found: takes a gap for each image without a mask and a fault for masks without an image,
            for images that share a mask, and for stems that differ only in case.
        roots: folders that images and masks lie below; a mask in the subfolder of its image goes
            before others of its stem.

    Raises:
        DataError: an image has two masks, or images of different subfolders fit one mask.
    """
    by_stem: dict[str, list[Path]] = {}
    for mask in masks:
        by_stem.setdefault(mask.stem.lower(), []).append(mask)
    pairs: dict[Path, Path] = {}
    for image in images:
        stems = [image.stem + ending for ending in endings]
        named = (by_stem.get(stem.lower()) for stem in stems)
        fitting = next((some for some in named if some), [])
        near = [mask for mask in fitting if _same_place(image, mask, roots)] or fitting
        exact = [mask for mask in near if mask.stem in stems] or near
        if len(exact) > 1:
            raise _two_masks(image, exact)
        if exact:
            pairs[image] = exact[0]
        else:
            found.gaps.append(f"no mask for image {image}")
    _tell_shared(pairs, found)
    used = set(pairs.values())
    rivals = {(image.stem + ending): image for image in pairs for ending in endings}
    unused = [mask for mask in masks if mask not in used]
    for mask in unused:
        image_of = rivals.get(mask.stem)
        if image_of is not None and _same_place(image_of, mask, roots):
            raise _two_masks(image_of, [pairs[image_of], mask])
    if unused:
        found.faults.append(f"{len(unused)} masks have no image: {few(unused)}")
    return pairs


def _two_masks(image: Path, masks: Sequence[Path]) -> DataError:
    return DataError(f"image {image} has {len(masks)} masks, {few(masks)}: keep one of them")


def _same_place(image: Path, mask: Path, roots: tuple[Path, Path] | None) -> bool:
    """Whether a mask lies in the subfolder that its image lies in."""
    if roots is None:
        return True
    place = image.parent.relative_to(roots[0])
    return mask.parent.relative_to(roots[1]) in (place, Path(roots[0].name) / place)


def _tell_shared(pairs: Mapping[Path, Path], found: Listing) -> None:
    """Faults for images that share a mask, and for names that differ only in case."""
    by_mask: dict[Path, list[Path]] = {}
    by_name: dict[str, list[Path]] = {}
    for image, mask in pairs.items():
        by_mask.setdefault(mask, []).append(image)
        by_name.setdefault(str(image).lower(), []).append(image)
    for mask, images in by_mask.items():
        if len({image.parent for image in images}) > 1:
            raise DataError(f"mask {mask} fits {len(images)} images, {few(images)}: rename them")
        if len(images) > 1:
            found.faults.append(f"images {few(images)} share the mask {mask}")
    for images in by_name.values():
        if len(images) > 1:
            found.faults.append(f"images {few(images)} differ only in case")


def normal_masks(
    images: Sequence[Path], masks: Sequence[Path], endings: Sequence[str]
) -> dict[Path, Path]:
    """The masks that normal images have; they should be empty."""
    by_stem = {mask.stem.lower(): mask for mask in masks}
    pairs: dict[Path, Path] = {}
    for image in images:
        fitting = (by_stem.get((image.stem + ending).lower()) for ending in endings)
        mask = next((mask for mask in fitting if mask is not None), None)
        if mask is not None:
            pairs[image] = mask
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
        known = {registry_name(category) for category in dataset.categories}
        trees = [name for name, path in inside.items() if "test" in subfolders(path)]
        if any(registry_name(name) in known for name in trees):
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
        taken: dict[str, Path] = {}
        for name, path in trees.items():
            category = dataset.category_named(name)
            if category is None and len(dataset.categories) == 1:
                category = dataset.only_category()
            if category is None:
                found.notes.append(f"folder {path} is no category of the dataset and was left out")
                continue
            earlier = taken.setdefault(registry_name(category), path)
            if earlier != path:
                raise DataError(f"folders {earlier} and {path} are the same category: rename one")
            found.add_category(path, category, dataset, self._list_category)
        for path in inside.values():
            if path.name in trees:
                continue
            category, why = dataset.category_named(path.name), unreadable(path)
            if category is None:
                if why:
                    found.faults.append(f"folder {path} cannot be read ({why}) and was left out")
            elif why:
                found.add_category(path, category, dataset, self._list_category)
            elif category in dataset.categories and dataset.may_choose(category):
                raise DataError(f"category folder {path} has no test folder in it")
        return found

    def _list_category(
        self, folder: Path, category: str, dataset: LaidOutDataset, found: Listing
    ) -> None:
        truth = child(folder, *MASK_FOLDERS)
        refuse_unreadable(child(folder, "train"), child(folder, "test"), truth)
        splits: tuple[Split, ...] = ("train", "test")
        for split in splits:
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

    def lacks(self, folder: Path, dataset: type[LaidOutDataset]) -> str:
        """See `Layout.lacks`."""
        sides = (self.normal, self.anomalous)
        return lacking({f"folder {names[0]}": child(folder, *names) for names in sides})

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
