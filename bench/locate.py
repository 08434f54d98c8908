"""Where a dataset lies: its own folder at or below the root that a user names."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Set
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import AbsentData, DataError, LayoutError
from .folders import folders_in
from .names import normalize_name

if TYPE_CHECKING:  # names are listed without numpy
    from .dataset import Dataset

LOG = logging.getLogger(__name__)
MAX_FOLDERS = 20_000
"""A search for a dataset's folder gives up after so many: the data root is not a whole disk."""


def find_root(dataset: type[Dataset], root: Path | None, by_name: bool = False) -> Path | None:
    """The folder that a dataset is opened with.

    Args:
        dataset: the class. Without usual names (`folders`) it takes the root as it is; without
            `needs_match` a folder of a usual name or, where there is none, the root.
        root: a folder of many datasets, the dataset's own, or None for what a package brings.
        by_name: do not take a folder by its shape alone (images/ and masks/ may be of any dataset).

    Raises:
        LayoutError: a folder has the dataset's name and holds something else.
        DataError: the dataset is not there; the message says what is expected.
    """
    if not dataset.needs_match:
        return None if root is None else _named_folder(dataset, root)
    if root is None:
        if (packaged := dataset.packaged()) is not None:
            return packaged
        raise AbsentData(
            f"{dataset.title} needs a folder: point --data-root at the one that holds it "
            f"(from {dataset.source.page or 'your own files'})"
        )
    if not dataset.folders:
        if not root.is_dir():
            raise DataError(f"folder {root} does not exist; expected is\n{dataset.source.tree}")
        return root
    try:
        return locate(dataset, root, by_name)
    except LayoutError:  # a folder of that name is there: what it lacks is to be seen
        raise
    except DataError:
        packaged = dataset.packaged()
        if packaged is None or not root.is_dir():
            raise
        LOG.warning("%s is not below %s: taken from its package", dataset.title, root)
        return packaged


def locate(dataset: type[Dataset], data_root: Path | str, by_name: bool = False) -> Path:
    """The dataset's own folder: `data_root` itself, or one below it that has a usual name.

    Names are compared without case, spaces and punctuation, down to three levels, so wrappers
    such as "archive/brain_tumor_dataset" or "TestDataset/Kvasir" are found.

    Args:
        dataset: the class; `match` and `folders` say how to know it.
        data_root: a folder of many datasets, or the dataset's own.
        by_name: do not take `data_root` by its shape alone.

    Raises:
        LayoutError: a folder has the name and holds something else.
        DataError: nothing fits; the message names the folder, the names looked for and the tree.
    """
    root = Path(data_root).expanduser()
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError(
            f"data root {root} {what}: point --data-root at the folder that holds your datasets"
        )
    found = _own_folder(dataset, root, by_name)
    if found is None:
        raise _not_found(dataset, root)
    return found


def usual_names(dataset: type[Dataset]) -> Set[str]:
    """The names that a dataset's folder may have, normalized."""
    return {normalize_name(name) for name in (dataset.name, dataset.title, *dataset.folders)}


def is_named(folder: Path, dataset: type[Dataset]) -> bool:
    """Whether a folder has one of the dataset's usual names."""
    return normalize_name(folder.resolve().name) in usual_names(dataset)


def _own_folder(dataset: type[Dataset], root: Path, by_name: bool) -> Path | None:
    here, named = dataset.match(root), is_named(root, dataset)
    if here == 2 or (here == 1 and named):
        return root
    for folder in chain(_named_below(dataset, root), [root] if named else []):
        if (surest := _surest(dataset, folder)) is not None:
            return surest
    if here == 1 and not by_name:
        return root
    return next((f for f in _folders_below(root, depth=2) if dataset.match(f) == 2), None)


def _not_found(dataset: type[Dataset], root: Path) -> DataError:
    """What is wrong with the folders of the dataset's name, or that there are none."""
    tree = f"; expected is\n{dataset.source.tree}" if dataset.source.tree else ""
    named = list(_named_below(dataset, root)) or ([root] if is_named(root, dataset) else [])
    if not named:
        names = ", ".join(dataset.folders or (dataset.name,))
        return AbsentData(
            f"{dataset.title} is not below {root}: put it there in a folder named like one of "
            f"{names}{tree}"
        )
    for folder in [*named, *_folders_below(named[0], depth=2)]:
        if lacks := dataset.lacks(folder):
            return LayoutError(f"{folder} is not a complete {dataset.title}: {lacks}{tree}")
    return LayoutError(f"{named[0]} is not {dataset.title} in a layout that is known{tree}")


def _named_folder(dataset: type[Dataset], root: Path) -> Path:
    """The folder of a usual name at or below a root, down to three levels; else the root itself."""
    if not dataset.folders or is_named(root, dataset) or dataset.match(root):
        return root
    return next(_named_below(dataset, root), root)


def _named_below(dataset: type[Dataset], root: Path) -> Iterator[Path]:
    """Folders of a usual name below a root, down to three levels."""
    wanted = usual_names(dataset)
    return (f for f in _folders_below(root, depth=3) if normalize_name(f.name) in wanted)


def _surest(dataset: type[Dataset], folder: Path) -> Path | None:
    """Of a folder and those below it the one that matches best, by name among equals."""
    wanted = usual_names(dataset)
    places = [folder, *_folders_below(folder, depth=2)]
    sure = [(dataset.match(place), normalize_name(place.name) in wanted) for place in places]
    best = max(range(len(places)), key=lambda at: sure[at])
    return places[best] if sure[best][0] > 0 else None


def _folders_below(root: Path, depth: int) -> Iterator[Path]:
    """Folders below a root, level by level; links are followed, the depth bounds their loops."""
    level = [root]
    left = MAX_FOLDERS
    for _ in range(depth):
        below: list[Path] = []
        for parent in level:
            inside = folders_in(parent)[:left]
            left -= len(inside)
            yield from inside
            below += inside
        level = below
