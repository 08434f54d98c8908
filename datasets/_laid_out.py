"""The dataset class that tries several layouts in turn."""

from __future__ import annotations

import logging
import os
import stat
from collections import Counter
from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from ..bench.dataset import SPLITS, Box, Counts, Dataset, Reading, Sample, Split, files_of
from ..bench.errors import DataError, LayoutError, UsageError, unknown_name
from ..bench.images import read_mask
from ..bench.names import display_name, registry_name
from ._catalogue import known_facts, take_facts
from ._folders import few, subfolders
from ._listing import Layout, Listing
from ._splits import NormalSplit

logger = logging.getLogger(__name__)


class LaidOutDataset(Dataset):
    """A dataset that lies on disk in one of several layouts.

    A class whose name stands in the tables of `_catalogue` has the facts that stand there.

    Attributes:
        layouts: tried in order; the surest match wins, the earlier one of equals.
        open_categories: categories that the class does not know are taken as they are found.
        total: images of the whole release, where those of its categories are not known.
        drops_unmeasurable: a category on which nothing can be measured is left out with a fault
            instead of being refused.
        selections: further options, each of which selects images of the release by some words, the
            default first. They are among the other attributes on options, too.
    """

    layouts: ClassVar[Sequence[Layout]] = ()
    needs_match: ClassVar[bool] = True
    open_categories: ClassVar[bool] = False
    total: ClassVar[Counts | None] = None
    drops_unmeasurable: ClassVar[bool] = False
    selections: ClassVar[Mapping[str, Sequence[str]]] = {}
    option_defaults: ClassVar[Mapping[str, Any]] = {
        **Dataset.option_defaults,
        "layout": None,
        "categories": None,
        "missing": "refuse",
    }
    option_choices: ClassVar[Mapping[str, Sequence[str]]] = {
        **Dataset.option_choices,
        "missing": ("refuse", "skip"),
    }

    def __init_subclass__(cls) -> None:
        if vars(cls).get("name") in known_facts():
            take_facts(cls)
        if own := vars(cls).get("selections"):
            usual = {name: words[0] for name, words in own.items()}
            cls.option_defaults = {**cls.option_defaults, **usual}
            cls.option_choices = {**cls.option_choices, **own}
            cls.count_options = cls.count_options | own.keys()

    def __init__(self, root: Path | str | None = None, **options: Any) -> None:
        super().__init__(root, **options)
        for name in ("layout", "class_name", "split_list"):
            if not isinstance(self.options.get(name), str | Path | None):
                raise UsageError(
                    f"{name} of {display_name(self.name)} is text, not {self.options[name]!r}"
                )
        keys = [layout.key for layout in self.layouts]
        if self.options["layout"] not in (None, *keys):
            raise unknown_name(
                f"layout of {display_name(self.name)}", str(self.options["layout"]), keys
            )
        self._listing: Listing | None = None

    @classmethod
    def match(cls, folder: Path) -> int:
        """See `Dataset.match`: the surest of the layouts."""
        try:
            return max((layout.match(folder, cls) for layout in cls.layouts), default=0)
        except (LayoutError, OSError):  # `_layout` says why, if no other folder fits better
            return 1

    @classmethod
    def expected(cls) -> Counts:
        """See `Dataset.expected`."""
        return super().expected() if cls.total is None else cls.total

    @classmethod
    def lacks(cls, folder: Path) -> str:
        """See `Dataset.lacks`: of the first layout that the folder holds a part of."""
        try:
            return next(filter(None, (layout.lacks(folder, cls) for layout in cls.layouts)), "")
        except LayoutError as error:
            return str(error)

    def samples(self, split: Split = "test") -> list[Sample]:
        """See `Dataset.samples`. A set without a train part has an empty one."""
        if split not in SPLITS:
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
        """See `Dataset.read`; a mask that a normal image should not have is looked at as well."""
        reading = super().read(sample)
        if self._listing is None or sample.label == 1 or not self.has_masks:
            return reading
        mask = self._listing.normal_masks.get(sample.image_path)
        if mask is None or not read_mask(mask, self.mask_rule).any():
            return reading
        told = f"mask {mask} of normal image {sample.image_path} is not empty and was not used"
        return replace(reading, warnings=(*reading.warnings, told))

    @classmethod
    def known_folders(cls, folder: Path) -> list[Path]:
        """The subfolders that are named after a category of the class, however they spell it."""
        known = {registry_name(category) for category in cls.categories}
        return [path for name, path in subfolders(folder).items() if registry_name(name) in known]

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

    def divide(self, normals: Sequence[Sample]) -> list[Sample]:
        """Normal images with their splits, where the release has none: all are tested."""
        return list(normals)

    def only_category(self) -> str:
        """The category of a set that has one."""
        return next(iter(self.categories), self.name)

    def sample(
        self,
        image: Path,
        label: int,
        category: str | None = None,
        *,
        anomaly_type: str | None = None,
        split: Split = "test",
        masks: Sequence[Path | None] = (),
        crop: Box | None = None,
    ) -> Sample:
        """A sample of this dataset, with the class name that the options ask for.

        Args:
            image: the file.
            label: 0 normal, 1 anomalous.
            category: None for the only one.
            anomaly_type: None for "good" or "anomaly".
            split: "train" or "test".
            masks: files whose union is meant; None among them stands for no mask.
            crop: the piece of the image, None for all of it.
        """
        name = self.only_category() if category is None else category
        kind = anomaly_type or ("anomaly" if label else "good")
        drawn = [path for path in masks if path is not None]
        return Sample(
            image,
            label,
            name,
            self.class_name(name),
            drawn[0] if drawn else None,
            kind,
            split,
            crop,
            tuple(drawn[1:]),
        )

    def _layout(self) -> Layout:
        wanted = self.options["layout"]
        layouts = [layout for layout in self.layouts if wanted in (None, layout.key)]
        try:
            sureness = [layout.match(self.root, type(self)) for layout in layouts]
        except OSError as error:
            raise self._unlisted(error) from error
        if not any(sureness):
            if why := self.lacks(self.root):
                raise LayoutError(f"{self.root} is not a complete {self.title}: {why}")
            known = ", ".join(layout.key for layout in layouts)
            raise LayoutError(
                f"{self.root} is not {self.title} in a layout that is known ({known}); "
                f"expected is\n{self.source.tree}"
            )
        return layouts[sureness.index(max(sureness))]

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
        self._refuse_unmeasurable(found)
        found.faults += self.oddities(found)
        for note in found.notes:
            logger.info("%s: %s", self.title, note)
        for fault in found.faults:
            _warn_once(f"{self.title}: {fault}")
        return found

    def _unlisted(self, error: OSError) -> DataError:
        return DataError(f"{self.title} in {self.root} cannot be listed ({error})")

    def oddities(self, found: Listing) -> list[str]:
        """What is odd about a listing as a whole; further faults."""
        return []

    def _refuse_unmeasurable(self, found: Listing) -> None:
        """No image, or no anomalous one in a category: nothing could be measured."""
        tested = Counter((s.category, s.label) for s in found.samples if s.split == "test")
        why = f" ({len(found.gaps)} gaps, {few(found.gaps, 1)})" if found.gaps else ""
        categories = dict.fromkeys(s.category for s in found.samples)
        unmeasurable: dict[str, str] = {}
        for category in categories:
            if not tested[category, 1]:
                lacks = "anomalous test image" if tested[category, 0] else "test image"
                unmeasurable[category] = (
                    f"category '{category}' of {self.title} in {self.root} has no {lacks}{why}, "
                    "so nothing can be measured"
                )
        if tested and unmeasurable and not self.drops_unmeasurable:
            raise DataError(
                f"{next(iter(unmeasurable.values()))}: complete it or remove its folder"
            )
        if len(unmeasurable) == len(categories):
            reasons = "".join(f"; {text}" for text in unmeasurable.values()) if tested else why
            reasons += "".join(f"; {text}" for text in found.unreadable.values())
            what = "no usable category" if tested else "no test image"
            raise DataError(
                f"{self.title} in {self.root} has {what}{reasons}; expected is\n{self.source.tree}"
            )
        found.faults += [f"left out: {text}" for text in unmeasurable.values()]
        found.samples = [s for s in found.samples if s.category not in unmeasurable]

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
    """Drop samples with a file that cannot be read, or a name that is not text."""
    faults = {path: _irregular(path) for path in files_of(found.samples)}
    found.gaps += filter(None, faults.values())
    found.samples = [
        sample for sample in found.samples if not any(faults[path] for path in files_of([sample]))
    ]


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
