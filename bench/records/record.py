"""The result of a cell as one JSON file, and a run directory as a DataFrame.

A cell is (method, variant, options, dataset, seed). Its record holds one entry per category with
every metric, what is undefined and why, the per-image scores, and all that was needed to get them.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..data.completeness import Completeness
from ..errors import ZsadError
from ..files import read_json, write_json
from ..metric_table import METRICS
from .cell import Cell
from .json_fields import (
    as_amount,
    as_anything,
    as_class,
    as_count,
    as_fraction,
    as_label,
    as_number,
    as_text,
    as_whole,
    build,
    list_of,
    mapping_of,
    optional,
    shown,
)
from .run_folder import CELLS, record_path

if TYPE_CHECKING:
    import pandas as pd

LOG = logging.getLogger(__name__)
SCHEMA_VERSION = 1
UNDECLARED = "undeclared"  # the protocol's auxiliary dataset, where nobody says what it was
FRAME_COLUMNS = (
    "method",
    "title",
    "variant",
    "options",
    "dataset",
    "category",
    "seed",
    "metric",
    "value",
    "reason",
    "label",
    "dataset_label",
)


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
    labels: list[int]
    scores: list[float] | None


@dataclass(frozen=True)
class CategoryResult:
    """The metrics of one category, in [0, 1].

    Attributes:
        metrics: name -> value, only those that are defined.
        undefined: name -> why it is absent.
        curves: name ("image_roc", "pixel_roc", "pixel_pro") -> {"x": [...], "y": [...]}.
        regions_lost: mask regions that vanished when masks were resized.
    """

    category: str
    class_name: str
    n_normal: int
    n_anomalous: int
    metrics: Mapping[str, float]
    undefined: Mapping[str, str] = field(default_factory=dict)
    images: ImageScores | None = None
    curves: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    regions_lost: int = 0


@dataclass(frozen=True)
class Auxiliary:
    """The images that a method was learned from, by the run or as its checkpoint's header says.

    Attributes:
        name: registry name.
        split: "test" or "all".
        images: number of images learned from.
        fingerprint: of these images.
        completeness: what the copy held of the dataset; None is unknown.
    """

    name: str
    split: str
    images: int
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
    """A cell's file.

    Attributes:
        protocol: what must be equal for two numbers to be comparable (backbone and weights
            sha256, image and map size, resize and mask rule, sigma, temperature, auxiliary set and
            split, epochs, metric version, dataset fingerprint, ...).
        provenance: how it came about (package versions, device, commit, start).
        timing: images, seconds_forward, seconds_predict, ms_per_image, peak_memory_mb, and of
            methods that were fitted here what the fitting took.
        published_parameters, effective_parameters: of the method.
        completeness: what the copy held of its dataset, and what was chosen of it; None is unknown.
        auxiliary: what the method was learned from; None where it is not learned, or nobody knows.
        warnings: what is odd about the copy of the dataset, a sentence each.
        identity: field -> value or digest of all that decides the numbers, see `identity`; empty in
            records of earlier versions and of failed cells.
    """

    cell: Cell
    status: Literal["ok", "error"]
    title: str
    categories: list[CategoryResult] = field(default_factory=list)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    timing: Mapping[str, float] = field(default_factory=dict)
    published_parameters: int | None = None
    effective_parameters: int | None = None
    error: ErrorInfo | None = None
    completeness: Completeness | None = None
    auxiliary: Auxiliary | None = None
    warnings: list[str] = field(default_factory=list)
    schema: int = SCHEMA_VERSION
    identity: Mapping[str, str] = field(default_factory=dict)

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
        RecordError: missing, no JSON, lacking a field, a field of a wrong kind, or of a newer
            schema; names the file.
    """
    try:
        raw = read_json(path)
        if isinstance(raw, dict) and as_whole(raw.get("schema", 1)) > SCHEMA_VERSION:
            raise RecordError(f"{path} has schema {raw['schema']}: update zsad to read it")
        return _record(raw)
    except RecordError:
        raise
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RecordError(
            f"{path} is no readable record ({error}): delete it and run again"
        ) from error


def category_from_json(raw: Any) -> CategoryResult:
    """A category's result from its plain form.

    Raises:
        TypeError, ValueError: a field is missing or of a wrong kind; the message names it.
    """
    result: CategoryResult = build(
        CategoryResult,
        raw,
        category=as_label,
        class_name=as_label,
        n_normal=as_count,
        n_anomalous=as_count,
        metrics=mapping_of(as_fraction),
        undefined=mapping_of(as_text),
        images=optional(_images),
        curves=mapping_of(_curve),
        regions_lost=as_count,
    )
    return result


