"""A finished category of a cell, and the record of a cell from all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import registry
from ..data.completeness import Completeness
from ..dataset import Dataset
from ..errors import reading
from ..extra_work import ExtraWork
from ..files import read_json
from ..json_fields import Amount, Count, from_json
from ..track import Track
from .cell import Cell
from .record import Auxiliary, CategoryResult, Record, RecordError
from .stages import STAGES

if TYPE_CHECKING:
    from ..method import Method, Options

IMAGES = "images of "  # and a category: its field in an identity
SUMMED = ("images", *(f"seconds_{stage}" for stage in STAGES))  # over categories; else the maximum
MAX_WARNINGS = 100  # about the copy of a dataset, in a record


@dataclass(frozen=True)
class CategoryRecord:
    """A finished category of a cell, with what the record of the cell takes from it."""

    result: CategoryResult
    protocol: Mapping[str, Any]
    provenance: Mapping[str, Any]
    timing: Mapping[str, Amount]
    published_parameters: Count | None
    effective_parameters: Count | None
    auxiliary: Auxiliary | None = None
    warnings: list[str] = field(default_factory=list)
    identity: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> CategoryRecord:
        """Read one that a run has written.

        Raises:
            RecordError: missing, not JSON, lacking a field or with one of a wrong kind; names the
                file.
        """
        with reading(path, "category record", RecordError):
            return from_json(cls, read_json(path))

    @staticmethod
    def combine(
        cell: Cell,
        dataset: Dataset,
        categories: Sequence[CategoryRecord],
        found: Completeness | None = None,
    ) -> Record:
        """The record of a cell from all its categories, and what the copy held of its dataset.

        Raises:
            RecordError: the categories were not made under equal conditions; names what differs.
            DataError: a file of the dataset cannot be read.
        """
        _refuse_mixture(cell, categories)
        timing: dict[str, float] = {}
        for one in categories:
            for name, value in one.timing.items():
                earlier = timing.get(name, 0)
                timing[name] = earlier + value if name in SUMMED else max(earlier, value)
        images = max(timing.get("images", 0), 1)
        seconds = timing.get("seconds_forward", 0) + timing.get("seconds_predict", 0)
        timing["ms_per_image"] = 1000 * seconds / images
        last = categories[-1]
        return Record(
            cell=cell,
            status="ok",
            title=registry.method_class(cell.method).title,
            categories=[one.result for one in categories],
            protocol={
                **last.protocol,
                "dataset_title": dataset.title,
                "domain": dataset.domain,
                "dataset_fingerprint": dataset.fingerprint("test"),
            },
            provenance={**last.provenance, "started": categories[0].provenance.get("started")},
            timing=timing,
            published_parameters=last.published_parameters,
            effective_parameters=last.effective_parameters,
            completeness=found,
            auxiliary=last.auxiliary,
            warnings=_bounded(
                [*dataset.faults(), *(w for one in categories for w in one.warnings)]
            ),
            identity={name: value for one in categories for name, value in one.identity.items()},
            track=track_of(cell),
            extra_work=_extra_work_of(cell),
        )


def track_of(cell: Cell) -> Track:
    """The track of a cell's method with its variant and options. Imports torch."""
    cls, options = _declared(cell)
    return cls.track_of(options)


def _extra_work_of(cell: Cell) -> ExtraWork:
    cls, options = _declared(cell)
    return cls.extra_work_of(options)


def _declared(cell: Cell) -> tuple[type[Method], Options]:
    """The class of a cell's method, and its options in full."""
    from ..method import make_options

    cls = registry.method_class(cell.method)
    return cls, make_options(cls, cell.variant, cell.options)


def _bounded(warnings: Sequence[str]) -> list[str]:
    """Each warning once, and of many the first ones and how many there are."""
    distinct = list(dict.fromkeys(warnings))
    if len(distinct) <= MAX_WARNINGS:
        return distinct
    return [*distinct[:MAX_WARNINGS], f"{len(distinct) - MAX_WARNINGS} more: see zsad data check"]


def _refuse_mixture(cell: Cell, categories: Sequence[CategoryRecord]) -> None:
    """Raise `RecordError` if categories differ in anything but their images."""
    first, *others = ({**one.identity} for one in categories)
    for other in others:
        differing = [
            name
            for name in first.keys() | other.keys()
            if not name.startswith(IMAGES) and first.get(name) != other.get(name)
        ]
        if differing:
            raise RecordError(
                f"categories of {cell.key} differ in {', '.join(sorted(differing))}: they cannot "
                "be combined into one record: start the same command again"
            )
