"""A run: its units of work, who does which, and what survives a kill.

Several processes may fill one run: a unit of work is locked by whoever does it, and the operating
system drops the lock when the process dies.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import signal
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import registry
from ..backbone import check_device
from ..content import content_hashes, stamp_of
from ..data.completeness import Completeness, completeness
from ..dataset import Dataset, Sample, files_of
from ..errors import DataError, Stopped, UsageError, ZsadError, message_of
from ..files import file_name, remove_abandoned, write_json
from ..progress import Progress
from ..records.category_record import IMAGES, CategoryRecord
from ..records.cell import Cell
from ..records.protocol import trained_in_run
from ..records.provenance import environment, plug_in
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
from .evaluation import score_category
from .identity import CODE_FIELDS, Identities, difference, known
from .plan import Plan, make_plan, read_plan, read_plan_settings
from .prepare import EvaluatedMethod, isolated, prepare

LOG = logging.getLogger(__name__)
SPLIT_ABOVE = 400  # test images; larger datasets are shared out by category
SAME_IN_A_RUN = (
    "backbone",
    "backbone_config",
    "pretrained",
    "precision",
    "map_size",
    "auxiliary",
    "auxiliary_split",
    "limit",
)


@dataclass(frozen=True)
class Unit:
    """What one process does in one go: some categories of one dataset, for all its cells.

    The methods of a unit share its visual forwards; no category is cut. `target` is that of the
    dataset's cells.
    """

    target: str
    categories: tuple[str, ...]


def run(
    plan: Plan | Path | str | Mapping[str, Any],
    progress: Progress | None = None,
    shard: tuple[int, int] = (0, 1),
) -> Path:
    """Run a plan and return its run directory. What is done already is not done again.

    Cells that fail leave an error record, and the run goes on.

    Args:
        plan: a `Plan`, the path of a plan file, or a mapping of `make_plan`'s arguments.
        progress: how to show progress and how to stop.
        shard: (i, n) does every n-th unit from the i-th, for plain schedulers.

    Raises:
        UsageError: the plan asks for what does not exist.
        Stopped: a stop was asked for.
    """
    plan = resolve_plan(plan)
    progress = progress or Progress()
    check_device(plan.device)
    start_run(plan, progress)
    if all(_is_done(Path(plan.out), cell) for cell in plan.cells()):
        return Path(plan.out)  # without listing the data again
    index, count = shard
    mine = units(plan, SPLIT_ABOVE if count > 1 else None)[index::count]
    with _interrupts_seen(progress):
        for blocking in (False, True):  # first what is free, then what others may have dropped
            for unit in mine:
                run_unit(plan, unit, progress, blocking)
    return Path(plan.out)


@contextmanager
def _interrupts_seen(progress: Progress) -> Iterator[None]:
    """Let `progress` know of a Ctrl-C where nobody listens to it yet.

    A KeyboardInterrupt without a signal was raised by a method, and is that method's failure.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        progress.stop.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def resolve_plan(plan: Plan | Path | str | Mapping[str, Any]) -> Plan:
    """Any form of a plan as a checked `Plan`."""
    if isinstance(plan, Plan):
        return plan
    if isinstance(plan, Mapping):
        return make_plan(**plan)
    return read_plan(Path(plan))


def start_run(plan: Plan, progress: Progress | None = None) -> None:
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
    finished: list[Record] = []
    for cell in plan.cells():
        path = record_path(folder, cell)
        if plan.retry == "always":
            for old in [path, *parts_folder(folder, cell).glob("*.json")]:
                if old.exists():
                    supersede(folder, old, "--retry always")
        elif path.exists():
            record = _readable(path)
            if record is not None and record.status == "ok":
                finished.append(record)
            elif record is None or plan.retry != "never":
                path.unlink(missing_ok=True)
    for cell, why in changed_cells(plan, finished, progress or Progress()).items():
        supersede(folder, record_path(folder, cell), why)


