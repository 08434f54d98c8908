"""How much metrics depend on choices that papers do not state.

Every value of a choice gives the records of a run again, with metrics as that value would have made
them; their means are those of every table.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ZsadError
from ..metric_table import of_level
from ..metrics import UndefinedMetric, formulas
from ..records.maps import read_maps
from ..records.record import CategoryResult, Record, RecordError, read_records
from ..records.run_folder import maps_path
from .changed_maps import RULES, Maps, Masks, resized_maps, resized_masks, smoothed
from .choices import CHOICES, IMAGE_SIZE, KEPT, OF_RUNS, PRO, Choice, Question, studied_metrics
from .layout import NOT_COMPARED
from .matrix import EvaluatedMethod, Matrix, TargetDataset, arrange
from .rescore import accumulated


@dataclass(frozen=True)
class Study:
    """A run's records at each value of a choice.

    Attributes:
        over: the name of the choice.
        metrics: that are looked at.
        values: of the choice.
        matrices: one for each value, all of the same methods and datasets.
        remarks: what a reader must know of all of it.
        lost: regions that vanish from the masks, by value and key of a cell.
    """

    over: str
    metrics: tuple[str, ...]
    values: tuple[str, ...]
    matrices: tuple[Matrix, ...]
    remarks: tuple[str, ...]
    lost: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def choice(self) -> Choice:
        """What was chosen."""
        return CHOICES.get(self.over, OF_RUNS)

    @property
    def places(self) -> list[tuple[TargetDataset, EvaluatedMethod]]:
        """The rows: what was measured of which method, dataset by dataset."""
        found: dict[tuple[TargetDataset, EvaluatedMethod], None] = {}
        for matrix in self.matrices:
            for dataset, method in itertools.product(matrix.datasets, matrix.methods):
                if matrix.cell(method, dataset):
                    found[dataset, method] = None
        return list(found)

    @property
    def told(self) -> tuple[str, ...]:
        """The remarks, and that tracks are not compared where there are several."""
        several = len({method.track for _, method in self.places}) > 1
        return (*self.remarks, *[NOT_COMPARED] * several)

    def has_numbers(self, place: int) -> bool:
        """Whether any metric has a value at the value of a place."""
        matrix = self.matrices[place]
        rows = itertools.product(matrix.methods, matrix.datasets, self.metrics)
        return any(matrix.value(*row).value is not None for row in rows)

    def lost_regions(self, dataset: TargetDataset, method: EvaluatedMethod, place: int) -> int:
        """Regions that vanish from a dataset's masks at the value of a place."""
        keys = [record.cell.key for record in self.matrices[place].cell(method, dataset)]
        return max((self.lost.get((self.values[place], key), 0) for key in keys), default=0)


