"""The datasets of a run, each opened and listed once per process and handed down."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from .. import registry
from ..dataset import Dataset, Sample, first_of_each
from ..errors import DataError, ZsadError, message_of
from ..names import display_name
from ..records.category_record import track_of
from ..training.references import has_normal_images
from .plan import Job, Plan
from .plan_entries import DatasetPlan

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedDataset:
    """A dataset that is tested on, with the samples that a run takes of each category."""

    dataset: Dataset
    by_category: Mapping[str, list[Sample]]

    @property
    def images(self) -> int:
        """Number of test images."""
        return sum(map(len, self.by_category.values()))


@dataclass
class OpenDatasets:
    """What was opened so far, of targets and of auxiliary datasets.

    Attributes:
        limit: at most so many test images per category and label; None is all.
    """

    limit: int | None = None
    _targets: dict[str, OpenedDataset] = field(default_factory=dict)
    _auxiliaries: dict[str, Dataset] = field(default_factory=dict)

    def target(self, entry: DatasetPlan) -> OpenedDataset:
        """The dataset of an entry of a job.

        Raises:
            DataError: it cannot be opened or listed, or a file's name is not UTF-8.
        """
        if entry.target not in self._targets:
            try:
                dataset = registry.load_dataset(entry.name, entry.root, **entry.options)
                samples = dataset.samples("test")
            except ZsadError:
                raise
            except Exception as error:
                what = f"{type(error).__name__}: {message_of(error)}"
                raise DataError(
                    f"dataset '{display_name(entry.target)}' cannot be opened ({what}): check its "
                    "folder and its options"
                ) from error
            grouped = _by_category(dataset, samples, self.limit)
            self._targets[entry.target] = OpenedDataset(dataset, grouped)
        return self._targets[entry.target]

    def auxiliary(self, job: Job) -> Dataset:
        """The dataset that a job's method is trained on.

        Raises:
            DataError: it is not there; the message says how to name another one.
        """
        entry = job.auxiliary
        if entry.name not in self._auxiliaries:
            try:
                dataset = registry.load_dataset(entry.name, entry.root, **entry.options)
                dataset.samples("test")
            except DataError as error:
                raise DataError(
                    f"trained methods learn from {display_name(entry.name)}: give --auxiliary "
                    f"NAME to learn from another dataset, or get that one: {error}"
                ) from error
            self._auxiliaries[entry.name] = dataset
        return self._auxiliaries[entry.name]


def _by_category(
    dataset: Dataset, samples: list[Sample], limit: int | None
) -> dict[str, list[Sample]]:
    """The samples by category; with a limit, the first of each label.

    Raises:
        DataError: the name of a file is not UTF-8.
    """
    for sample in samples:
        name = sample.name(dataset.root)
        shown = name.encode("utf-8", "backslashreplace").decode()
        if shown != name:  # it cannot be written into a record
            raise DataError(f"the name of file {shown} is not UTF-8: rename the file")
    grouped: dict[str, list[Sample]] = {}
    for sample in first_of_each(samples, limit):
        grouped.setdefault(sample.category, []).append(sample)
    return grouped


def served_jobs(plan: Plan, datasets: OpenDatasets) -> list[Job]:
    """The jobs of a plan but for those that need normal training images and have none.

    A few-shot or full-shot method is left out, with a warning, on a dataset without normal training
    images. A dataset that cannot be opened is left to the run, which says so.

    Raises:
        DataError: no job is left.
    """
    served, missing = [], ""
    for job in plan.jobs():
        if track_of(job.cell).has_references and not _has_references(job, datasets):
            missing = (
                f"{display_name(job.method.name)} needs normal training images and "
                f"{display_name(job.dataset.name)} has none: get its train split, or choose "
                "methods of another track"
            )
            LOG.warning("%s; it is left out there", missing)
        else:
            served.append(job)
    if not served:
        raise DataError(missing)
    return served


def _has_references(job: Job, datasets: OpenDatasets) -> bool:
    try:
        dataset = datasets.target(job.dataset).dataset
    except ZsadError:
        return True
    return has_normal_images(dataset)