def changed_cells(plan: Plan, finished: Iterable[Record], progress: Progress) -> dict[Cell, str]:
    """The cells whose records were made under other conditions than the plan's, and which.

    Those of a dataset that cannot be opened or read now are left out, as nobody can know.

    Args:
        plan: the whole plan.
        finished: records of cells of the plan, without errors.
        progress: how to show that files are hashed, and how to stop.

    Raises:
        Stopped: a stop was asked for.
    """
    identities = Identities(plan, progress)
    ignored = CODE_FIELDS if plan.keep_old else frozenset()
    by_dataset: dict[str, list[Record]] = {}
    for record in finished:
        by_dataset.setdefault(record.cell.target, []).append(record)
    changed: dict[Cell, str] = {}
    for name, records in by_dataset.items():
        try:
            dataset = open_dataset(plan, name)
            images = identities.of_images(dataset, samples_by_category(plan, dataset))
            for record in records:
                expected = {**identities.of_cell(record.cell, dataset), **images}
                if why := difference(record.identity, expected, ignored):
                    changed[record.cell] = why
        except Stopped:
            raise
        except Exception as error:
            LOG.warning("finished cells of %s are left as they are: %s", name, message_of(error))
    return changed


def _refuse_other_settings(plan: Plan, path: Path) -> None:
    """A run directory holds results that can stand in one table: same backbone, same sizes."""
    if not path.exists() or plan.retry == "always":
        return
    earlier = read_plan_settings(path)
    for name in SAME_IN_A_RUN:
        if name == "auxiliary" and not _has_trained_cells(path.parent):
            continue
        if earlier.get(name) != getattr(plan, name):
            raise UsageError(
                f"run directory {plan.out} was made with {name} {earlier.get(name)}, not "
                f"{getattr(plan, name)}: choose another --out, or --retry always"
            )


def _has_trained_cells(folder: Path) -> bool:
    """Whether a finished cell was trained by the run, and so depends on its auxiliary dataset."""
    for path in (folder / CELLS).glob("*.json"):
        with suppress(RecordError):
            record = read_record(path)
            if record.status == "ok" and trained_in_run(record.protocol):
                return True
    return False


def units(plan: Plan, split_above: int | None = None) -> list[Unit]:
    """The plan's units of work: one per dataset, so that its visual forwards are shared.

    A dataset that cannot be opened is one unit without categories; doing it records the error.

    Args:
        plan: the whole plan.
        split_above: a dataset of more test images than this is one unit per category.
    """
    found: list[Unit] = []
    for entry in plan.datasets:
        grouped: dict[str, list[Sample]] = {}
        with suppress(ZsadError):
            grouped = samples_by_category(plan, open_dataset(plan, entry.target))
        large = split_above is not None and sum(map(len, grouped.values())) > split_above
        groups = [(category,) for category in grouped] if large else [tuple(grouped)]
        found.extend(Unit(entry.target, group) for group in groups)
    return found


