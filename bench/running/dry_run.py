"""What a run would do, before it does anything: cells, what is done, time, what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from .. import registry
from ..backbone import BUILT_IN, RANDOM
from ..data.completeness import Completeness, completeness
from ..dataset import Dataset
from ..errors import ZsadError
from ..method import AuxiliarySplit
from ..names import display_name
from ..progress import Progress
from ..records.cell import Cell, labelled
from ..records.record import Record, RecordError, read_record
from ..records.run_folder import CELLS, record_path
from ..training.leakage import refuse_leakage
from .open_datasets import OpenDatasets
from .plan import PUBLISHED, Job, Plan
from .start import changed_cells

TO_DO = ("to do", "failed", "changed")


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
        missing: what has to be fetched before the run can finish, one line each.
        data: what the copies hold of the datasets that the run scores or learns from, by name.
    """

    cells: Sequence[CellState]
    missing: Sequence[str]
    data: Mapping[str, Completeness] = field(default_factory=dict)

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
        waiting = [c.seconds for c in self.cells if c.state in TO_DO]
        known = [s for s in waiting if s is not None]
        return sum(known) if len(known) == len(waiting) else None

    def to_text(self) -> str:
        """For a terminal."""
        rows = [
            [
                labelled(display_name(c.cell.method), c.cell.label),
                display_name(c.cell.variant),
                " ".join(f"{display_name(k)}={v}" for k, v in c.cell.options.items()),
                labelled(display_name(c.cell.dataset), c.cell.dataset_label),
                c.cell.seed,
                c.state,
                "-" if c.images is None else c.images,
                _duration(c.seconds),
            ]
            for c in self.cells
        ]
        header = ["method", "variant", "options", "dataset", "seed", "state", "images", "estimate"]
        table = tabulate(rows, headers=header, tablefmt="simple", disable_numparse=True)
        todo = sum(c.state in TO_DO for c in self.cells)
        lines = [table, "", f"{todo} of {len(self.cells)} cells to do"]
        if todo:
            lines[-1] += f", about {_duration(self.seconds_left)}"
        lines += [f"again: {c.cell.key}: {c.why}" for c in self.cells if c.why]
        lines += [f"missing: {line}" for line in self.missing]
        for name, held in self.data.items():
            lines += [f"data of {display_name(name)}: {held.words()}"] * bool(held.words())
        lines.append(self.verdict + ": zsad run with the same options" * self.ready)
        return "\n".join(lines)

    def to_json(self) -> str:
        """For a program."""
        content = {
            "ready": self.ready,
            "seconds_left": self.seconds_left,
            "verdict": self.verdict,
            "missing": list(self.missing),
            "data": {
                name: {**held.to_json(), "complete": held.complete, "says": held.words()}
                for name, held in self.data.items()
            },
            "cells": [asdict(c) for c in self.cells],
        }
        return json.dumps(content, indent=1, default=str)


def dry_run(plan: Plan) -> DryRun:
    """Look at a plan, its data, its weights and past records; nothing is run or written."""
    jobs, datasets = plan.jobs(), OpenDatasets(plan.limit)
    records = _records(plan, jobs)
    states = {job.cell: _state(plan, records.get(job.cell)) for job in jobs}
    held, missing = _data(plan, jobs, datasets)
    waiting = [job for job in jobs if states[job.cell] != "done"]
    auxiliaries, absent = _trained(plan, waiting, datasets)
    missing += _device(plan) + _weights(plan) + absent
    finished = [
        (job, records[job.cell])
        for job in jobs
        if job.cell in records and records[job.cell].status == "ok"
    ]
    changed = changed_cells(plan, finished, datasets, Progress())
    past = list(_past_records(Path(plan.out)))
    views = []
    for job in jobs:
        cell, state = job.cell, states[job.cell]
        images = datasets.target(job.dataset).images if cell.target in held else None
        why = changed.get(cell, "") if state == "done" else ""
        state = "changed" if why else state
        if state != "done" and images is None:
            state = "blocked"
        views.append(CellState(cell, state, images, _estimate(plan, cell, images, past), why))
    return DryRun(views, list(dict.fromkeys(missing)), {**auxiliaries, **held})


def _data(
    plan: Plan, jobs: Sequence[Job], datasets: OpenDatasets
) -> tuple[dict[str, Completeness], list[str]]:
    """What each dataset that can be opened holds, and why others cannot."""
    found: dict[str, Completeness] = {}
    missing = []
    for name, entry in {job.cell.target: job.dataset for job in jobs}.items():
        try:
            found[name] = completeness(datasets.target(entry).dataset, "test", plan.limit)
        except ZsadError as error:
            missing.append(f"data of {display_name(name)}: {error}")
    return found, missing