def study_maps(
    run: Path,
    question: Question,
    datasets: Sequence[str] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> Study:
    """Measure a run's kept maps at every value of a choice; nothing is written.

    Args:
        run: made with `--save-maps`.
        question: what is asked.
        datasets: only these; all if empty.
        tell: called with a line for each cell that is begun.

    Raises:
        RecordError: the run, a record or a file of maps is broken, or no maps were kept.
        UsageError: an unknown dataset.
    """
    records = arrange(run, datasets).finished_records
    kept = [record for record in records if _has_maps(run, record)]
    if not kept:
        raise RecordError(
            f"{run} has no maps to study: run it again with --save-maps --retry always"
        )
    by_value: dict[str, list[Record]] = {value: [] for value in question.values}
    lost: dict[tuple[str, str], int] = {}
    for i, record in enumerate(kept, 1):
        tell(f"{i}/{len(kept)} {record.cell.key}")
        found = _of_record(run, record, question)
        for value, own in by_value.items():
            parts = [measured[value] for measured in found]
            own.append(_changed_record(record, parts))
            lost[value, record.cell.key] = sum(part.lost for part in parts)
    matrices = tuple(arrange(own) for own in by_value.values())
    left_out = [r.cell.key for r in records if r not in kept and _has_pixel_metrics(r)]
    remarks = _remarks(question, kept, left_out)
    study = Study(question.over, question.metrics, question.values, matrices, remarks, lost)
    return _without_empty_values(study)


def study_runs(
    run: Path, sizes: Sequence[int], metrics: Sequence[str] = (), datasets: Sequence[str] = ()
) -> Study:
    """A run of several sizes of the input images as a study of them.

    Args:
        run: whose methods have the option `image_size` at these values.
        sizes: in pixels.
        metrics: that are looked at; those of the paper's pixel table if empty.
        datasets: only these; all if empty.

    Raises:
        RecordError: the directory is not a run, or a record is broken.
        UsageError: an unknown metric or dataset, or there are no records of a size.
    """
    by_value: dict[str, list[Record]] = {str(size): [] for size in sizes}
    for record in read_records(run):
        options = dict(record.cell.options)
        own = by_value.get(str(options.pop(IMAGE_SIZE, None)))
        if own is not None:
            cell = dataclasses.replace(record.cell, options=options)
            own.append(dataclasses.replace(record, cell=cell))
    matrices = tuple(arrange(own, datasets) for own in by_value.values())
    chosen = studied_metrics(IMAGE_SIZE, metrics)
    return Study(IMAGE_SIZE, chosen, tuple(by_value), matrices, (OF_RUNS.says,))


def _has_maps(run: Path, record: Record) -> bool:
    paths = (maps_path(run, record.cell, result.category) for result in record.categories)
    return any(path.is_file() for path in paths)


def _has_pixel_metrics(record: Record) -> bool:
    """Whether its dataset has masks, and its method maps."""
    return any(of_level("pixel", result.metrics) for result in record.categories)


def _without_empty_values(study: Study) -> Study:
    """Without the values at which nothing has a metric, but for a remark; as it is if all are."""
    full = [i for i in range(len(study.values)) if study.has_numbers(i)]
    empty = [value for i, value in enumerate(study.values) if i not in full]
    if not full or not empty:
        return study
    return dataclasses.replace(
        study,
        values=tuple(study.values[i] for i in full),
        matrices=tuple(study.matrices[i] for i in full),
        remarks=(*study.remarks, f"Not shown, as nothing has a value there: {', '.join(empty)}."),
    )


def _remarks(
    question: Question, kept: Sequence[Record], left_out: Sequence[str]
) -> tuple[str, ...]:
    sides = dict.fromkeys(str(record.protocol.get("map_size")) for record in kept)
    remarks = [CHOICES[question.over].says, f"Maps were kept at {' and '.join(sides)} pixels."]
    if CHOICES[question.over].resizes:
        side = "half of their side" if question.side is None else f"{question.side} pixels"
        remarks.append(f"Maps and masks are brought to {side}.")
    if left_out:
        remarks.append(f"No maps were kept (--save-maps keeps them) of: {', '.join(left_out)}.")
    return tuple(remarks)


@dataclass(frozen=True)
class _Measured:
    """A category at a value: its metrics, why others have no value, and regions that vanish."""

    metrics: Mapping[str, float]
    undefined: Mapping[str, str]
    lost: int = 0


def _of_record(run: Path, record: Record, question: Question) -> list[dict[str, _Measured]]:
    """Each category of a record at every value."""
    found = []
    for result in record.categories:
        try:
            found.append(_of_category(maps_path(run, record.cell, result.category), question))
        except ZsadError as error:
            raise RecordError(f"{record.cell.key}, {result.category}: {error}") from error
    return found


def _changed_record(record: Record, parts: Sequence[_Measured]) -> Record:
    """A record whose categories have other metrics."""
    results: list[CategoryResult] = [
        dataclasses.replace(result, metrics=part.metrics, undefined=part.undefined, thresholds={})
        for result, part in zip(record.categories, parts, strict=True)
    ]
    return dataclasses.replace(record, categories=results)


def _of_category(path: Path, question: Question) -> dict[str, _Measured]:
    """The metrics of a category's maps at every value."""
    if not path.is_file():
        why = dict.fromkeys(question.metrics, "no maps were kept (--save-maps)")
        return dict.fromkeys(question.values, _Measured({}, why))
    maps, masks = read_maps(path)
    if question.over == "pro_limit":
        return _at_limits(maps, masks, question.values)
    return {value: _at_value(maps, masks, question, value) for value in question.values}


def _at_limits(maps: Maps, masks: Masks, limits: Sequence[str]) -> dict[str, _Measured]:
    """PRO up to each limit, from maps that are sorted once."""
    with accumulated(maps, masks) as pixels:
        try:
            ranks = pixels.counts().ranks
            return {
                limit: _Measured({PRO: formulas.pro(ranks, float(limit))}, {}) for limit in limits
            }
        except UndefinedMetric as error:
            return dict.fromkeys(limits, _Measured({}, {PRO: str(error)}))


def _at_value(maps: Maps, masks: Masks, question: Question, value: str) -> _Measured:
    """The metrics of maps and masks as a value makes them."""
    kept = maps.shape[1]
    if question.over == "map_size" and value != KEPT and int(value) > kept:
        why = f"maps were kept at {kept} pixels"
        return _Measured({}, dict.fromkeys(question.metrics, why))
    changed, drawn, lost = _changed(maps, masks, question, value)
    with accumulated(changed, drawn) as pixels:
        result = pixels.result(question.metrics)
    return _Measured(result.defined(), result.undefined, lost)


def _changed(maps: Maps, masks: Masks, question: Question, value: str) -> tuple[Maps, Masks, int]:
    """Maps and masks as a value makes them, and how many regions vanish from the masks."""
    if question.over == "smoothing":
        return smoothed(maps, float(value)), masks, 0
    side = question.side or maps.shape[1] // 2
    way, rule = "bilinear", "official"
    if question.over == "map_size":
        side = maps.shape[1] if value == KEPT else int(value)
    elif question.over == "interpolation":
        way = value
    else:
        rule = value
    drawn, lost = resized_masks(masks, side, RULES[rule])
    return resized_maps(maps, side, way), drawn, lost
