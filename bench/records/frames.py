"""A run directory as tidy DataFrames: a row per category and metric, or a row per image."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..metric_table import METRICS
from .record import CategoryResult, Record, read_records

if TYPE_CHECKING:
    import pandas as pd

Column = Callable[[Record, CategoryResult], Any]

PROTOCOL_COLUMNS = (
    *("backbone", "weights_sha256", "precision", "image_size", "map_size", "limit"),
    *("metric_version", "dataset_fingerprint", "auxiliary", "auxiliary_split", "shots"),
)
"""Entries of the protocol that are columns of their own; the column `protocol` holds them all."""

CELL_COLUMNS: Mapping[str, Column] = {
    "method": lambda record, _: record.cell.method,
    "title": lambda record, _: record.title,
    "variant": lambda record, _: record.cell.variant,
    "options": lambda record, _: record.cell.options_text,
    "dataset": lambda record, _: record.cell.dataset,
    "category": lambda _, result: result.category,
    "seed": lambda record, _: record.cell.seed,
    "label": lambda record, _: record.cell.label,
    "dataset_label": lambda record, _: record.cell.dataset_label,
    "track": lambda record, _: str(record.track),
}
"""Which cell and category a row is of."""


def _entry(name: str) -> Column:
    return lambda record, _: record.protocol.get(name)


DETAIL_COLUMNS: Mapping[str, Column] = {
    "dataset_title": lambda record, _: record.protocol.get("dataset_title"),
    "domain": lambda record, _: record.protocol.get("domain"),
    "class_name": lambda _, result: result.class_name,
    "n_normal": lambda _, result: result.n_normal,
    "n_anomalous": lambda _, result: result.n_anomalous,
    "regions_lost": lambda _, result: result.regions_lost,
    "complete": lambda record, _: record.completeness and record.completeness.complete,
    **{name: _entry(name) for name in PROTOCOL_COLUMNS},
    "protocol": lambda record, _: json.dumps(record.protocol, sort_keys=True, default=str),
}
"""What is known of the data and of the conditions of a row."""


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Records as a tidy frame: one row per cell, category and metric.

    Columns: those of `CELL_COLUMNS` (options are JSON text; label and dataset_label are "" without
    one), metric, value (in [0, 1], NaN where there is none), reason (why there is none, else ""),
    and those of `DETAIL_COLUMNS`: numbers of images, whether the copy of the dataset is complete
    (None where that is unknown), entries of the protocol (None where the record states none), and
    the whole protocol as JSON text.
    """
    import pandas as pd

    columns = [*CELL_COLUMNS, "metric", "value", "reason", *DETAIL_COLUMNS]
    rows = []
    for record in records:
        for result in record.categories:
            cell = [value_of(record, result) for value_of in CELL_COLUMNS.values()]
            details = [value_of(record, result) for value_of in DETAIL_COLUMNS.values()]
            for metric in METRICS:
                value = result.metrics.get(metric, float("nan"))
                rows.append([*cell, metric, value, _reason(result, metric), *details])
    return pd.DataFrame(rows, columns=columns)


def _reason(result: CategoryResult, metric: str) -> str:
    """Why a metric has no value."""
    return "" if metric in result.metrics else result.undefined.get(metric, "not measured")


def load_run(path: Path | str) -> pd.DataFrame:
    """A run directory as a tidy DataFrame; see `to_frame`. Cells that failed have no rows.

    Raises:
        RecordError: the directory is not a run, or a record is broken.
    """
    return to_frame(_finished(path))


def per_image_frame(path: Path | str) -> pd.DataFrame:
    """The images of a run directory: one row per cell and image. Cells that failed have no rows.

    Columns: those of `CELL_COLUMNS`, image (its name below the dataset's root), anomalous (the
    truth) and score (greater is more anomalous, NaN from a method without scores; scores of two
    methods or categories are not on one scale).

    Raises:
        RecordError: the directory is not a run, or a record is broken.
    """
    import pandas as pd

    rows = []
    for record in _finished(path):
        for result in record.categories:
            if result.images is None:
                continue
            cell = [value_of(record, result) for value_of in CELL_COLUMNS.values()]
            scores = result.images.scores or [float("nan")] * len(result.images.names)
            images = zip(result.images.names, result.images.labels, scores, strict=True)
            rows += [[*cell, name, label == 1, score] for name, label, score in images]
    return pd.DataFrame(rows, columns=[*CELL_COLUMNS, "image", "anomalous", "score"])


def _finished(path: Path | str) -> list[Record]:
    return [record for record in read_records(path) if record.status == "ok"]
