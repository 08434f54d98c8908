"""The result of a cell as one JSON file.

A cell is (method, variant, options, dataset, seed). Its record holds one entry per category with
every metric, what is undefined and why, the per-image scores, and all that was needed to get them.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from typing_extensions import TypedDict

from ..data.completeness import Completeness
from ..errors import ZsadError, reading
from ..extra_work import ExtraWork
from ..files import read_json, write_json
from ..json_fields import Amount, Binary, Count, Fraction, Label, ReadAs, from_json
from ..track import Track
from .cell import Cell
from .protocol import current_protocol
from .run_folder import CELLS, record_path

LOG = logging.getLogger(__name__)
SCHEMA_VERSION = 1
UNDECLARED = "undeclared"  # the protocol's auxiliary dataset, where it is not known


class Points(TypedDict):
    """A curve: as many x as y."""

    x: list[Fraction]
    y: list[Fraction]


class KnownProtocol(TypedDict, total=False):
    """The entries of a protocol that pages and tables print."""

    __pydantic_config__ = {"extra": "allow"}  # type: ignore[misc]  # noqa: RUF012
    dataset_title: Label | None
    domain: Label | None
    backbone: Label | None
    limit: Count | None


class RecordError(ZsadError):
    """A record or a run directory is missing, broken, or of an unknown schema."""


@dataclass(frozen=True)
class ImageScores:
    """Per-image results of a category, in the order of its samples.

    Attributes:
        names: the images' names below the dataset's root.
        labels: 0 normal, 1 anomalous.
        scores: anomaly scores, greater is more anomalous; None from a method without them.
    """

    names: list[str]
    labels: list[Binary]
    scores: list[float] | None

    def __post_init__(self) -> None:
        """Refuse lists of different lengths."""
        lists = [part for part in (self.names, self.labels, self.scores) if part is not None]
        if len({len(part) for part in lists}) > 1:
            raise ValueError("names, labels and scores differ in length")


@dataclass(frozen=True)
class Threshold:
    """The threshold of a metric, learned from other images than those that were scored.

    Attributes:
        value: scores from it on are reported as anomalous.
        source: what it was learned from, and how, in words.
    """

    value: float
    source: str


@dataclass(frozen=True)
class CategoryResult:
    """The metrics of one category.

    Attributes:
        class_name: the word that prompts used.
        n_normal, n_anomalous: numbers of images.
        metrics: name -> value in [0, 1], up to rounding; only those that are defined.
        undefined: name of a metric -> why it has no value.
        images: per-image results; null is unknown.
        curves: image_roc, pixel_roc and pixel_pro -> points, as many x as y.
        regions_lost: mask regions that vanished when masks were resized.
        thresholds: of metrics at a threshold that was learned elsewhere, by metric.
    """

    category: Label
    class_name: Label
    n_normal: Count
    n_anomalous: Count
    metrics: Mapping[str, Fraction]
    undefined: Mapping[str, str] = field(default_factory=dict)
    images: ImageScores | None = None
    curves: Mapping[str, Points] = field(default_factory=dict)
    regions_lost: Count = 0
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)

    def measured(self, metric: str) -> bool:
        """Whether a metric has a value, or a reason why it has none."""
        return metric in self.metrics or metric in self.undefined

    def __post_init__(self) -> None:
        """Refuse curves of which a coordinate is missing for some points."""
        if any(len(curve["x"]) != len(curve["y"]) for curve in self.curves.values()):
            raise ValueError("curves: not as many x as y")


@dataclass(frozen=True)
class Auxiliary:
    """The images that a method was trained on, by the run or as its checkpoint's header says.

    Attributes:
        name: registry name.
        split: "test" or "all".
        images: number of images trained on.
        fingerprint: of these images.
        completeness: what the copy held of the dataset; null is unknown.
    """

    name: str
    split: str
    images: Count
    fingerprint: str
    completeness: Completeness | None = None


@dataclass(frozen=True)
class ErrorInfo:
    """Why a cell failed."""

    type: str
    message: str
    traceback: str


@dataclass(frozen=True)
class Record:
    """The result of one cell (method, variant, options, dataset, seed): RUN/cells/<cell>.json.

    Attributes:
        status: error if and only if the field error is not null.
        title: the method as tables print it.
        categories: no category occurs twice.
        protocol: what must be equal for two numbers to be comparable: backbone and weights
            sha256, image and map size, resize and mask rule, sigma, temperature, auxiliary set and
            split, epochs, metric version, dataset fingerprint and more.
        provenance: how it came about: package versions, python, platform, device, commit, started
            (ISO 8601, UTC).
        timing: images, seconds_forward, seconds_predict, ms_per_image, peak_memory_mb, of methods
            that were trained here what the training took, and of a profile the seconds of the other
            stages.
        published_parameters: learned parameters as the paper counts them.
        effective_parameters: those that receive a gradient.
        completeness: what the copy held of its dataset, and what was chosen of it; null is unknown.
        auxiliary: what the method was trained on; null where it is training-free, or unknown.
        warnings: what is odd about the copy of the dataset, a sentence each.
        identity: field -> value or digest of all that decides the numbers; empty in records of
            earlier versions and of failed cells.
        track: what the method saw of the target dataset; records of two tracks are not compared.
        extra_work: what the method declares to cost beside the shared visual forward; null in
            records of earlier versions.
    """

    cell: Cell
    status: Literal["ok", "error"]
    title: Label
    categories: list[CategoryResult] = field(default_factory=list)
    protocol: Annotated[Mapping[str, Any], ReadAs(KnownProtocol)] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    timing: Mapping[str, Amount] = field(default_factory=dict)
    published_parameters: Count | None = None
    effective_parameters: Count | None = None
    error: ErrorInfo | None = None
    completeness: Completeness | None = None
    auxiliary: Auxiliary | None = None
    warnings: list[str] = field(default_factory=list)
    schema: Annotated[int, Ge(1), Le(SCHEMA_VERSION)] = SCHEMA_VERSION
    identity: Mapping[str, str] = field(default_factory=dict)
    track: Track = Track.ZERO_SHOT
    extra_work: ExtraWork | None = None

    def __post_init__(self) -> None:
        """Refuse an error without a reason, and a category that occurs twice."""
        if (self.status == "error") != (self.error is not None):
            raise ValueError(f"status '{self.status}' does not fit the field 'error'")
        if len(self.by_category) != len(self.categories):
            raise ValueError("categories: a category occurs twice")

    @cached_property
    def by_category(self) -> Mapping[str, CategoryResult]:
        """The results by their category's name."""
        return {result.category: result for result in self.categories}


