"""How much of a dataset a copy holds: expected and found counts, and what the user chose of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..json_fields import Count

if TYPE_CHECKING:  # records are read without numpy
    from ..dataset import Counts, Dataset, Sample, Split


@dataclass(frozen=True)
class CategoryCount:
    """Images of one category, found and expected; None is unknown."""

    category: str
    found: Counts
    expected: Counts

    @property
    def test_difference(self) -> str:
        """In words, that the copy has other numbers of test images than it should, "" if not."""
        found, expected = self.found, self.expected
        pairs = [
            (found.test_normal, expected.test_normal, "normal"),
            (found.test_anomalous, expected.test_anomalous, "anomalous"),
        ]
        if all(right is None for _, right, _ in pairs):
            nothing = not any((found.test_normal, found.test_anomalous, found.train))
            return f"category {self.category} is not there" if nothing else ""
        if all(right is None or there == right for there, right, _ in pairs):
            return ""
        if not (found.test_normal or found.test_anomalous):
            wanted = " and ".join(f"{right} {what}" for _, right, what in pairs)
            return f"category {self.category} is not there (it has {wanted} test images)"
        parts = ", ".join(f"{there} of {right} {what}" for there, right, what in pairs)
        return f"category {self.category} has {parts} test images"

    @property
    def train_difference(self) -> str:
        """The same for train images, which only the training on this dataset needs."""
        there, right = self.found.train, self.expected.train
        if right in (None, there):
            return ""
        return f"category {self.category}: {there} of {right} train images"


@dataclass(frozen=True)
class Completeness:
    """What a copy holds of its dataset, and what the user chose of it.

    Attributes:
        found: images in the categories that were chosen (all by default), before any limit.
        expected: what the release has there; None is unknown.
        categories: number of categories in that choice, as the dataset has them.
        missing_categories: of those the ones without any image.
        extra_categories: found, but not of the dataset.
        differing_categories: found, with other counts of normal or anomalous images.
        chosen_categories: what the option `categories` kept; None keeps all.
        all_categories: number of categories that the dataset has; None is unknown.
        limit: images per category and label; None if it cuts nothing.
        chosen_options: other options that change the counts, as "name=value".
    """

    found: Count
    expected: Count | None = None
    categories: Count = 0
    missing_categories: tuple[str, ...] = ()
    extra_categories: tuple[str, ...] = ()
    differing_categories: tuple[str, ...] = ()
    chosen_categories: tuple[str, ...] | None = None
    all_categories: Count | None = None
    limit: Count | None = None
    chosen_options: tuple[str, ...] = ()

    @property
    def complete(self) -> bool | None:
        """Whether the copy holds what it should of what was chosen; None if it is not known."""
        if self.missing_categories or self.extra_categories or self.differing_categories:
            return False
        return None if self.expected is None else True

    @property
    def chosen(self) -> str:
        """What the user chose to leave out, in words; "" for nothing."""
        parts: list[str] = []
        if self.chosen_categories is not None:
            number = len(self.chosen_categories)
            of = "" if self.all_categories is None else f" of {self.all_categories}"
            parts.append(f"{number}{of} {_categories(self.all_categories or number)}")
        if self.limit is not None:
            noun = "image" if self.limit == 1 else "images"
            parts.append(f"at most {self.limit} {noun} per category and label")
        parts += self.chosen_options
        return f"chosen: {', '.join(parts)}" if parts else ""

    @property
    def gap(self) -> str:
        """How the copy differs from the release, in words; "" if it does not."""
        missing, extra = len(self.missing_categories), len(self.extra_categories)
        if missing:
            return f"incomplete: {missing} of {self.categories} categories missing"
        if extra:
            shown = ", ".join(self.extra_categories[:3]) + (", ..." if extra > 3 else "")
            return f"not as released: {extra} {_categories(extra)} more ({shown})"
        if not self.differing_categories:
            return ""
        if self.expected is not None and self.found < self.expected:
            return f"incomplete: {self.found} of {self.expected} images"
        if self.expected is not None and self.found > self.expected:
            return f"not as released: {self.found} images, expected {self.expected}"
        number = len(self.differing_categories)
        return f"not as released: other counts in {number} {_categories(number)}"

    def words(self) -> str:
        """What a reader should be told; "" for a complete copy of which nothing was left out."""
        unknown = "counts unknown" if self.complete is None and not self.chosen_options else ""
        return "; ".join(part for part in (self.gap or unknown, self.chosen) if part)


def _categories(number: int) -> str:
    return "category" if number == 1 else "categories"


def count_categories(
    dataset: Dataset, samples: Mapping[Split, Sequence[Sample]]
) -> list[CategoryCount]:
    """Counts of each category that the dataset has or that was found.

    Of a dataset with the option `categories` only those that were chosen. A user's own categories
    in the tree of a known dataset are not measured by the dataset's absent ones.

    Args:
        dataset: whose classes say what is expected.
        samples: of both splits; a split that is left out counts as empty.
    """
    from ..dataset import SPLITS, Counts

    numbers = Counter(
        (sample.category, split, sample.label)
        for split in SPLITS
        for sample in samples.get(split, ())
    )
    present = dict.fromkeys(key[0] for key in numbers)
    own = bool(present) and not any(name in dataset.categories for name in present)
    known = [] if own or dataset.options.get("categories") is not None else dataset.categories
    order = [*(name for name in dataset.categories if name in present or name in known)]
    order += [name for name in present if name not in dataset.categories]
    counted: list[CategoryCount] = []
    for category in order:
        info = dataset.categories.get(category)
        found = Counts(*(numbers[category, split, label] for split in SPLITS for label in (0, 1)))
        counted.append(CategoryCount(category, found, info.counts if info else Counts()))
    return counted


def whole_difference(dataset: Dataset, counted: Sequence[CategoryCount]) -> str:
    """In words, that all categories together have other numbers of test images than the release.

    For releases of which only the sum is known; else, and of a choice of categories, "".
    """
    labels = {"normal": "test_normal", "anomalous": "test_anomalous"}
    known = [part.expected for part in counted if part.category in dataset.categories]
    apart = [getattr(expected, name) for expected in known for name in labels.values()]
    whole = type(dataset).expected()
    wanted = {label: getattr(whole, name) for label, name in labels.items()}
    chosen = dataset.options.get("categories") is not None
    if None not in apart or None in wanted.values() or chosen:
        return ""
    there = {
        label: sum(getattr(part.found, name) or 0 for part in counted)
        for label, name in labels.items()
    }
    parts = ", ".join(f"{there[label]} of {wanted[label]} {label}" for label in labels)
    return "" if there == wanted else f"the categories together have {parts} test images"


def completeness(
    dataset: Dataset, split: Literal["test", "all"] = "test", limit: int | None = None
) -> Completeness:
    """What an opened dataset holds of what it should.

    Args:
        dataset: opened, with the user's options.
        split: "test", or "all" for test and train together, of which a method may learn.
        limit: images per category and label that are used; only named, found counts ignore it.

    Raises:
        DataError: the samples cannot be listed.
    """
    from ..dataset import SPLITS

    splits = SPLITS if split == "all" else SPLITS[:1]
    counted = count_categories(dataset, {part: dataset.samples(part) for part in splits})
    found = {part.category: _numbers(part.found, splits) for part in counted}
    expected = {part.category: _numbers(part.expected, splits) for part in counted}
    known = [name for name in found if name in dataset.categories]
    present = [name for name in found if sum(n or 0 for n in found[name]) > 0]
    extra = [name for name in present if name not in known] if known else []
    options = _chosen_options(dataset)
    differing = [
        name
        for name in present
        if not options
        and any(e is not None and f != e for f, e in zip(found[name], expected[name], strict=True))
    ]
    wanted = [number for name in known for number in expected[name]]
    if None in wanted and dataset.options.get("categories") is None:
        wanted = _numbers(type(dataset).expected(), splits)
        sums = [sum(n or 0 for n in parts) for parts in zip(*found.values(), strict=True)]
        if None not in wanted and wanted != sums and not options:
            differing = present
    countable = bool(wanted) and None not in wanted and not options
    cut = limit is not None and any((n or 0) > limit for name in present for n in found[name])
    return Completeness(
        found=sum(n or 0 for numbers in found.values() for n in numbers),
        expected=sum(n or 0 for n in wanted) if countable else None,
        categories=len(known),
        missing_categories=tuple(name for name in known if name not in present),
        extra_categories=tuple(extra),
        differing_categories=tuple(differing),
        chosen_categories=None if dataset.options.get("categories") is None else tuple(found),
        all_categories=len(dataset.categories) if known else None,
        limit=limit if cut else None,
        chosen_options=options,
    )


def _chosen_options(dataset: Dataset) -> tuple[str, ...]:
    """Options by which a dataset holds other images than by default."""
    return tuple(
        f"{name}={dataset.options[name]}"
        for name in sorted(dataset.count_options)
        if dataset.options[name] != dataset.option_defaults[name]
    )


def _numbers(counts: Counts, splits: Sequence[Split]) -> list[int | None]:
    """Normal and anomalous images of each split."""
    return [getattr(counts, f"{s}_{label}") for s in splits for label in ("normal", "anomalous")]
