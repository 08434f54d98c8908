"""Metrics again, from what a run has kept: no model, no images.

Image-level metrics come from the per-image scores in every record, pixel-level ones from the raw
maps of a run made with `--save-maps` (`records/maps.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ZsadError
from ..metric_table import DEFAULT_METRICS, METRICS, Level, of_level
from ..metrics import ImageMetrics, PixelAccumulator, PixelMetrics, image_metrics
from ..records.maps import read_maps
from ..records.protocol import metric_versions, version_of
from ..records.record import CategoryResult, Record, RecordError, read_records
from ..records.run_folder import maps_path

NOT_KEPT: Mapping[Level, str] = {
    "image": "not recomputed: the record has no per-image scores",
    "pixel": "not recomputed: this run has no maps (--save-maps keeps them)",
}
IMAGES_AT_ONCE = 32
ROUNDING = 1e-9  # smaller moves are none

Measured = tuple[Mapping[str, float], Mapping[str, str]]
"""Values by metric, and why the others have none."""


@dataclass(frozen=True)
class Move:
    """A metric that came out differently; None is undefined."""

    cell: str
    category: str
    metric: str
    old: float | None
    new: float | None


@dataclass(frozen=True)
class Rescored:
    """A record with recomputed metrics, and what changed.

    Attributes:
        record: same cell, new metrics, this version's metric definition.
        moves: metrics that differ by more than `ROUNDING`.
        added: metrics of categories that had not been measured.
        pixel_level: the maps of all categories were there.
    """

    record: Record
    moves: tuple[Move, ...]
    pixel_level: bool
    added: int = 0


def rescore_run(run: Path) -> list[Rescored]:
    """Recompute all metrics of a run that can be; nothing is written.

    Raises:
        RecordError: the run, a record or a file of maps is broken.
    """
    return [_rescore(run, record) for record in read_records(run) if record.error is None]


def _rescore(run: Path, record: Record) -> Rescored:
    same = {m.name for m in METRICS.values() if version_of(record.protocol, m.name) == m.version}
    results, moves, with_maps, added = [], [], [], 0
    for result in record.categories:
        path = maps_path(run, record.cell, result.category)
        with_maps.append(path.is_file())
        try:
            image = _image_level(result) or _kept(result, "image", same)
            pixel = _pixel_level(path, result) or _kept(result, "pixel", same)
        except ZsadError as error:
            raise RecordError(f"{record.cell.key}, {result.category}: {error}") from error
        metrics, undefined = {**image[0], **pixel[0]}, {**image[1], **pixel[1]}
        new = dataclasses.replace(result, metrics=metrics, undefined=undefined)
        results.append(new)
        moves += _moves(record.cell.key, result, new)
        added += len([name for name in new.metrics if not result.measured(name)])
    protocol = {**record.protocol, **metric_versions()}
    rescored = dataclasses.replace(record, categories=results, protocol=protocol)
    return Rescored(rescored, tuple(moves), all(with_maps), added)


def _image_level(result: CategoryResult) -> Measured | None:
    """From the per-image scores; None where the record has none."""
    if result.images is None or result.images.scores is None:
        return None
    labels, scores = np.asarray(result.images.labels), np.asarray(result.images.scores)
    return _measured(result, "image", lambda *chosen: image_metrics(labels, scores, *chosen))


def _pixel_level(path: Path, result: CategoryResult) -> Measured | None:
    """From the maps of a category; None where the run has kept none."""
    if not path.is_file():
        return None
    maps, masks = read_maps(path)
    with accumulated(maps, masks) as pixels:
        return _measured(result, "pixel", pixels.result)


@contextmanager
def accumulated(maps: NDArray[np.float32], masks: NDArray[np.bool_]) -> Iterator[PixelAccumulator]:
    """The pixels of maps and masks [N, H, W] of a category, until the end of the `with`.

    Raises:
        MetricInputError: maps are NaN or infinite.
    """
    with PixelAccumulator() as pixels:
        for start in range(0, len(maps), IMAGES_AT_ONCE):
            stop = start + IMAGES_AT_ONCE
            pixels.update(masks[start:stop], maps[start:stop])
        yield pixels


def _measured(
    result: CategoryResult,
    level: Level,
    measure: Callable[[Sequence[str], Mapping[str, float]], ImageMetrics | PixelMetrics],
) -> Measured:
    """What a run measures by default, and the metrics at the thresholds that a record states.

    Why a metric had no threshold stays as it was.
    """
    thresholds = {name: threshold.value for name, threshold in result.thresholds.items()}
    found = measure((*DEFAULT_METRICS, *thresholds), thresholds)
    others = {*of_level(level)} - {*DEFAULT_METRICS, *thresholds}
    lacking = {name: why for name, why in result.undefined.items() if name in others}
    return found.defined(), {**lacking, **found.undefined}


def _kept(result: CategoryResult, level: Level, same: Collection[str]) -> Measured:
    """Metrics that cannot be recomputed: as they were, unless their definition has changed.

    Args:
        result: of the category.
        level: of the metrics.
        same: the metrics whose definition is still the one that the record was made with.
    """
    names = of_level(level)
    old = {name: value for name, value in result.metrics.items() if name in names}
    undefined = {name: why for name, why in result.undefined.items() if name in names}
    lost = dict.fromkeys((name for name in old if name not in same), NOT_KEPT[level])
    return {name: value for name, value in old.items() if name in same}, undefined | lost


def _moves(cell: str, old: CategoryResult, new: CategoryResult) -> list[Move]:
    found = []
    for metric in METRICS:
        if not old.measured(metric):
            continue
        a, b = old.metrics.get(metric), new.metrics.get(metric)
        same = a == b if a is None or b is None else abs(a - b) <= ROUNDING
        if not same:
            found.append(Move(cell, new.category, metric, a, b))
    return found