def run_unit(plan: Plan, unit: Unit, progress: Progress, blocking: bool = True) -> None:
    """Do a unit: score its categories, then write the record of every cell that is complete.

    Args:
        plan: the whole plan.
        unit: from `units(plan)`.
        progress: how to show progress and how to stop.
        blocking: wait for categories that another process holds, instead of leaving them.
    """
    folder = Path(plan.out)
    cells = [c for c in plan.cells() if c.target == unit.target and not _is_done(folder, c)]
    if not cells:
        return
    try:
        dataset = open_dataset(plan, unit.target)
        by_category = samples_by_category(plan, dataset)
        found = completeness(dataset, "test", plan.limit)
    except Exception as error:
        for cell in cells:
            write_failure(folder, cell, error)
        return
    own = {category: by_category[category] for category in unit.categories}
    identities = Identities(plan)
    evaluated_methods: list[EvaluatedMethod] = []
    with _hashing(dataset, own, progress) as hashed:
        for category, samples in own.items():
            lock_name = file_name(f"{unit.target}--{category}")
            with lock(folder, lock_name, blocking) as mine:
                if not mine:
                    continue
                waiting = [
                    cell
                    for cell in cells
                    if not _is_done(folder, cell)
                    and not _is_scored(folder, cell, dataset, category, samples, identities)
                ]
                if not waiting:
                    continue
                if not evaluated_methods:
                    evaluated_methods = prepare(plan, dataset, cells, progress)
                chosen = [c for c in evaluated_methods if c.cell in waiting and c.error is None]
                before = _stamps(samples)
                parts = score_category(plan, dataset, samples, chosen, progress)
                hashed.wait()
                for cell, part in parts.items():
                    evaluated = next(c for c in chosen if c.cell == cell)
                    with isolated(evaluated, progress):
                        stated = _stated(part, cell, dataset, samples, identities)
                        _refuse_changed_files(dataset, category, samples, before)
                    if evaluated.error is None:
                        write_json(part_path(folder, cell, category), stated.to_json())
            _record_failures(folder, evaluated_methods)
    for cell in cells:
        finish_cell(plan, dataset, cell, list(by_category), found)


def unfinished(plan: Plan, unit: Unit) -> list[Cell]:
    """The cells of a unit that lack at least one of its categories."""
    folder = Path(plan.out)
    return [
        cell
        for cell in plan.cells()
        if cell.target == unit.target
        and not _is_done(folder, cell)
        and not all(part_path(folder, cell, category).exists() for category in unit.categories)
    ]


def open_dataset(plan: Plan, target: str) -> Dataset:
    """A dataset of the plan, by the name or the `target` of its cells.

    Raises:
        DataError: its folder is missing.
    """
    entry = plan.dataset_of(target)
    root = entry.root if entry.root is not None else plan.data_root
    with _errors_of_data(target):
        return registry.load_dataset(entry.name, root, **entry.options)


@contextmanager
def _errors_of_data(name: str) -> Iterator[None]:
    """Whatever goes wrong while a dataset is opened or listed is a `ZsadError` that names it."""
    try:
        yield
    except ZsadError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {message_of(error)}"
        raise DataError(
            f"dataset '{name}' cannot be opened ({what}): check its folder and its options"
        ) from error


def samples_by_category(plan: Plan, dataset: Dataset) -> dict[str, list[Sample]]:
    """The test samples by category; with a limit, the first of each label.

    Raises:
        DataError: the folder cannot be listed, or a file's name is not UTF-8.
    """
    grouped: dict[str, list[Sample]] = {}
    seen: dict[tuple[str, int], int] = {}
    with _errors_of_data(dataset.name):
        samples = dataset.samples("test")
    for sample in samples:
        _refuse_undecodable(sample.name(dataset.root))
        key = (sample.category, sample.label)
        seen[key] = seen.get(key, 0) + 1
        if plan.limit is None or seen[key] <= plan.limit:
            grouped.setdefault(sample.category, []).append(sample)
    return grouped


