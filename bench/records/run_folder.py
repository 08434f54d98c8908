"""The paths of a run, and the locks of the processes that share it.

A run is a folder; most of its folders have one file or folder per cell, named by the cell's key:

    plan.json                       the resolved plan
    cells/<cell>.json               records
    parts/<cell>/<category>.json    finished categories of unfinished cells
    checkpoints/<training>.safetensors
    thresholds/<learning>.json      of metrics at a threshold that was learned elsewhere
    maps/<cell>/<category>.npz      with --save-maps
    prompt_scores/<cell>/<category>.npz
    gallery/<cell>/                 anomaly maps, and an index for each category
    gallery/images/                 the images and masks that these show
    image_size/                     the run at other sizes of the input, itself a run folder
    superseded/                     what was made under other conditions, at the path that it had
    locks/                          held by processes that are at work
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..files import file_name
from .cell import Cell

LOG = logging.getLogger(__name__)
CELLS = "cells"
GALLERY = "gallery"
LOCKS = "locks"
MAPS = "maps"
PROMPT_SCORES = "prompt_scores"
SUPERSEDED = "superseded"


def plan_path(run: Path) -> Path:
    """The path of a run's resolved plan."""
    return run / "plan.json"


def record_path(run: Path, cell: Cell) -> Path:
    """The path of a cell's record."""
    return run / CELLS / f"{cell.key}.json"


def parts_folder(run: Path, cell: Cell) -> Path:
    """The folder of the finished categories of an unfinished cell."""
    return run / "parts" / cell.key


def part_path(run: Path, cell: Cell, category: str) -> Path:
    """The path of a finished category of an unfinished cell."""
    return parts_folder(run, cell) / f"{file_name(category)}.json"


def weights_path(run: Path, training: Cell) -> Path:
    """The path of learned weights; `training` is a cell whose dataset was trained on."""
    return run / "checkpoints" / f"{training.key}.safetensors"


def thresholds_path(run: Path, learning: Cell) -> Path:
    """The path of learned thresholds; `learning` is a cell whose dataset they were learned on."""
    return run / "thresholds" / f"{learning.key}.json"


def maps_path(run: Path, cell: Cell, category: str) -> Path:
    """The path of the anomaly maps and masks of a cell's category."""
    return run / MAPS / cell.key / f"{file_name(category)}.npz"


def prompt_scores_path(run: Path, cell: Cell, category: str) -> Path:
    """The path of the prompt-wise scores of a cell's category."""
    return run / PROMPT_SCORES / cell.key / f"{file_name(category)}.npz"


def gallery_folder(run: Path, cell: Cell) -> Path:
    """The folder of a cell's pictures, with an index for each category."""
    return run / GALLERY / cell.key


def strip_path(run: Path, cell: Cell, name: str) -> Path:
    """The path of a picture of a cell."""
    return gallery_folder(run, cell) / name


def shared_picture_path(run: Path, name: str) -> Path:
    """The path of a picture that the cells of a category share."""
    return run / GALLERY / "images" / name


def stop_path(run: Path) -> Path:
    """The file whose presence asks the workers of a run to stop."""
    return run / "stop"


def supersede(run: Path, path: Path, why: str) -> None:
    """Move a file of a run below its folder `superseded`, under a free name, and log why.

    Nothing happens if another process has already moved it.
    """
    place = run / SUPERSEDED / path.relative_to(run)
    place.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while (target := place.with_name(f"{place.stem}.{number}{place.suffix}")).exists():
        number += 1
    with suppress(FileNotFoundError):
        path.replace(target)
        LOG.warning("%s is done again: %s; the old one is %s", path.stem, why, target)


@contextmanager
def lock(run: Path, name: str, blocking: bool = True) -> Iterator[bool]:
    """Hold a lock of a run; the operating system releases those of dead processes.

    Args:
        run: the run folder.
        name: of the lock, a file name.
        blocking: wait while another process has it; else the answer is False at once.

    Yields:
        Whether the lock is held.
    """
    file = FileLock(str(run / LOCKS / f"{name}.lock"))
    try:
        file.acquire(timeout=-1 if blocking else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        file.release()
