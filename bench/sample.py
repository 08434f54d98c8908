"""What a dataset is made of: a Sample on disk, and the Dataset that lists Samples.

Contract for `datasets/`: a file holds one or more subclasses of `Dataset`; the folder is the registry.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import DataError, UsageError, unknown_name
from .images import MaskRule, read_image, read_mask

Split = Literal["train", "test"]
Domain = Literal["industrial", "medical", "synthetic", "custom"]


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
    """Where a dataset comes from and on what terms."""

    page: str = ""
    download: str = ""
    licence: str = ""
    citation: str = ""
    tree: str = ""


@dataclass(frozen=True)
class Reading:
    """What `Dataset.read` returns: an RGB image, and a mask [H, W] bool or None without masks."""

    image: Image.Image
    mask: NDArray[np.bool_] | None


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
        folders: names under which the dataset's folder is looked for below a data root.
        mask_rule: how a mask file becomes booleans.
        auxiliary: the name of the dataset that trainable methods learn from before this one.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    domain: ClassVar[Domain] = "industrial"
    modality: ClassVar[str] = ""
    has_image_labels: ClassVar[bool] = True
    has_masks: ClassVar[bool] = True
    categories: ClassVar[Mapping[str, CategoryInfo]] = {}
    source: ClassVar[Source] = Source()
    folders: ClassVar[Sequence[str]] = ()
    mask_rule: ClassVar[MaskRule] = MaskRule()
    auxiliary: ClassVar[str] = "mvtec_ad"
    option_defaults: ClassVar[Mapping[str, Any]] = {"class_names": "official"}

    def __init__(self, root: Path | str, **options: Any) -> None:
        self.root = Path(root)
        for option in options:
            if option not in self.option_defaults:
                raise unknown_name(f"option of dataset {self.name}", option, self.option_defaults)
        self.options: dict[str, Any] = {**self.option_defaults, **options}

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
        image = read_image(sample.image_path)
        mask: NDArray[np.bool_] | None = None
        if self.has_masks and (sample.mask_paths or sample.label == 0):
            mask = np.zeros((image.height, image.width), dtype=bool)
            for path in sample.mask_paths:
                part = read_mask(path, self.mask_rule)
                if part.shape != mask.shape:
                    raise DataError(
                        f"mask {path} is {part.shape[1]}x{part.shape[0]} but its image "
                        f"{sample.image_path} is {image.width}x{image.height}: replace the mask"
                    )
                mask |= part
        if sample.crop is not None:
            left, top, right, bottom = sample.crop
            image = image.crop((left, top, right, bottom))
            mask = None if mask is None else mask[top:bottom, left:right]
        return Reading(image, mask)

    def class_name(self, category: str) -> str:
        """The word for a category in prompts, official or readable as the option says."""
        info = self.categories.get(category)
        if info is None:
            return category
        which = self.options.get("class_names", "official")
        if which not in ("official", "readable"):
            raise UsageError(f"class_names is 'official' or 'readable', not '{which}'")
        return info.official_name if which == "official" else info.readable_name

    def fingerprint(self, split: Split = "test") -> str:
        """sha256 over names, labels and file sizes of a split: equal lists have equal prints."""
        digest = hashlib.sha256()
        for sample in self.samples(split):
            sizes = [p.stat().st_size for p in (sample.image_path, *sample.mask_paths)]
            digest.update(f"{sample.name(self.root)}\t{sample.label}\t{sizes}\n".encode())
        return digest.hexdigest()
