"""What of the datasets is on disk, what is missing and what is wrong with it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..dataset import SPLITS, Counts, Dataset, Sample, Split
from ..errors import DataError, LayoutError
from ..images import resize_mask
from ..names import display_name, registry_name
from ..registry import dataset_class, open_dataset, resolve, sound_names
from .completeness import (
    CategoryCount,
    Completeness,
    completeness,
    count_categories,
    whole_difference,
)

Status = Literal["ok", "incomplete", "broken", "missing"]
EVALUATED_SIZE = 518
"""Masks are evaluated at this size; regions that vanish on the way to it are counted."""


@dataclass(frozen=True)
class DatasetCheck:
    """What was found out about one dataset.

    Attributes:
        status: "ok"; "incomplete", usable, with other counts than expected or something odd;
            "broken", samples cannot be listed or read; "missing", no folder of it.
        folder: where it lies, "" if missing.
        packaged: it lies outside of the data root: a package brings it.
        layout: the layout that was found.
        categories: counts of each category.
        problems: what is wrong, one sentence each.
        notes: what is worth knowing and no problem.
        completeness: expected and found test images, None if they cannot be listed.
        fingerprint: of the test split: names, labels and content; "" if it cannot be listed.
        opened: images that were decoded, None if none were asked for.
        regions_lost: mask regions that vanish at the evaluated size; None as above.
    """

    name: str
    title: str
    status: Status
    folder: str = ""
    packaged: bool = False
    layout: str = ""
    categories: list[CategoryCount] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    completeness: Completeness | None = None
    fingerprint: str = ""
    opened: int | None = None
    regions_lost: int | None = None

    @property
    def usable(self) -> bool:
        """Whether a run on it would start."""
        return self.status in ("ok", "incomplete")

    def total(self, which: Literal["found", "expected"]) -> Counts:
        """Counts summed over categories."""
        return Counts.total([getattr(category, which) for category in self.categories])

    def to_json(self) -> dict[str, Any]:
        """Plain values for --json."""
        return {**dataclasses.asdict(self), "usable": self.usable}


def benchmark_names() -> list[str]:
    """The datasets of the paper, the order of the registry."""
    return [name for name in sound_names("dataset") if dataset_class(name).in_benchmark]


def known_names() -> list[str]:
    """All datasets that are known by their folders: neither built in nor the user's own images."""
    classes = {name: dataset_class(name) for name in sound_names("dataset")}
    return [n for n, cls in classes.items() if cls.folders and cls.domain != "synthetic"]


def built_in_names() -> list[str]:
    """The datasets that zsad draws itself to test on, the default one first."""
    return [name for name in sound_names("dataset") if dataset_class(name).is_built_in]


SEVERAL: Mapping[str, Callable[[], list[str]]] = {
    "all": benchmark_names,
    "all_known": known_names,
    "builtin_all": built_in_names,
}
"""Words for several datasets: those of the paper, every one, and every one that zsad draws."""


def words_for(name: str) -> list[str]:
    """The words that mean a dataset, by its registry name, among others."""
    return [display_name(word) for word, meant in SEVERAL.items() if name in meant()]


def means_several(wanted: Sequence[str]) -> bool:
    """Whether one of the names is a word for several datasets, of which any may be absent."""
    return any(registry_name(name) in ("all", "all_known") for name in wanted)


