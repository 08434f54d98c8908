"""The cells of a run: which are done as the plan asks for them, and how one is finished."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import shutil
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from .. import registry
from ..data.completeness import Completeness
from ..dataset import Dataset
from ..errors import Stopped, UsageError, ZsadError, message_of
from ..files import remove_abandoned, write_json
from ..names import display_name
from ..progress import Progress
from ..records.category_record import CategoryRecord, track_of
from ..records.cell import Cell
from ..records.protocol import trained_in_run
from ..records.provenance import environment
from ..records.record import ErrorInfo, Record, RecordError, read_record, write_record
from ..records.run_folder import (
    CELLS,
    LOCKS,
    lock,
    part_path,
    parts_folder,
    plan_path,
    record_path,
    supersede,
)
from .identity import CODE_FIELDS, Identities, difference
from .open_datasets import OpenDatasets
from .plan import Job, Plan, read_plan_settings

LOG = logging.getLogger(__name__)
SAME_IN_A_RUN = (
    "backbone",
    "backbone_config",
    "pretrained",
    "precision",
    "compile",
    "map_size",
    "auxiliary",
    "auxiliary_split",
    "auxiliary_limit",
    "feature_precision",
    "limit",
)
OF_TRAINING = frozenset({"auxiliary", "auxiliary_limit", "feature_precision"})


def start_run(plan: Plan, jobs: Sequence[Job], datasets: OpenDatasets, progress: Progress) -> None:
    """Make the run directory, store the plan, and drop the records that are to be done again.

    Afterwards a cell is done if its record exists: broken records are dropped too, and those that
    were made under other conditions than the plan's, or that `--retry always` does again, are moved
    to `superseded/`.

    Raises:
        UsageError: the directory cannot be made, or holds a run with other settings.
        Stopped: a stop was asked for.
    """
    folder = Path(plan.out)
    try:
        for name in (CELLS, LOCKS):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with lock(folder, "plan"):
            _refuse_other_settings(plan, plan_path(folder))
            write_json(plan_path(folder), dataclasses.asdict(plan))
    except OSError as error:
        raise UsageError(
            f"run directory {folder} is not writable ({error}): choose --out"
        ) from error
    remove_abandoned(folder)
    finished = [(job, record) for job in jobs if (record := _finished(plan, job.cell))]
    for cell, why in changed_cells(plan, finished, datasets, progress).items():
        supersede(folder, record_path(folder, cell), why)


def _finished(plan: Plan, cell: Cell) -> Record | None:
    """The record of a cell that is done; what is to be done again is moved or removed."""
    folder = Path(plan.out)
    path = record_path(folder, cell)
    if plan.retry == "always":
        for old in [path, *parts_folder(folder, cell).glob("*.json")]:
            if old.exists():
                supersede(folder, old, "--retry always")
    if not path.exists():
        return None
    try:
        record = read_record(path)
    except RecordError as error:
        LOG.warning("%s", error)
        path.unlink(missing_ok=True)
        return None
    if record.status == "ok":
        return record
    if plan.retry != "never":
        path.unlink(missing_ok=True)
    return None


def changed_cells(
    plan: Plan, finished: Iterable[tuple[Job, Record]], datasets: OpenDatasets, progress: Progress
) -> dict[Cell, str]:
    """The cells whose records were made under other conditions than the plan's, and which.

    Those of a dataset that cannot be opened or read now are left out, as this cannot be told.

    Args:
        plan: the whole plan.
        finished: jobs with their records, without errors, dataset by dataset.
        datasets: what was opened so far.
        progress: how to show that files are hashed, and how to stop.

    Raises:
        Stopped: a stop was asked for.
    """
    identities = Identities(plan, datasets, progress)
    ignored = CODE_FIELDS if plan.keep_old else frozenset()
    changed: dict[Cell, str] = {}
    for name, pairs in itertools.groupby(finished, lambda pair: pair[0].cell.target):
        together = list(pairs)
        try:
            opened = datasets.target(together[0][0].dataset)
            images = identities.of_images(opened.dataset, opened.by_category)
            for job, record in together:
                expected = {**identities.of_job(job, opened.dataset), **images}
                if why := difference(record.identity, expected, ignored):
                    changed[job.cell] = why
        except Stopped:
            raise
        except Exception as error:
            why = message_of(error)
            LOG.warning("finished cells of %s are left as they are: %s", display_name(name), why)
    return changed


def _refuse_other_settings(plan: Plan, path: Path) -> None:
    """A run directory holds results that can stand in one table: same backbone, same sizes."""
    if not path.exists() or plan.retry == "always":
        return
    earlier = read_plan_settings(path)
    for name in SAME_IN_A_RUN:
        if name in OF_TRAINING and not _has_trained_cells(path.parent):
            continue
        before = earlier.get(name, getattr(Plan, name))  # an older version may not state it
        if before != getattr(plan, name):
            raise UsageError(
                f"run directory {plan.out} was made with {display_name(name)} "
                f"{before}, not {getattr(plan, name)}: choose another --out, or "
                "--retry always"
            )


def _has_trained_cells(folder: Path) -> bool:
    """Whether a finished cell was trained by the run, and so depends on its auxiliary dataset."""
    for path in (folder / CELLS).glob("*.json"):
        with suppress(RecordError):
            record = read_record(path)
            if record.status == "ok" and trained_in_run(record.protocol):
                return True
    return False


# -- finished cells ------------------------------------------------------------------------------


def is_done(folder: Path, cell: Cell) -> bool:
    """Whether a run directory has the record of a cell."""
    return record_path(folder, cell).exists()


def finish_cell(
    plan: Plan,
    dataset: Dataset,
    cell: Cell,
    categories: Sequence[str],
    found: Completeness | None = None,
) -> None:
    """Put a cell's parts together into its record, once all of them are there.

    Args:
        plan: whose run directory it is.
        dataset: opened.
        cell: to finish.
        categories: that the cell is made of.
        found: what the copy holds of the dataset, for the record.
    """
    folder = Path(plan.out)
    paths = [part_path(folder, cell, category) for category in categories]
    if is_done(folder, cell) or not all(path.exists() for path in paths):
        return
    try:
        parts = [CategoryRecord.read(path) for path in paths]
    except RecordError as error:
        if is_done(folder, cell):  # another process was faster and has cleared the parts
            return
        shutil.rmtree(parts_folder(folder, cell), ignore_errors=True)
        write_failure(folder, cell, RecordError(f"parts of {cell.key} were broken ({error})"))
        return
    try:
        record = CategoryRecord.combine(cell, dataset, parts, found)
    except RecordError as error:  # the process that does the others again makes the record
        LOG.info("%s", error)
        return
    except ZsadError as error:
        write_failure(folder, cell, error)
        return
    write_record(folder, record)
    shutil.rmtree(parts_folder(folder, cell), ignore_errors=True)


def write_failure(folder: Path, cell: Cell, error: BaseException) -> None:
    """Record why a cell failed; other cells are unharmed."""
    message = message_of(error)
    LOG.error("%s failed: %s", cell.key, message)
    trace = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace").decode()
    info = ErrorInfo(type(error).__name__, message, trace)
    record = Record(
        cell=cell,
        status="error",
        title=registry.method_class(cell.method).title,
        provenance=environment(),
        error=info,
        track=track_of(cell),
    )
    write_record(folder, record)