def write_record(run: Path, record: Record) -> Path:
    """Store a record in a run directory; returns its path."""
    path = record_path(run, record.cell)
    write_json(path, dataclasses.asdict(record))
    return path


def read_record(path: Path) -> Record:
    """Read one record.

    Fields that this version does not know are ignored and logged; optional ones that are missing
    take their defaults, so that records of a later or an earlier minor version are read.

    Raises:
        RecordError: missing, not JSON, lacking a field, a field of a wrong kind, or of a newer
            schema; names the file.
    """
    with reading(path, "record", RecordError, ": delete it and run again"):
        raw = read_json(path)
        if isinstance(raw, dict) and from_json(int, raw.get("schema", 1)) > SCHEMA_VERSION:
            raise RecordError(f"{path} has schema {raw['schema']}: update zsad to read it")
        record = from_json(Record, raw)
        return dataclasses.replace(record, protocol=current_protocol(record.protocol))


def read_records(run: Path | str) -> list[Record]:
    """All records of a run directory, sorted by file name.

    Raises:
        RecordError: the directory is not a run, or one of its files is broken.
    """
    folder = Path(run) / CELLS
    if not folder.is_dir():
        raise RecordError(f"{run} is not a run directory: it has no folder '{CELLS}'")
    records = []
    for path in sorted(folder.glob("[!.]*.json")):
        record = read_record(path)
        if record.cell.key != path.stem:
            raise RecordError(
                f"{path} is named otherwise than its cell ({record.cell.key}.json): "
                "rename it, or delete it and run again"
            )
        records.append(record)
    return records
