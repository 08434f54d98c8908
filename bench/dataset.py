"""What a dataset is made of: a Sample on disk, and the Dataset that lists Samples.

Contract for `datasets/`: a file holds one public subclass of `Dataset`; the folder is the registry.
"""

from __future__ import annotations

import hashlib
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .content import content_hashes
from .errors import DataError, UsageError, unknown_name
from .images import MaskRule, read_drawn_mask, read_picture
from .names import normalize_name

LOG = logging.getLogger(__name__)
Split = Literal["train", "test"]
Domain = Literal["industrial", "medical", "synthetic", "custom"]
MAX_FOLDERS = 20_000
"""A search for a dataset's folder gives up after so many: the data root is not a whole disk."""


class LayoutError(DataError):
    """A folder that should be a dataset's is in none of the layouts that are known."""


class Box(NamedTuple):
    """A piece of an image in pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Sample:
    """One image (or one piece of an image) on disk, with what is known about it.

    Attributes:
        image_path: the image file.
        label: 0 normal, 1 anomalous.
        category: the subset that metrics are computed over ("bottle").
        class_name: the word that prompts use for it ("bottle", "metal nut").
        mask_path: the pixel-level mask; None for a normal image or a set without masks.
        anomaly_type: "good" or the kind of defect.
        split: "train" or "test".
        crop: the piece of the image this sample is, None for the whole image.
        more_mask_paths: further masks whose union with `mask_path` is meant.
    """

    image_path: Path
    label: int
    category: str
    class_name: str
    mask_path: Path | None = None
    anomaly_type: str = "good"
    split: Split = "test"
    crop: Box | None = None
    more_mask_paths: tuple[Path, ...] = ()

    @property
    def mask_paths(self) -> tuple[Path, ...]:
        """All mask files of the sample; empty for a normal image."""
        return (() if self.mask_path is None else (self.mask_path,)) + self.more_mask_paths

    def name(self, root: Path) -> str:
        """The sample's identity in records: its path below `root`, and its piece if it is one."""
        try:
            path = self.image_path.relative_to(root).as_posix()
        except ValueError:
            path = self.image_path.name
        return path if self.crop is None else f"{path}[{','.join(map(str, self.crop))}]"


@dataclass(frozen=True)
class Counts:
    """Expected numbers of images of one category (or of a whole dataset); None is unknown."""

    test_normal: int | None = None
    test_anomalous: int | None = None
    train_normal: int | None = None
    train_anomalous: int | None = None

    @staticmethod
    def total(parts: Sequence[Counts]) -> Counts:
        """The sum of several; a number that is unknown in one part is unknown in the sum."""

        def add(values: list[int | None]) -> int | None:
            known = [value for value in values if value is not None]
            return sum(known) if values and len(known) == len(values) else None

        return Counts(
            add([part.test_normal for part in parts]),
            add([part.test_anomalous for part in parts]),
            add([part.train_normal for part in parts]),
            add([part.train_anomalous for part in parts]),
        )