def check_all(
    wanted: Sequence[str],
    data_root: Path | None,
    open_files: bool = False,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> list[DatasetCheck]:
    """Check several datasets; those that "all" and "all-known" mean by their folders' names.

    Args:
        wanted: names, "all", "all-known" or "builtin-all".
        data_root: a folder of many datasets, one dataset's own, or None for packaged ones.
        open_files: decode every image and mask.
        options: of each dataset, by registry name.
        progress: told each name.

    Raises:
        UsageError: a name or an option does not exist.
        DataError: the data root itself does not exist.
    """
    if data_root is not None and not data_root.expanduser().is_dir():
        raise DataError(
            f"data root {data_root} does not exist: point --data-root at the folder that holds "
            "your datasets"
        )
    every = means_several(wanted)
    checks: list[DatasetCheck] = []
    for name in chosen_names(wanted):
        progress(name)
        own = (options or {}).get(name, {})
        checks.append(check(dataset_class(name), data_root, open_files, own, every))
    return checks


def chosen_names(wanted: Sequence[str]) -> list[str]:
    """Registry names of what was asked for; see `SEVERAL` for words that mean several.

    Raises:
        UsageError: a name does not exist.
    """
    meant = [SEVERAL[word]() for word in map(registry_name, wanted) if word in SEVERAL]
    if meant:
        return sorted({name for names in meant for name in names})
    return [resolve("dataset", name).name for name in wanted]


def is_wrong(checks: Sequence[DatasetCheck], every: bool) -> bool:
    """Whether the command fails: something is wrong, or what was named is missing.

    Args:
        checks: the results.
        every: "all" or "all-known" was asked for, so that an absent dataset is not a fault, unless
            none is found.
    """
    present = [check for check in checks if check.status != "missing"]
    if any(check.status != "ok" for check in present):
        return True
    return not is_any_found(checks) if every else len(present) < len(checks)


def is_any_found(checks: Sequence[DatasetCheck]) -> bool:
    """Whether the data root holds any of the datasets; what packages bring does not count."""
    return any(check.status != "missing" and not check.packaged for check in checks)


def is_below(path: Path, root: Path) -> bool:
    """Whether a path lies at or below a root, links and ~ resolved."""
    return path.resolve().is_relative_to(root.expanduser().resolve())


def check(
    dataset_type: type[Dataset],
    data_root: Path | None,
    open_files: bool = False,
    options: Mapping[str, Any] | None = None,
    by_name: bool = False,
) -> DatasetCheck:
    """Compare the copy on disk with what the dataset should have.

    Args:
        dataset_type: the class.
        data_root: a folder of many datasets, the dataset's own, or None for a packaged one.
        open_files: decode every image and mask.
        options: of the dataset.
        by_name: do not take a folder for the dataset's by its shape alone.
    """
    given = dict(options or {})
    if "missing" in dataset_type.option_defaults:
        given.setdefault("missing", "skip")  # count what is there and report the gaps
    start = DatasetCheck(dataset_type.name, dataset_type.title, "missing")
    try:
        dataset = open_dataset(dataset_type, data_root, given, by_name)
    except DataError as error:
        status: Status = "broken" if isinstance(error, LayoutError) else "missing"
        return dataclasses.replace(start, status=status, problems=[str(error)])
    packaged = data_root is None or not is_below(dataset.root, data_root)
    start = dataclasses.replace(start, folder=str(dataset.root), packaged=packaged)
    try:
        samples = {split: dataset.samples(split) for split in SPLITS}
        fingerprint = dataset.fingerprint("test")
        layout = dataset.layout_found()
    except DataError as error:
        return dataclasses.replace(start, status="broken", problems=[str(error)])
    start = dataclasses.replace(start, layout=layout, fingerprint=fingerprint)
    result = _counted(dataset, samples, start)
    return _opened(dataset, samples, result) if open_files else result


def _counted(
    dataset: Dataset, samples: Mapping[Split, Sequence[Sample]], result: DatasetCheck
) -> DatasetCheck:
    """The result with the counts, and what differs from those of the release."""
    counted = count_categories(dataset, samples)
    measured = completeness(dataset)
    problems = [
        *dataset.faults(),
        *(f"category {name} is not one of {dataset.title}" for name in measured.extra_categories),
    ]
    if not measured.chosen_options:
        apart = (part.test_difference for part in counted)
        problems += filter(None, (*apart, whole_difference(dataset, counted)))
    notes = [
        *dataset.notes(),
        measured.chosen,
        *(part.train_difference for part in counted if not part.test_difference),
    ]
    return dataclasses.replace(
        result,
        status="incomplete" if problems else "ok",
        categories=counted,
        problems=problems,
        notes=[note for note in notes if note],
        completeness=measured,
    )


def _opened(
    dataset: Dataset, samples: Mapping[Split, Sequence[Sample]], result: DatasetCheck
) -> DatasetCheck:
    """The result with what decoding every image and mask brought to light."""
    everything = [sample for split in SPLITS for sample in samples[split]]

    def open_one(sample: Sample) -> tuple[str, Sequence[str], int]:
        try:
            reading = dataset.read(sample)
        except DataError as error:
            return str(error), (), 0
        if reading.mask is None or not reading.mask.any():
            return "", reading.warnings, 0
        lost = resize_mask(reading.mask, EVALUATED_SIZE, dataset.mask_rule)[1]
        return "", reading.warnings, lost

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        outcomes = list(pool.map(open_one, everything))
    broken = list(dict.fromkeys(message for message, _, _ in outcomes if message))
    odd = list(dict.fromkeys(text for _, warnings, _ in outcomes for text in warnings))
    return dataclasses.replace(
        result,
        status="broken" if broken else "incomplete" if odd else result.status,
        problems=[*result.problems, *broken, *odd],
        opened=len(everything),
        regions_lost=sum(lost for _, _, lost in outcomes),
    )


def table(checks: Iterable[DatasetCheck]) -> str:
    """One line a dataset: status, counts as found/expected, layout and folder."""
    rows = [
        [
            check.title,
            check.status,
            *_against(check.total("found"), check.total("expected"), bool(check.categories)),
            len(check.problems) if check.status != "missing" else "",
            check.layout,
            check.folder,
        ]
        for check in checks
    ]
    head = ["dataset", "status", "normal", "anomalous", "train", "problems", "layout", "folder"]
    return _aligned(head, rows)


def category_table(check: DatasetCheck) -> str:
    """One line a category, counts as found/expected."""
    rows = [
        [part.category, *_against(part.found, part.expected, True)] for part in check.categories
    ]
    return _aligned([check.title, "normal", "anomalous", "train"], rows)


def _aligned(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    from tabulate import tabulate

    return str(tabulate(rows, headers=head, disable_numparse=True))


def _against(found: Counts, expected: Counts, known: bool) -> list[str]:
    """Cells "found/expected" for normal and anomalous test images and for train images."""
    if not known:
        return ["", "", ""]

    pairs = [
        (found.test_normal, expected.test_normal),
        (found.test_anomalous, expected.test_anomalous),
        (found.train, expected.train),
    ]
    return [f"{a}" if b is None else f"{a}/{b}" for a, b in pairs]