def _device(plan: Plan) -> list[str]:
    """The plan's device, where this machine does not have it."""
    from ..backbone import check_device

    try:
        check_device(plan.device)
    except ZsadError as error:
        return [str(error)]
    return []


def _weights(plan: Plan) -> list[str]:
    """Backbones whose weights are not on this machine (they may still be downloadable)."""
    from ..weights import find_weights  # imports open_clip, which takes seconds

    wanted = {(plan.backbone, plan.pretrained)}
    if plan.backbone == PUBLISHED:
        specs = [registry.method_class(m.name).backbone_spec for m in plan.methods]
        wanted = {(spec.name, spec.pretrained) for spec in specs}
    missing = []
    for backbone, pretrained in sorted(wanted, key=str):
        name, _, tag = backbone.partition(":")
        tag = pretrained or tag
        if name == BUILT_IN or plan.backbone_config or tag in ("", RANDOM) or Path(tag).is_file():
            continue
        try:
            if find_weights(name, tag) is None:
                missing.append(f"weights of {name}:{tag}: not here, the run will try to download")
        except ZsadError as error:
            missing.append(f"weights of {name}:{tag}: {error}")
    return missing


def _trained(
    plan: Plan, jobs: Iterable[Job], datasets: OpenDatasets
) -> tuple[dict[str, Completeness], list[str]]:
    """Auxiliary datasets that trained methods will ask for, and what they will miss.

    That is an auxiliary dataset, or a checkpoint that they may use; both are held to the guard that
    the run itself asks before it trains or tests.
    """
    from .prepare import checkpoint_of, checkpoint_path, split_of

    found: dict[str, Completeness] = {}
    missing = []
    asked: dict[tuple[str, str, str], str] = {}  # jobs of one training ask one question
    for job in jobs:
        target: Dataset | None = None
        with suppress(ZsadError):  # named as missing data
            target = datasets.target(job.dataset).dataset
        method, name = job.cell.method, job.auxiliary.name
        if not job.trained and target is not None:
            try:
                checkpoint_of(job, target)
            except ZsadError as error:
                missing.append(
                    f"checkpoint of {display_name(method)} for {job.cell.target}: {error}"
                )
        elif job.trained and not checkpoint_path(plan, job).exists():
            key = (name, split_of(plan, job), job.cell.target)
            if key not in asked:
                asked[key] = _auxiliary_fault(job, split_of(plan, job), target, datasets, found)
            if asked[key]:
                learner = display_name(method)
                missing.append(f"auxiliary data {display_name(name)} for {learner}: {asked[key]}")
    return found, missing


def _auxiliary_fault(
    job: Job,
    split: AuxiliarySplit,
    target: Dataset | None,
    datasets: OpenDatasets,
    found: dict[str, Completeness],
) -> str:
    """Why the method of a job cannot be trained, or ""; adds what is `found`."""
    from ..training.trainer import auxiliary_samples

    try:
        auxiliary = datasets.auxiliary(job)
        found[job.auxiliary.name] = completeness(auxiliary, split)
        if target is not None:
            refuse_leakage(auxiliary, target, auxiliary_samples(auxiliary, split))
    except ZsadError as error:
        return str(error)
    return ""


def _records(plan: Plan, jobs: Iterable[Job]) -> dict[Cell, Record]:
    """The readable records of cells, of failed ones too."""
    found: dict[Cell, Record] = {}
    for job in jobs:
        with suppress(RecordError):
            found[job.cell] = read_record(record_path(Path(plan.out), job.cell))
    return found


def _state(plan: Plan, record: Record | None) -> str:
    if record is None:
        return "to do"
    if record.status == "error":
        return "done" if plan.retry == "never" else "failed"
    return "to do" if plan.retry == "always" else "done"


def _past_records(out: Path) -> Iterable[Record]:
    """Finished records of this run and of the runs beside it."""
    for path in sorted(out.parent.glob(f"*/{CELLS}/*.json")):
        try:
            record = read_record(path)
        except RecordError:
            continue
        if record.status == "ok":
            yield record


def _estimate(plan: Plan, cell: Cell, images: int | None, past: Sequence[Record]) -> float | None:
    """Median past time per image on the same backbone, times the images."""
    if images is None:
        return None
    same = [
        r
        for r in past
        if r.cell.method == cell.method
        and r.cell.variant == cell.variant
        and _backbone_name(r.protocol) == plan.backbone.partition(":")[0]
    ]
    rates = sorted(float(r.timing["ms_per_image"]) for r in same if "ms_per_image" in r.timing)
    if not rates:
        return None
    training = sorted(float(r.timing.get("seconds_train", 0)) for r in same)
    return rates[len(rates) // 2] * images / 1000 + training[len(training) // 2]


def _backbone_name(protocol: Mapping[str, Any]) -> str:
    return str(protocol.get("backbone", "")).partition(":")[0]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
