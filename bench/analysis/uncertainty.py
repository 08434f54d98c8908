"""How sure the numbers of one run are: intervals of its values, and ranks of its methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..errors import UsageError
from ..metric_table import METRICS, checked_metrics
from ..names import display_name
from ..records.record import Record
from ..track import Track
from .matrix import EvaluatedMethod, Matrix, TargetDataset, arrange
from .resampling import DEFAULT_SETTINGS, Settings, pair_images
from .statistics import ImageMetric, Interval, Ranking, StatsError, interval, rank_methods
from .values import Value


def intervals(
    records: Sequence[Record], metric: ImageMetric, settings: Settings = DEFAULT_SETTINGS
) -> dict[tuple[EvaluatedMethod, TargetDataset], Interval]:
    """The interval of an image-level metric for every method and dataset of a run.

    Cells without scores or without both labels have none. Seeds are averaged.
    """
    found = {}
    for key, cell in arrange(records).cells.items():
        images = pair_images(cell, ())
        if not images.why_not:
            values, replicates = settings.bootstrap(images, [metric])[metric]
            mean = float(values.mean())
            found[key] = interval(mean, replicates.mean(axis=0), settings.level)
    return found


def tracks_of(records: Sequence[Record]) -> dict[Track, Sequence[Record]]:
    """The records of each track, zero-shot first."""
    matrix = arrange(records)
    return {track: matrix.of_track(track).records for track in matrix.tracks}


def rank(
    records: Sequence[Record], metric: str, alpha: float = 0.05, allow_incomplete: bool = False
) -> Ranking:
    """Average ranks of the methods of one track over the datasets that all of them have.

    Datasets whose copy is incomplete do not count unless they are allowed.

    Raises:
        UsageError: no such metric, or the methods are of several tracks.
        StatsError: too few methods or datasets, or the extra `stats` is missing.
    """
    import pandas as pd

    (metric,) = checked_metrics([metric])
    matrix = arrange(records, allow_incomplete=allow_incomplete)
    if len(matrix.tracks) > 1:
        raise UsageError(
            f"methods of several tracks have no common ranks: {', '.join(matrix.tracks)}"
        )
    sign = 1 if METRICS[metric].higher_is_better else -1
    measured = {m: [matrix.value(m, d, metric) for d in matrix.datasets] for m in matrix.methods}
    measured = {m: v for m, v in measured.items() if any(own.value is not None for own in v)}
    columns = {
        method.label: [None if matrix.leaves_out(own) else own.value for own in values]
        for method, values in measured.items()
    }
    if not columns:
        raise StatsError(f"no method of this run has {display_name(metric)}")
    table = sign * pd.DataFrame(columns, dtype=float).dropna()
    ranking = rank_methods({label: list(table[label]) for label in columns}, alpha)
    return replace(ranking, left_out=tuple(_left_out(matrix, measured)))


def _left_out(matrix: Matrix, measured: Mapping[EvaluatedMethod, Sequence[Value]]) -> Iterator[str]:
    """The datasets that do not count, each with the reason."""
    for i, dataset in enumerate(matrix.datasets):
        missing = [method.label for method, own in measured.items() if own[i].value is None]
        if missing:
            yield f"{dataset.title} (no value of {', '.join(missing)})"
        elif any(matrix.leaves_out(own[i]) for own in measured.values()):
            yield f"{dataset.title} (incomplete)"