@dataclass(frozen=True)
class CategoryInfo:
    """A subset of a dataset as the paper averages it.

    Attributes:
        official_name: the string the released codes put in prompts ("metal_nut").
        readable_name: the same for a human reader ("metal nut").
    """

    official_name: str
    readable_name: str
    counts: Counts = Counts()


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from and on what terms.

    Attributes:
        page: the address of its home page.
        download: the address of the files, or what to ask for.
        licence: the terms in a few words; "unverified" where they could not be read.
        citation: a BibTeX-like key of the paper to cite.
        tree: the folders that the loader expects, as a drawing.
    """

    page: str = ""
    download: str = ""
    licence: str = ""
    citation: str = ""
    tree: str = ""


@dataclass(frozen=True)
class Reading:
    """What `Dataset.read` returns: an RGB image, and a mask [H, W] bool or None without masks.

    Attributes:
        warnings: what is odd about the mask, each naming its file.
    """

    image: Image.Image
    mask: NDArray[np.bool_] | None
    warnings: tuple[str, ...] = ()


class Dataset(ABC):
    """A dataset below a root folder. Subclasses say what they are and list their samples.

    Class attributes describe the dataset without touching the disk; the constructor only stores.

    Attributes:
        name: the registry name, equal to the file's ("mvtec_ad").
        title: as the paper's tables print it ("MVTecAD").
        domain: industrial, medical, synthetic or custom.
        has_image_labels: normal and anomalous test images exist, so image-level metrics do.
        has_masks: pixel-level masks exist, so pixel-level metrics do.
        categories: category -> CategoryInfo, in the paper's order; empty when found on disk only.
        released_keys: released code -> the class key of the set's only category in that code's
            loader, where it is not the category's name; None where that loader has no key for it.
        folders: names under which the dataset's folder is looked for below a data root.
        mask_rule: how a mask file becomes booleans; the options mask_threshold and mask_resize
            replace its parts for one instance.
        auxiliary: the name of the dataset that trainable methods learn from before this one.
        in_benchmark: one of the paper's 19 datasets, meant by "all".
        option_defaults: what the constructor takes besides the root. class_names: "official" or
            "readable"; class_name: one word for every category instead; mask_threshold and
            mask_resize: see `MaskRule`; orientation: "exif" turns photographs upright, "stored"
            leaves them as the released codes do.
        count_options: options that change how many images there are, so that the counts of
            `categories` hold for their defaults only.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    domain: ClassVar[Domain] = "industrial"
    modality: ClassVar[str] = ""
    has_image_labels: bool = True
    has_masks: bool = True
    categories: ClassVar[Mapping[str, CategoryInfo]] = {}
    released_keys: ClassVar[Mapping[str, str | None]] = {}
    source: ClassVar[Source] = Source()
    folders: ClassVar[Sequence[str]] = ()
    mask_rule: MaskRule = MaskRule()
    auxiliary: ClassVar[str] = "mvtec_ad"
    in_benchmark: ClassVar[bool] = False
    option_defaults: ClassVar[Mapping[str, Any]] = {
        "class_names": "official",
        "class_name": None,
        "mask_threshold": None,
        "mask_resize": None,
        "orientation": "exif",
    }
    count_options: ClassVar[Set[str]] = frozenset()

    def __init__(self, root: Path | str | None = None, **options: Any) -> None:
        self.root = Path() if root is None else Path(root)
        for option in options:
            if option not in self.option_defaults:
                raise unknown_name(f"option of dataset {self.name}", option, self.option_defaults)
        self.options: dict[str, Any] = {**self.option_defaults, **options}
        threshold = self.options.get("mask_threshold")
        resize = self.options.get("mask_resize")
        self.mask_rule = replace(
            self.mask_rule,
            threshold=self.mask_rule.threshold if threshold is None else threshold,
            resize=resize or self.mask_rule.resize,
        )
        if self.options.get("orientation", "exif") not in ("exif", "stored"):
            raise UsageError(
                f"orientation is 'exif' or 'stored', not '{self.options['orientation']}'"
            )

    @classmethod
    def open(cls, root: Path | str | None = None, **options: Any) -> Self:
        """The dataset below a root: a folder of many datasets, or the dataset's own.

        Here a folder that has one of the usual names (`folders`, name, title) is taken, if there
        is one; a subclass may know its folder better.

        Raises:
            UsageError: an option does not exist.
            DataError: the folder is missing; the message says what tree is expected.
        """
        return cls(None if root is None else _named_folder(cls, Path(root)), **options)

    @classmethod
    def expected(cls) -> Counts:
        """Images that the complete dataset has, summed over its categories."""
        return Counts.total([info.counts for info in cls.categories.values()])

    @classmethod
    def match(cls, folder: Path) -> int:
        """How surely a folder is this dataset's own: 0 no, 1 by its shape, 2 by names it holds."""
        return 0

    @classmethod
    def lacks(cls, folder: Path) -> str:
        """What a folder that holds a part of this dataset lacks, in words; "" if unknown."""
        return ""

    def layout_found(self) -> str:
        """The layout on disk, in words; "" for a dataset that knows only one.

        Raises:
            DataError: the folder is in none of the layouts that are known.
        """
        return ""

    def notes(self) -> list[str]:
        """What is worth knowing about the copy on disk and no fault of it."""
        return []

    def faults(self) -> list[str]:
        """What is wrong with the copy on disk though its samples can be listed."""
        return []

    @abstractmethod
    def samples(self, split: Split = "test") -> list[Sample]:
        """The samples of a split in a fixed order.

        Raises:
            DataError: the folder is missing or is not this dataset; the message names both.
        """

    def read(self, sample: Sample) -> Reading:
        """Load a sample: RGB image, and a mask of the same size (all False for a normal image).

        Raises:
            DataError: the file is broken, or the mask has another size than the image.
        """
        masks = sample.mask_paths if self.has_masks else ()
        stored = self.options.get("orientation", "exif") == "stored"
        whole = _read_whole if sample.crop is None else _read_cached
        reading = whole(sample.image_path, masks, self.mask_rule, not stored)
        image, mask = reading.image, reading.mask
        if not self.has_masks or (sample.label == 1 and not masks):
            mask = None
        if sample.crop is not None:
            left, top, right, bottom = sample.crop
            image = image.crop((left, top, right, bottom))
            mask = None if mask is None else mask[top:bottom, left:right].copy()
        warnings = reading.warnings
        if masks and sample.label == 1 and mask is not None and not mask.any():
            told = f"mask {sample.mask_path} of anomalous image {sample.image_path} is empty"
            warnings = (*warnings, told)
        return Reading(image, mask, warnings)

    def class_name(self, category: str) -> str:
        """The word for a category in prompts, official or readable as the option says.

        Raises:
            UsageError: the option class_names is neither.
        """
        if self.options.get("class_name"):
            return str(self.options["class_name"])
        info = self.categories.get(category)
        if info is None:
            return category
        which = self.options.get("class_names", "official")
        if which not in ("official", "readable"):
            raise UsageError(f"class_names is 'official' or 'readable', not '{which}'")
        return info.official_name if which == "official" else info.readable_name

    def fingerprint(self, split: Split = "test") -> str:
        """`fingerprint_of` all samples of a split.

        Raises:
            DataError: as `samples`, or a listed file is a link to nowhere.
        """
        return self.fingerprint_of(self.samples(split))

    def fingerprint_of(self, samples: Iterable[Sample]) -> str:
        """sha256 over names, labels and the content of images and masks, never over times.

        Files are read for it once and then remembered, see `content`.

        Raises:
            DataError: a file is a link to nowhere, or cannot be read.
        """
        chosen = list(samples)
        content = content_hashes(files_of(chosen))
        digest = hashlib.sha256()
        for sample in chosen:
            files = [content[path] for path in (sample.image_path, *sample.mask_paths)]
            name = sample.name(self.root).encode(errors="surrogateescape")
            digest.update(b"%s\t%d\t%s\n" % (name, sample.label, " ".join(files).encode()))
        return digest.hexdigest()


