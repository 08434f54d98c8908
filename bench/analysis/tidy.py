"""A run as tidy rows: one per method, dataset, category, metric and seed, with every digit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..metric_table import METRICS, checked_metrics
from ..records.frames import to_frame
from ..records.record import Record
from .matrix import arrange
from .resampling import DEFAULT_SETTINGS, Settings, pair_images
from .statistics import RESAMPLED, Interval, interval

if TYPE_CHECKING:
    import pandas as pd

TIDY = "tidy"  # the layout that is this and no table


def tidy_frame(
    source: Path | str | Iterable[Record],
    *,
    datasets: Sequence[str] = (),
    metrics: Sequence[str] = (),
    settings: Settings = DEFAULT_SETTINGS,
) -> pd.DataFrame:
    """The rows of `records.frames.to_frame` with intervals, those of failed cells included.

    Further columns: low and high (ends of the percentile interval of a bootstrap over the
    category's images, None where there is none: for pixel-level metrics, and where scores were not
    kept), level, replicates and resampling of the interval, and status (ok or error). A failed cell
    has a row for each metric, without category, with the error as its reason.

    Args:
        source: a run directory or records.
        datasets: only these; all if empty.
        metrics: only these; all if empty.
        settings: how intervals are estimated.

    Raises:
        RecordError: the directory is not a run, or a record is broken.
        UsageError: an unknown dataset or metric, or there are no records.
    """
    import pandas as pd

    shown = arrange(source, datasets).records
    chosen = checked_metrics(metrics) or tuple(METRICS)
    frames = [_of_record(record, settings) for record in shown]
    frame = pd.concat(frames, ignore_index=True)
    return frame[frame["metric"].isin(chosen)].reset_index(drop=True)


def _of_record(record: Record, settings: Settings) -> pd.DataFrame:
    if record.error is not None:
        return _of_failure(record, settings)
    frame = to_frame([record])
    found = _intervals(record, settings)
    places = [*zip(frame["category"], frame["metric"], strict=True)]
    spans = [found.get(place) for place in places]
    return _with_intervals(frame, spans, settings, "ok")


def _of_failure(record: Record, settings: Settings) -> pd.DataFrame:
    """A row for each metric of a cell that failed."""
    from ..records.record import CategoryResult

    error = record.error
    why = "" if error is None else f"{error.type}: {error.message}"
    nothing = CategoryResult("", "", 0, 0, {}, dict.fromkeys(METRICS, why))
    frame = to_frame([dataclasses.replace(record, status="ok", error=None, categories=[nothing])])
    return _with_intervals(frame, [None] * len(frame), settings, "error")


def _with_intervals(
    frame: pd.DataFrame, spans: Sequence[Interval | None], settings: Settings, status: str
) -> pd.DataFrame:
    """The frame with an interval for each row right after its value."""
    import pandas as pd

    place = list(frame.columns).index("value") + 1
    columns: dict[str, Any] = {
        "low": [span and span.low for span in spans],
        "high": [span and span.high for span in spans],
        "level": [span and settings.level for span in spans],
        "replicates": pd.Series([span and settings.replicates for span in spans], dtype=object),
        "resampling": [span and settings.resampling for span in spans],
        "status": status,
    }
    for i, (name, values) in enumerate(columns.items()):
        frame.insert(place + i, name, values)
    return frame


def _intervals(record: Record, settings: Settings) -> Mapping[tuple[str, str], Interval]:
    """The intervals of a record by category and metric."""
    found: dict[tuple[str, str], Interval] = {}
    for result in record.categories:
        images = pair_images([dataclasses.replace(record, categories=[result])], [])
        if images.why_not:
            continue
        for metric, (values, replicates) in settings.bootstrap(images, RESAMPLED).items():
            mean = float(values.mean())
            found[result.category, metric] = interval(mean, replicates.mean(axis=0), settings.level)
    return found
