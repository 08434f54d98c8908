"""What a run would do, before it does anything: cells, what is done, time, what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median_high

from tabulate import tabulate

from .. import registry
from ..backbone_spec import BUILT_IN, RANDOM, check_device
from ..data.completeness import Completeness, completeness
from ..dataset import Dataset
from ..errors import ZsadError
from ..names import display_name
from ..packages import refuse_missing
from ..progress import Progress
from ..records.cell import Cell, labelled
from ..records.record import Record, RecordError, read_record
from ..records.run_folder import CELLS, record_path
from ..training.leakage import refuse_leakage
from ..training.trainer import auxiliary_samples
from .cache_forecast import CacheForecast, cache_forecast
from .calibration import forecast
from .cells import changed_cells
from .declared_costs import DeclaredCost, declared_costs
from .forecast import Forecast, duration
from .missing import Missing, MissingThings, missing_text
from .open_datasets import OpenDatasets, served_jobs
from .plan import Job, Plan
from .prepare import backbone_name, checkpoint_of, checkpoint_path, split_of
from .thresholds import with_thresholds

TO_DO = ("to do", "failed", "changed")
HEAD = ("method", "variant", "options", "dataset", "seed", "state", "images", "estimate")


@dataclass(frozen=True)
class CellState:
    """One cell of a plan.

    Attributes:
        state: "done", "failed" (will be tried again), "changed" (finished under other conditions,
            will be done again), "to do" or "blocked".
        images: test images, None where the dataset cannot be opened.
        seconds: estimate from past records of the same method and device, None without any.
        why: what has changed since a finished cell was made; "" if nothing has.
    """

    cell: Cell
    state: str
    images: int | None
    seconds: float | None
    why: str = ""


@dataclass(frozen=True)
class DryRun:
    """What `zsad plan` shows.

    Attributes:
        missing: what has to be fetched before the run can finish.
        data: what the copies hold of the datasets that the run scores or learns from, by name.
        costs: what the methods declare to cost that have cells which are not done.
        forecast: how long the run will take, from parts measured on this machine; None where they
            were not measured.
        cache: what the feature cache will take; None where nothing is trained.
        data_root: where datasets were looked for.
        scoring_further: metrics whose thresholds are learned from images that are scored for them.
    """

    cells: Sequence[CellState]
    missing: Sequence[Missing]
    data: Mapping[str, Completeness] = field(default_factory=dict)
    costs: Sequence[DeclaredCost] = ()
    forecast: Forecast | None = None
    cache: CacheForecast | None = None
    data_root: str | None = None
    scoring_further: Sequence[str] = ()

    @property
    def ready(self) -> bool:
        """Nothing is missing."""
        return not self.missing

    @property
    def verdict(self) -> str:
        """Whether the run can start, and what its data lack."""
        if not self.ready:
            return "not ready"
        gaps = {name: held.gap for name, held in self.data.items() if held.gap}
        if len(gaps) == 1:
            return f"ready, {next(iter(gaps.values()))}"
        return f"ready, incomplete: {len(gaps)} of {len(self.data)} datasets" if gaps else "ready"

    @property
    def seconds_left(self) -> float | None:
        """Estimate for what is to do; None if any part of it is unknown."""
        if self.forecast is not None:
            return self.forecast.seconds if self.forecast.whole else None
        waiting = [c.seconds for c in self.cells if c.state in TO_DO]
        known = [s for s in waiting if s is not None]
        return sum(known) if len(known) == len(waiting) else None

    @property
    def rows(self) -> list[list[object]]:
        """A row for each cell, below `HEAD`."""
        return [
            [
                labelled(display_name(c.cell.method), c.cell.label),
                display_name(c.cell.variant),
                " ".join(f"{display_name(k)}={v}" for k, v in c.cell.options.items()),
                labelled(display_name(c.cell.dataset), c.cell.dataset_label),
                c.cell.seed,
                c.state,
                "-" if c.images is None else c.images,
                duration(c.seconds),
            ]
            for c in self.cells
        ]

    def to_text(self) -> str:
        """All of it as plain text."""
        table = tabulate(self.rows, headers=HEAD, tablefmt="simple", disable_numparse=True)
        return "\n".join([table, "", *self.remarks()])

    def remarks(self) -> list[str]:
        """What stands below the rows: what is to do, how long it takes, what is missing."""
        todo = sum(c.state in TO_DO for c in self.cells)
        lines = [f"{todo} of {len(self.cells)} cells to do"]
        if todo and self.forecast is not None:
            lines[-1] += f", {self.forecast.words()}"
            lines += [f"time of {part.words()}" for part in self.forecast.parts]
        elif todo:
            lines[-1] += f", about {duration(self.seconds_left)}"
        if todo and self.scoring_further:
            beside = ", beside this time" if self.forecast is None else ""
            lines.append(
                f"metrics {', '.join(map(display_name, self.scoring_further))} score the auxiliary "
                f"dataset or normal training images for their thresholds{beside}"
            )
        lines += [f"cost of {cost.words()}" for cost in self.costs]
        lines += self.cache.lines() if self.cache is not None else []
        lines += [f"again: {c.cell.key}: {c.why}" for c in self.cells if c.why]
        lines += missing_text(self.missing, self.data_root)
        told = {display_name(name): held.words() for name, held in self.data.items()}
        lines += [f"data of {name}: {words}" for name, words in told.items() if words]
        return [*lines, self.verdict + ": zsad run with the same options" * self.ready]

    def to_json(self) -> str:
        """For a program."""
        content = {
            "ready": self.ready,
            "seconds_left": self.seconds_left,
            "verdict": self.verdict,
            "missing": [thing.line for thing in self.missing],
            "data": {
                name: {**asdict(held), "complete": held.complete, "says": held.words()}
                for name, held in self.data.items()
            },
            "scoring_further": list(self.scoring_further),
            "costs": [asdict(cost) for cost in self.costs],
            "feature_cache": None if self.cache is None else self.cache.to_json(),
            "time": [asdict(part) for part in self.forecast.parts] if self.forecast else [],
            "cells": [asdict(c) for c in self.cells],
        }
        return json.dumps(content, indent=1, default=str)


def dry_run(plan: Plan, calibrate: bool = False) -> DryRun:
    """Look at a plan, its data, its weights and past records; nothing is run or written.

    Args:
        plan: what would be run.
        calibrate: measure for some seconds how long its parts take on this machine.
    """
    datasets = OpenDatasets(plan.limit)
    jobs = served_jobs(plan, datasets)
    missing = MissingThings()
    held = _data(plan, jobs, datasets, missing)
    with missing.noted("device"):
        check_device(plan.device)
    _packages(plan, missing)
    _weights(plan, missing)
    out = Path(plan.out)
    paths = {job.cell: record_path(out, job.cell) for job in jobs}
    records = {cell: record for cell, path in paths.items() for record in _readable([path])}
    states = {cell: _state(plan, records.get(cell)) for cell in paths}
    images = {
        job.cell: datasets.target(job.dataset).images for job in jobs if job.cell.target in held
    }
    waiting = [job for job in jobs if states[job.cell] != "done"]
    auxiliaries = _auxiliaries(plan, waiting, datasets, missing)
    pairs = [(job, records[job.cell]) for job in jobs if job.cell in records]
    finished = [(job, record) for job, record in pairs if record.status == "ok"]
    changed = changed_cells(plan, finished, datasets, Progress())
    past = [r for r in _readable(out.parent.glob(f"*/{CELLS}/*.json")) if r.status == "ok"]
    cells = []
    for cell, state in states.items():
        why = changed.get(cell, "") if state == "done" else ""
        if state != "done" and cell not in images:
            state = "blocked"
        number = images.get(cell)
        seconds = _estimate(plan, cell, number, past)
        cells.append(CellState(cell, "changed" if why else state, number, seconds, why))
    costs = declared_costs(cell.cell for cell in cells if cell.state != "done")
    parts = None
    if calibrate:
        possible = {cell.cell for cell in cells if cell.state in TO_DO}
        parts = forecast(plan, [job for job in jobs if job.cell in possible])
    data = {**auxiliaries, **held}
    further = with_thresholds(plan)
    cache = cache_forecast(plan, waiting, datasets) if any(j.trained for j in waiting) else None
    return DryRun(cells, missing.all(), data, costs, parts, cache, plan.data_root, further)


def _data(
    plan: Plan, jobs: Sequence[Job], datasets: OpenDatasets, missing: MissingThings
) -> dict[str, Completeness]:
    """What each dataset that can be opened holds."""
    found: dict[str, Completeness] = {}
    for name, entry in {job.cell.target: job.dataset for job in jobs}.items():
        with missing.noted("data", name):
            found[name] = completeness(datasets.target(entry).dataset, "test", plan.limit)
    return found


def _packages(plan: Plan, missing: MissingThings) -> None:
    """Note the packages that methods need and that are not installed."""
    for method in plan.methods:
        with missing.noted("package"):
            package = registry.method_class(method.name).package
            refuse_missing(package, f"method {display_name(method.name)}")


def _weights(plan: Plan, missing: MissingThings) -> None:
    """Note the backbones whose weights are not on this machine (they may be downloadable)."""
    from ..weights import find_weights  # imports open_clip, which takes seconds

    for name, tag in sorted({backbone_name(plan, method.name) for method in plan.methods}, key=str):
        built_in = name == BUILT_IN or plan.backbone_config
        if built_in or tag is None or tag == RANDOM or Path(tag).is_file():
            continue
        weights = f"{name}:{tag}"
        with missing.noted("weights", weights):
            if find_weights(name, tag) is None:
                missing.add(Missing("weights", weights, "not here, the run will try to download"))


def _auxiliaries(
    plan: Plan, jobs: Iterable[Job], datasets: OpenDatasets, missing: MissingThings
) -> dict[str, Completeness]:
    """The auxiliary datasets that methods are still to be trained on; notes what they will miss.

    That is an auxiliary dataset, or a checkpoint that they may use; both are held to the guard that
    the run itself asks before it trains or tests.
    """
    found: dict[str, Completeness] = {}
    asked: dict[tuple[str, str, str], list[Missing]] = {}  # jobs of one training ask one question
    for job in jobs:
        target: Dataset | None = None
        with suppress(ZsadError):  # named as missing data
            target = datasets.target(job.dataset).dataset
        method, name = display_name(job.cell.method), job.auxiliary.name
        if not job.trained and target is not None:
            with missing.noted("checkpoint", method, display_name(job.cell.target)):
                checkpoint_of(job, target)
        elif job.trained and not checkpoint_path(plan, job).exists():
            split = split_of(plan, job)
            key = (name, split, job.cell.target)
            if key not in asked:
                own = MissingThings()
                with own.noted("auxiliary data", name):
                    auxiliary = datasets.auxiliary(job)
                    found[name] = completeness(auxiliary, split, plan.auxiliary_limit)
                    if target is not None:
                        samples = auxiliary_samples(auxiliary, split, plan.auxiliary_limit)
                        refuse_leakage(auxiliary, target, samples)
                asked[key] = own.all()
            for thing in asked[key]:
                missing.add(thing, method)
    return found


def _state(plan: Plan, record: Record | None) -> str:
    """What is to be done about a cell, by its record alone."""
    if record is None:
        return "to do"
    if record.status == "error":
        return "done" if plan.retry == "never" else "failed"
    return "to do" if plan.retry == "always" else "done"


def _readable(paths: Iterable[Path]) -> Iterator[Record]:
    """The records that are there and whole."""
    for path in paths:
        with suppress(RecordError):
            yield read_record(path)


def _estimate(plan: Plan, cell: Cell, images: int | None, past: Iterable[Record]) -> float | None:
    """Median past time per image on the same backbone, times the images."""
    wanted = (cell.method, cell.variant, plan.backbone.partition(":")[0])
    times = [
        record.timing
        for record in past
        if (record.cell.method, record.cell.variant, _backbone_name(record)) == wanted
    ]
    rates = [time["ms_per_image"] for time in times if "ms_per_image" in time]
    if images is None or not rates:
        return None
    training = median_high(time.get("seconds_train", 0.0) for time in times)
    return median_high(rates) * images / 1000 + training


def _backbone_name(record: Record) -> str:
    return str(record.protocol.get("backbone", "")).partition(":")[0]