def files_of(samples: Iterable[Sample]) -> list[Path]:
    """The images and masks of samples, each file once, in the samples' order."""
    paths = (path for sample in samples for path in (sample.image_path, *sample.mask_paths))
    return list(dict.fromkeys(paths))


def locate(dataset: type[Dataset], data_root: Path | str, by_name: bool = False) -> Path:
    """The dataset's own folder: `data_root` itself, or one below it that bears a usual name.

    Names are compared without case, spaces and punctuation, down to three levels, so wrappers
    such as "archive/brain_tumor_dataset" or "TestDataset/Kvasir" are found.

    Args:
        dataset: the class; `match` and `folders` say how to know it.
        data_root: a folder of many datasets, or the dataset's own.
        by_name: do not take a folder by its shape alone (images/ and masks/ may be anybody's).

    Raises:
        LayoutError: a folder bears the name and holds something else.
        DataError: nothing fits; the message names the folder, the names looked for and the tree.
    """
    root = Path(data_root).expanduser()
    if not root.is_dir():
        what = "is no folder" if root.exists() else "does not exist"
        raise DataError(
            f"data root {root} {what}: point --data-root at the folder that holds your datasets"
        )
    here = dataset.match(root)
    wanted = _usual_names(dataset)
    bears_name = normalize_name(root.resolve().name) in wanted
    if here == 2 or (here == 1 and bears_name):
        return root
    named: list[Path] = []
    for folder in _folders_below(root, depth=3):
        if normalize_name(folder.name) in wanted:
            named.append(folder)
            if (inner := _surest(dataset, folder, wanted)) is not None:
                return inner
    if bears_name and (inner := _surest(dataset, root, wanted)) is not None:
        return inner
    if here == 1 and not by_name and not _holds_others(root, dataset):
        return root
    for folder in _folders_below(root, depth=2):
        if dataset.match(folder) == 2:
            return folder
    tree = f"; expected is\n{dataset.source.tree}" if dataset.source.tree else ""
    if named or bears_name:
        place = named[0] if named else root
        for folder in [*(named or [root]), *_folders_below(place, depth=2)]:
            if why := dataset.lacks(folder):
                raise LayoutError(f"{folder} is not a complete {dataset.title}: {why}{tree}")
        raise LayoutError(f"{place} is not {dataset.title} in a layout that is known{tree}")
    names = ", ".join(dataset.folders or (dataset.name,))
    raise DataError(
        f"{dataset.title} is not below {root}: put it there in a folder named like one of "
        f"{names}{tree}"
    )