def auxiliary_from_json(raw: Any) -> Auxiliary:
    """What a method was learned from, from its plain form.

    Raises:
        TypeError, ValueError: a field is missing or of a wrong kind; the message names it.
    """
    auxiliary: Auxiliary = build(
        Auxiliary,
        raw,
        name=as_text,
        split=as_text,
        images=as_count,
        fingerprint=as_text,
        completeness=optional(Completeness.from_json),
    )
    return auxiliary


def _record(raw: Any) -> Record:
    record: Record = build(
        Record,
        raw,
        cell=_cell,
        status=_status,
        title=as_label,
        categories=list_of(category_from_json),
        protocol=_protocol,
        provenance=mapping_of(as_anything),
        timing=mapping_of(as_amount),
        published_parameters=optional(as_count),
        effective_parameters=optional(as_count),
        error=optional(_error),
        completeness=optional(Completeness.from_json),
        auxiliary=optional(auxiliary_from_json),
        warnings=list_of(as_text),
        schema=_schema,
        identity=mapping_of(as_text),
    )
    if (record.status == "error") != (record.error is not None):
        raise ValueError(f"status '{record.status}' does not fit the field 'error'")
    names = [result.category for result in record.categories]
    if len(set(names)) != len(names):
        raise ValueError("categories: a category occurs twice")
    return record


def _cell(raw: Any) -> Cell:
    cell: Cell = build(
        Cell,
        raw,
        method=as_label,
        variant=as_label,
        dataset=as_label,
        seed=as_whole,
        options=mapping_of(as_anything),
        label=as_label,
        dataset_label=as_label,
    )
    return cell


def _images(raw: Any) -> ImageScores:
    images: ImageScores = build(
        ImageScores,
        raw,
        names=list_of(as_text),
        labels=list_of(as_class),
        scores=optional(list_of(as_number)),
    )
    sizes = {len(part) for part in (images.names, images.labels, images.scores) if part is not None}
    if len(sizes) > 1:
        raise ValueError("names, labels and scores differ in length")
    return images


def _error(raw: Any) -> ErrorInfo:
    info: ErrorInfo = build(ErrorInfo, raw, type=as_text, message=as_text, traceback=as_text)
    return info


def _status(value: Any) -> str:
    if value not in ("ok", "error"):
        raise ValueError(f"neither 'ok' nor 'error': {shown(value)}")
    return str(value)


def _schema(value: Any) -> int:
    if not 1 <= as_whole(value) <= SCHEMA_VERSION:
        raise ValueError(f"no schema {value} exists")
    return int(value)


def _curve(value: Any) -> dict[str, list[float]]:
    """The two coordinates of a curve, equally many."""
    curve: dict[str, list[float]] = mapping_of(list_of(as_fraction))(value)
    if not {"x", "y"} <= curve.keys() or len(curve["x"]) != len(curve["y"]):
        raise ValueError("not as many x as y")
    return curve


def _protocol(value: Any) -> dict[str, Any]:
    """A protocol of which the entries that readers use are of the right kind."""
    protocol: dict[str, Any] = mapping_of(as_anything)(value)
    known = {"dataset_title": as_label, "domain": as_label, "backbone": as_label, "limit": as_count}
    for name, convert in known.items():
        if protocol.get(name) is not None:
            try:
                convert(protocol[name])
            except (TypeError, ValueError) as error:
                raise type(error)(f"{name}: {error}") from error
    return protocol


def read_records(run: Path | str) -> list[Record]:
    """All records of a run directory, sorted by file name.

    Raises:
        RecordError: the directory is no run, or one of its files is broken.
    """
    folder = Path(run) / CELLS
    if not folder.is_dir():
        raise RecordError(f"{run} is no run directory: it has no folder '{CELLS}'")
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


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Records as a tidy frame: one row per cell, category and metric.

    Columns: method, title, variant, options (JSON text), dataset, category, seed, metric,
    value (in [0, 1], NaN where undefined), reason (why undefined, else ""), label and
    dataset_label (of the plan's entries, "" without one).
    """
    import pandas as pd

    rows = [
        (
            record.cell.method,
            record.title,
            record.cell.variant,
            record.cell.options_text,
            record.cell.dataset,
            result.category,
            record.cell.seed,
            metric,
            result.metrics.get(metric, float("nan")),
            result.undefined.get(metric, ""),
            record.cell.label,
            record.cell.dataset_label,
        )
        for record in records
        for result in record.categories
        for metric in METRICS
    ]
    return pd.DataFrame(rows, columns=list(FRAME_COLUMNS))


def load_run(path: Path | str) -> pd.DataFrame:
    """A run directory as a tidy DataFrame; see `to_frame`. Cells that failed have no rows.

    Raises:
        RecordError: the directory is no run, or a record is broken.
    """
    return to_frame(record for record in read_records(path) if record.status == "ok")
