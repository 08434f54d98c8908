"""The result of a cell as one JSON file, and a run directory as a DataFrame.

A cell is (method, variant, options, dataset, seed). Its record holds one entry per category with
every metric, what is undefined and why, the per-image scores, and all that was needed to get them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .errors import ZsadError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
CELLS = "cells"
METRICS = (
    "image_auroc",
    "image_ap",
    "image_f1max",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1max",
    "pixel_pro",
    "pixel_pro_official200",
)
PACKAGES = ("zsad", "torch", "open_clip_torch", "numpy", "scipy", "scikit-learn", "pillow")


class RecordError(ZsadError):
    """A record or a run directory is missing, broken, or of an unknown schema."""


@dataclass(frozen=True)
class Cell:
    """What one record is about. `options` holds only what differs from the variant's defaults."""

    method: str
    variant: str
    dataset: str
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A file name that is the cell's identity; never leaves the run directory."""
        parts = [self.method, self.variant, self.dataset, f"seed{self.seed}"]
        if self.options:
            text = json.dumps(dict(self.options), sort_keys=True, default=str)
            parts.append(hashlib.sha256(text.encode()).hexdigest()[:8])
        name = "--".join(parts)
        return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


@dataclass(frozen=True)
class ImageScores:
    """Per-image results of a category, in the order of its samples."""

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
        timing: seconds_train, seconds_predict, ms_per_image, images_per_second, peak_memory_mb.
        published_parameters, effective_parameters: of the method.
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
    schema: int = SCHEMA_VERSION


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a temporary name, then rename: the file is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_record(run: Path, record: Record) -> Path:
    """Store a record in a run directory; returns its path."""
    path = run / CELLS / f"{record.cell.key}.json"
    write_json(path, dataclasses.asdict(record))
    return path


def read_record(path: Path) -> Record:
    """Read one record.

    Raises:
        RecordError: missing, no JSON, lacking a field, or of a newer schema; names the file.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise TypeError("not an object")
        if int(raw.get("schema", 0)) > SCHEMA_VERSION:
            raise RecordError(f"{path} has schema {raw['schema']}: update zsad to read it")
        return _record(raw)
    except RecordError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RecordError(
            f"{path} is no readable record ({error}): delete it and run again"
        ) from error


def _record(raw: dict[str, Any]) -> Record:
    cell = Cell(**raw.pop("cell"))
    if raw["status"] not in ("ok", "error"):
        raise ValueError(f"status '{raw['status']}'")
    categories = []
    for item in raw.pop("categories", []):
        images = item.pop("images", None)
        scores = None if images is None else ImageScores(**images)
        categories.append(CategoryResult(**item, images=scores))
    error = raw.pop("error", None)
    return Record(
        cell=cell,
        categories=categories,
        error=None if error is None else ErrorInfo(**error),
        **raw,
    )


def read_records(run: Path | str) -> list[Record]:
    """All records of a run directory, sorted by file name.

    Raises:
        RecordError: the directory is no run, or one of its files is broken.
    """
    folder = Path(run) / CELLS
    if not folder.is_dir():
        raise RecordError(f"{run} is no run directory: it has no folder '{CELLS}'")
    return [read_record(path) for path in sorted(folder.glob("*.json"))]


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Records as a tidy frame: one row per cell, category and metric.

    Columns: method, title, variant, options (JSON text), dataset, category, seed, metric,
    value (in [0, 1], NaN where undefined), reason (why undefined, else "").
    """
    import pandas as pd

    rows = []
    for record in records:
        cell = record.cell
        options = json.dumps(dict(cell.options), sort_keys=True) if cell.options else ""
        for result in record.categories:
            for metric in METRICS:
                rows.append(
                    {
                        "method": cell.method,
                        "title": record.title,
                        "variant": cell.variant,
                        "options": options,
                        "dataset": cell.dataset,
                        "category": result.category,
                        "seed": cell.seed,
                        "metric": metric,
                        "value": result.metrics.get(metric, float("nan")),
                        "reason": result.undefined.get(metric, ""),
                    }
                )
    columns = ["method", "title", "variant", "options", "dataset", "category", "seed", "metric", "value", "reason"]
    return pd.DataFrame(rows, columns=columns)


def load_run(path: Path | str) -> pd.DataFrame:
    """A run directory as a tidy DataFrame, one row per (method, variant, dataset, category, seed,
    metric); cells that failed have no rows.

    Raises:
        RecordError: the directory is no run, or a record is broken.
    """
    return to_frame(record for record in read_records(path) if record.status == "ok")


@lru_cache(maxsize=1)
def environment() -> Mapping[str, str]:
    """Package versions, Python, platform and the git commit of the source, for provenance."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    found["commit"] = _git_commit()
    return found


def _git_commit() -> str:
    """The commit of the checkout this file lies in, "+changes" if dirty, "" outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5
        )
        state = subprocess.run(
            ["git", "-C", str(here), "status", "--porcelain", "-uno"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    if commit.returncode:
        return ""
    return commit.stdout.strip() + ("+changes" if state.stdout.strip() else "")
