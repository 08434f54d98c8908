"""What a dataset is made of: a Sample on disk, and the Dataset that lists Samples.

Contract for `datasets/`: a file holds one public subclass of `Dataset`; the folder is the registry.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import astuple, dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .content import content_hashes
from .errors import DataError, UsageError
from .images import MaskRule, read_drawn_mask, read_picture
from .names import display_name, known_keys

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("test", "train")
Domain = Literal["industrial", "medical", "synthetic", "surfaces", "objects", "lesions", "custom"]


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

    @property
    def train(self) -> int | None:
        """Train images of both labels."""
        if self.train_normal is None or self.train_anomalous is None:
            return None
        return self.train_normal + self.train_anomalous

    @staticmethod
    def total(parts: Sequence[Counts]) -> Counts:
        """The sum of several; a number that is unknown in one part is unknown in the sum."""
        columns = zip(*map(astuple, parts), strict=True)
        return Counts(*(None if None in column else sum(column) for column in columns))


@dataclass(frozen=True)
class CategoryInfo:
    """A subset of a dataset as the paper averages it.

    Attributes:
        official_name: the string the released codes put in prompts ("metal_nut").
        readable_name: the same for a human reader ("metal nut").
        description: what it looks like, in a few words, where that is known.
    """

    official_name: str
    readable_name: str
    counts: Counts = Counts()
    description: str | None = None


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
        domain: industrial, medical, that of a built-in set, or custom.
        has_image_labels: normal and anomalous test images exist, so image-level metrics do.
        has_masks: pixel-level masks exist, so pixel-level metrics do.
        categories: category -> CategoryInfo, in the paper's order; empty when found on disk only.
        released_keys: released code -> the class key of the set's only category in that code's
            loader, where it is not the category's name; "" where that loader has no key for it.
        folders: names under which the dataset's folder is looked for below a data root; without
            any the root is taken as it is.
        needs_match: only a folder that `match` knows is taken for the dataset's.
        mask_rule: how a mask file becomes booleans; the options mask_threshold and mask_resize
            replace its parts for one instance.
        auxiliary: the name of the dataset that trainable methods learn from before this one.
        in_benchmark: one of the paper's 19 datasets, meant by "all".
        is_built_in: drawn by zsad itself to test on, meant by "builtin-all".
        option_defaults: what the constructor takes besides the root. class_names: "official" or
            "readable"; class_name: one word for every category instead; mask_threshold and
            mask_resize: see `MaskRule`; orientation: "exif" turns photographs upright, "stored"
            leaves them as the released codes do.
        option_choices: the words that an option takes, where it takes some words only.
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
    released_keys: ClassVar[Mapping[str, str]] = {}
    source: ClassVar[Source] = Source()
    folders: ClassVar[Sequence[str]] = ()
    needs_match: ClassVar[bool] = False
    mask_rule: MaskRule = MaskRule()
    auxiliary: ClassVar[str] = "mvtec_ad"
    in_benchmark: ClassVar[bool] = False
    is_built_in: ClassVar[bool] = False
    option_defaults: ClassVar[Mapping[str, Any]] = {
        "class_names": "official",
        "class_name": None,
        "mask_threshold": None,
        "mask_resize": None,
        "orientation": "exif",
    }
    option_choices: ClassVar[Mapping[str, Sequence[str]]] = {
        "class_names": ("official", "readable"),
        "orientation": ("exif", "stored"),
    }
    count_options: ClassVar[Set[str]] = frozenset()

    def __init__(self, root: Path | str | None = None, **options: Any) -> None:
        self.root = Path() if root is None else Path(root)
        kind = f"option of dataset {display_name(self.name)}"
        given = known_keys(kind, options, self.option_defaults)
        self.options: dict[str, Any] = {**self.option_defaults, **given}
        threshold = self.options.get("mask_threshold")
        resize = self.options.get("mask_resize")
        self.mask_rule = replace(
            self.mask_rule,
            threshold=self.mask_rule.threshold if threshold is None else threshold,
            resize=resize or self.mask_rule.resize,
        )
        for name, choices in self.option_choices.items():
            if self.options.get(name, choices[0]) not in choices:
                known = " or ".join(map(repr, choices))
                raise UsageError(f"{name} is {known}, not '{self.options[name]}'")

    @classmethod
    def open(cls, root: Path | str | None = None, **options: Any) -> Self:
        """The dataset in a folder of its own; `load_dataset` finds that below a data root.

        Raises:
            UsageError: an option does not exist.
            DataError: the dataset cannot be made ready there.
        """
        return cls(root, **options)

    @classmethod
    def packaged(cls) -> Path | None:
        """The folder that an installed package brings; taken where the data root has none."""
        return None

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

    @cached_property
    def _test_samples(self) -> list[Sample]:
        return self.samples("test")

    def __len__(self) -> int:
        """The number of test samples, which are listed once and then kept."""
        return len(self._test_samples)

    def __bool__(self) -> bool:
        """True, also of a dataset without samples: only `len` looks at the disk."""
        return True

    def __iter__(self) -> Iterator[Sample]:
        """The test samples in their order."""
        return iter(self._test_samples)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        """A test sample by its place, or several."""
        return self._test_samples[place]

    def __repr__(self) -> str:
        """What it is, where it lies and the options that are not the defaults; reads no file."""
        defaults = self.option_defaults
        own = {name: value for name, value in self.options.items() if value != defaults.get(name)}
        given = "".join(f", {name}={value!r}" for name, value in own.items())
        return f"<dataset {display_name(self.name)} ({self.title}) in {str(self.root)!r}{given}>"

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
        """The word for a category in prompts, official or readable as the option says."""
        if self.options.get("class_name"):
            return str(self.options["class_name"])
        info = self.categories.get(category)
        if info is None:
            return category
        readable = self.options.get("class_names") == "readable"
        return info.readable_name if readable else info.official_name

    def description(self, category: str) -> str | None:
        """What the objects of a category look like, where that is known."""
        info = self.categories.get(category)
        return None if info is None else info.description

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


def first_of_each(samples: Iterable[Sample], limit: int | None) -> list[Sample]:
    """The first samples of each category and label, in their order; all of them without a limit."""
    seen: Counter[tuple[str, int]] = Counter()
    kept: list[Sample] = []
    for sample in samples:
        seen[sample.category, sample.label] += 1
        if limit is None or seen[sample.category, sample.label] <= limit:
            kept.append(sample)
    return kept


def files_of(samples: Iterable[Sample]) -> list[Path]:
    """The images and masks of samples, each file once, in the samples' order."""
    paths = (path for sample in samples for path in (sample.image_path, *sample.mask_paths))
    return list(dict.fromkeys(paths))


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
        part, from_alpha = read_drawn_mask(path, rule, picture)
        if from_alpha:
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