def _named_folder(dataset: type[Dataset], root: Path) -> Path:
    """The folder of a usual name at or below a root, down to three levels; else the root itself."""
    root = root.expanduser()
    wanted = _usual_names(dataset)
    if not dataset.folders or normalize_name(root.resolve().name) in wanted or dataset.match(root):
        return root
    return next(
        (f for f in _folders_below(root, depth=3) if normalize_name(f.name) in wanted), root
    )


def _surest(dataset: type[Dataset], folder: Path, wanted: Set[str]) -> Path | None:
    """Of a folder and those below it the one that matches best, by name among equals."""
    places = [folder, *_folders_below(folder, depth=2)]
    sure = [(dataset.match(place), normalize_name(place.name) in wanted) for place in places]
    best = max(range(len(places)), key=lambda at: sure[at])
    return places[best] if sure[best][0] > 0 else None


def _usual_names(dataset: type[Dataset]) -> Set[str]:
    return {normalize_name(name) for name in (dataset.name, dataset.title, *dataset.folders)}


def _holds_others(root: Path, dataset: type[Dataset]) -> bool:
    """Whether a folder named as another dataset lies in a root, which is then nobody's own."""
    from .registry import dataset_class, names

    taken: set[str] = set()
    for name in names("dataset"):
        try:
            other = dataset_class(name)
        except Exception as error:  # somebody's broken plug-in is no matter of this search
            LOG.debug("dataset %s cannot be imported: %s", name, error)
            continue
        if other.in_benchmark and other.name != dataset.name:
            taken |= _usual_names(other)
    return any(normalize_name(folder.name) in taken for folder in _folders_in(root))


def _folders_below(root: Path, depth: int) -> Iterator[Path]:
    """Folders below a root, level by level; links are followed, the depth bounds their loops."""
    level = [root]
    left = MAX_FOLDERS
    for _ in range(depth):
        below: list[Path] = []
        for parent in level:
            inside = _folders_in(parent)[:left]
            left -= len(inside)
            yield from inside
            below += inside
        level = below


def is_debris(name: str) -> bool:
    """Whether a file or folder is hidden, or what macOS leaves in archives."""
    return name.startswith((".", "__MACOSX"))


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _folders_in(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            names = sorted(e.name for e in entries if is_folder(e) and not is_debris(e.name))
    except OSError:
        return []
    return [parent / name for name in names]


def _read_whole(
    image_path: Path, mask_paths: tuple[Path, ...], rule: MaskRule, upright: bool
) -> Reading:
    """An image and the union of its masks; the mask of no files is all False."""
    picture = read_picture(image_path, upright)
    image = picture.image
    shape = (image.height, image.width)
    mask: NDArray[np.bool_] | None = None
    warnings: list[str] = []
    for path in mask_paths:
        drawn = read_drawn_mask(path, rule, picture)
        part = drawn.pixels
        if drawn.from_alpha:
            warnings.append(f"mask {path} is drawn in its alpha channel alone, which was taken")
        if part.shape != shape:
            raise DataError(
                f"mask {path} is {part.shape[1]}x{part.shape[0]} but its image "
                f"{image_path} is {image.width}x{image.height}: replace the mask"
            )
        mask = part if mask is None else mask | part
    if mask is None:
        mask = np.zeros(shape, dtype=bool)
    return Reading(image, mask, tuple(warnings))


def _read_cached(
    image_path: Path, mask_paths: tuple[Path, ...], rule: MaskRule, upright: bool
) -> Reading:
    """`_read_whole` for pieces: neighbouring pieces of one image decode it once."""
    try:
        stamp = image_path.stat().st_mtime_ns
    except OSError:
        stamp = 0
    return _last_wholes(image_path, mask_paths, rule, upright, stamp)


@lru_cache(maxsize=2)
def _last_wholes(
    image_path: Path, mask_paths: tuple[Path, ...], rule: MaskRule, upright: bool, stamp: int
) -> Reading:
    del stamp  # part of the key only: a file that changed is read again
    return _read_whole(image_path, mask_paths, rule, upright)
