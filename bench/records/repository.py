"""A results repository: records of many runs in a tree that pull requests can add to.

    results/<method>/<dataset>/<cell>.json

A file is the record as the run wrote it. Its place follows from its cell, so that two records of
one cell meet in one file, and a reader finds all that is known of a method or of a dataset.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..files import file_name
from .cell import Cell
from .record import Record, RecordError, read_record, read_records
from .run_folder import CELLS

RESULTS = "results"


def repository_path(repository: Path, cell: Cell) -> Path:
    """The path of a cell's record in a results repository."""
    method, dataset = file_name(cell.method), file_name(cell.dataset)
    return repository / RESULTS / method / dataset / f"{cell.key}.json"


def is_repository(source: Path) -> bool:
    """Whether a folder is a results repository; a run directory is none."""
    return (source / RESULTS).is_dir() and not (source / CELLS).is_dir()


def record_files(source: Path) -> list[Path]:
    """The record files of a run directory, a results repository or one of its folders.

    A file is its own and only one. What is hidden is left out.

    Raises:
        RecordError: nothing is there, or the folder is neither.
    """
    if source.is_file():
        return [source]
    if (source / CELLS).is_dir():
        return sorted((source / CELLS).glob("[!.]*.json"))
    place = source.resolve()
    within = RESULTS in (place.name, place.parent.name, place.parent.parent.name)
    if source.is_dir() and (within or is_repository(source)):
        top = source / RESULTS if is_repository(source) else source
        paths = (path for path in top.rglob("[!.]*.json") if path.is_file())
        return sorted(path for path in paths if not _is_hidden(path.relative_to(top)))
    what = "is not there" if not source.exists() else "is neither a run directory nor a repository"
    raise RecordError(
        f"{source} {what}: name a folder that holds '{CELLS}' (a run) or '{RESULTS}' (a results "
        "repository), or a record's file"
    )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def read_source(source: Path) -> list[Record]:
    """All records of a run directory or of a results repository, sorted by path.

    Raises:
        RecordError: as `record_files`, or a record is broken.
    """
    if (source / CELLS).is_dir():
        return read_records(source)
    return [read_record(path) for path in record_files(source)]


def read_sources(sources: Iterable[Path]) -> list[Record]:
    """The records of several runs and repositories, in their order."""
    return [record for source in sources for record in read_source(source)]