def _refuse_undecodable(name: str) -> None:
    """Refuse a file name that cannot be written into a record."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = name.encode("utf-8", "backslashreplace").decode()
        raise DataError(f"the name of file {shown} is not UTF-8: rename the file") from error


def _stated(
    part: CategoryRecord,
    cell: Cell,
    dataset: Dataset,
    samples: Sequence[Sample],
    identities: Identities,
) -> CategoryRecord:
    """A part with its identity, and with its code in its provenance."""
    images = {IMAGES + part.result.category: identities.of_category(dataset, samples)}
    identity = known({**identities.of_cell(cell, dataset), **images})
    origin = {"code": identity["code"], **plug_in("method", cell.method)}
    return dataclasses.replace(part, identity=identity, provenance={**part.provenance, **origin})


def _stamps(samples: Sequence[Sample]) -> list[str]:
    """What tells files from those that lay at their paths before; "" for one that is missing."""
    found = []
    for path in files_of(samples):
        try:
            found.append(stamp_of(path))
        except DataError:  # reading it will say so
            found.append("")
    return found


def _refuse_changed_files(
    dataset: Dataset, category: str, samples: Sequence[Sample], before: Sequence[str]
) -> None:
    """Raise `DataError` if files changed while they were scored: nobody knows which were read."""
    for path, earlier, now in zip(files_of(samples), before, _stamps(samples), strict=True):
        if earlier != now:
            raise DataError(
                f"{path} changed while {dataset.title} {category} was scored: start the same "
                "command again"
            )


class _Hashing(threading.Thread):
    """Hashes files beside the scoring of their images, so that the disk is read once."""

    def __init__(self, paths: Sequence[Path], title: str, progress: Progress) -> None:
        super().__init__(daemon=True)
        self.paths, self.title, self.progress = paths, title, progress
        self.own = Progress(progress.bar)

    def run(self) -> None:
        """Hash; whoever needs a file that could not be hashed will say so."""
        with suppress(ZsadError):
            content_hashes(self.paths, f"hashing {self.title}", self.own)

    def wait(self) -> None:
        """Wait until all files are hashed, unless a stop is asked for before."""
        while self.is_alive():
            self.progress.check()
            self.join(0.2)


@contextmanager
def _hashing(
    dataset: Dataset, by_category: Mapping[str, Sequence[Sample]], progress: Progress
) -> Iterator[_Hashing]:
    samples = [sample for category in by_category.values() for sample in category]
    thread = _Hashing(files_of(samples), dataset.title, progress)
    thread.start()
    try:
        yield thread
    finally:
        thread.own.stop.set()
        thread.join()


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
    if _is_done(folder, cell) or not all(path.exists() for path in paths):
        return
    try:
        parts = [CategoryRecord.read(path) for path in paths]
    except RecordError as error:
        if _is_done(folder, cell):  # another process was faster and has cleared the parts
            return
        shutil.rmtree(parts_folder(folder, cell), ignore_errors=True)
        write_failure(folder, cell, RecordError(f"parts of {cell.key} were broken ({error})"))
        return
    try:
        record = CategoryRecord.combine(cell, dataset, parts, found)
    except RecordError as error:  # whoever does the other categories will make the record
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
    title = registry.method_class(cell.method).title
    write_record(
        folder,
        Record(cell=cell, status="error", title=title, provenance=environment(), error=info),
    )


def _record_failures(folder: Path, evaluated_methods: Sequence[EvaluatedMethod]) -> None:
    for evaluated in evaluated_methods:
        if evaluated.error is not None and not _is_done(folder, evaluated.cell):
            write_failure(folder, evaluated.cell, evaluated.error)


def _readable(path: Path) -> Record | None:
    """A record, or None where it is not readable."""
    try:
        return read_record(path)
    except RecordError as error:
        LOG.warning("%s", error)
        return None


def _is_done(folder: Path, cell: Cell) -> bool:
    return record_path(folder, cell).exists()


def _is_scored(
    folder: Path,
    cell: Cell,
    dataset: Dataset,
    category: str,
    samples: Sequence[Sample],
    identities: Identities,
) -> bool:
    """Whether a category of a cell is finished; a part made under other conditions is moved."""
    path = part_path(folder, cell, category)
    if not path.exists():
        return False
    try:
        part = CategoryRecord.read(path)
        images = {IMAGES + category: identities.of_category(dataset, samples)}
        why = difference(part.identity, {**identities.of_cell(cell, dataset), **images})
    except FileNotFoundError:  # another process has made the record and cleared the parts
        return _is_done(folder, cell)
    except (OSError, ValueError, KeyError, TypeError, ZsadError) as error:
        why = f"it is not readable ({message_of(error)})"
    if why:
        supersede(folder, path, why)
    return not why
