"""The folders are the registry: a file in methods/ or datasets/ is a name; entry points add more.

Listing reads file names and entry-point metadata only, so it needs neither torch nor the files'
own imports. A name may be written with hyphens or underscores.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ContractError, UsageError, message_of, unknown_name
from .folders import folders_in
from .locate import find_root, is_named, usual_names
from .names import (
    SEPARATOR,
    display_name,
    known_keys,
    normalize_name,
    parts_named,
    registry_name,
)

if TYPE_CHECKING:
    from .dataset import Dataset
    from .method import Method

LOG = logging.getLogger(__name__)
NAMESPACE = (__package__ or "zsad.bench").rpartition(".")[0]
FOLDER_OF = {"method": "methods", "dataset": "datasets"}


@dataclass(frozen=True)
class Entry:
    """A name of the registry and where its class is: `module:attribute`, attribute "" = by base."""

    name: str
    module: str
    attribute: str = ""


class BrokenEntry(ContractError, UsageError):
    """The file or the plug-in of a name cannot be used; other names still can."""

    def __init__(self, base: type[Any], entry: Entry, why: str) -> None:
        super().__init__(f"{base.__name__.lower()} '{display_name(entry.name)}' is broken, {why}")


@cache
def entries(kind: str) -> Mapping[str, Entry]:
    """All names of a kind ("method" or "dataset"): the folder's files, then entry points.

    An entry point that takes a name that exists already is left out, with a warning.
    """
    folder = FOLDER_OF[kind]
    package = importlib.import_module(f"{NAMESPACE}.{folder}")
    found: dict[str, Entry] = {}
    for place in package.__path__:
        for path in sorted(Path(place).glob("*.py")):
            if not path.stem.startswith("_"):
                found[path.stem] = Entry(path.stem, f"{NAMESPACE}.{folder}.{path.stem}")
    for point in entry_points(group=f"{NAMESPACE}.{folder}"):
        name = registry_name(point.name)
        if name in found:
            LOG.warning(
                "the %s '%s' of entry point '%s' exists already in %s: the former is left out, "
                "rename it",
                *(kind, name, point.value, found[name].module),
            )
            continue
        module, _, attribute = point.value.partition(":")
        found[name] = Entry(name, module, attribute)
    return dict(sorted(found.items()))


def names(kind: str) -> list[str]:
    """Sorted names of all methods or datasets."""
    return list(entries(kind))


def faults(kind: str) -> dict[str, str]:
    """The names whose classes cannot be loaded, and why; imports all others."""
    load = method_class if kind == "method" else dataset_class
    found: dict[str, str] = {}
    for name in names(kind):
        try:
            load(name)
        except BrokenEntry as error:
            found[name] = str(error)
    return found


def sound_names(kind: str) -> list[str]:
    """The names whose classes can be loaded; the others are left out, with a warning."""
    broken = faults(kind)
    for reason in broken.values():
        LOG.warning("%s; it is left out", reason)
    return [name for name in names(kind) if name not in broken]


def resolve(kind: str, name: str) -> Entry:
    """The entry of a name; hyphens, underscores and case do not matter.

    Raises:
        UsageError: no such name; the message lists the nearest known ones.
    """
    wanted = registry_name(name)
    entry = entries(kind).get(wanted)
    if entry is None:  # "MVTecAD" and "brain_mri" are how papers and people write them
        same = [e for n, e in entries(kind).items() if normalize_name(n) == normalize_name(name)]
        entry = same[0] if len(same) == 1 else None
    if entry is None:
        raise unknown_name(kind, name, map(display_name, entries(kind)))
    return entry


def union_name(name: str) -> str:
    """The registry names of datasets that are joined by +, as one name; or that of one dataset.

    Raises:
        UsageError: no such dataset, or one is named twice.
    """
    parts = [resolve("dataset", part).name for part in parts_named(name)]
    if len(set(parts)) < len(parts):
        raise UsageError(f"'{name}' names a dataset twice: name each once")
    return SEPARATOR.join(parts)


def method_class(name: str) -> type[Method]:
    """The class of a method. Imports torch.

    Raises:
        BrokenEntry: its module cannot be imported, or does not define one method.
    """
    from .method import Method

    cls: type[Method] = _load(resolve("method", name), Method)
    return cls


def dataset_class(name: str) -> type[Dataset]:
    """The class of a dataset. Imports no torch.

    Raises:
        BrokenEntry: its module cannot be imported, or does not define one dataset.
    """
    from .dataset import Dataset

    cls: type[Dataset] = _load(resolve("dataset", name), Dataset)
    return cls


def _load(entry: Entry, base: type[Any]) -> Any:
    """The class the entry names: by attribute, else by its `name`, else the only one."""
    try:
        module = importlib.import_module(entry.module)
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {message_of(error)}"
        why = f"{entry.module} cannot be imported ({what}): correct it or remove it"
        raise BrokenEntry(base, entry, why) from error
    if entry.attribute:
        found = getattr(module, entry.attribute, None)
        if not (isinstance(found, type) and issubclass(found, base)):
            place = f"{entry.module}:{entry.attribute}"
            why = f"{place} is not a {base.__name__} class: correct the entry point"
            raise BrokenEntry(base, entry, why)
        return found
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and not value.__name__.startswith("_")
    ]
    named = [value for value in own if registry_name(getattr(value, "name", "")) == entry.name]
    candidates = named or own
    if len(candidates) != 1:
        why = f"{entry.module} must define one public {base.__name__} class and has {len(own)}"
        raise BrokenEntry(base, entry, why)
    return candidates[0]


def load_dataset(name: str, root: str | Path | None = None, **options: Any) -> Dataset:
    """A dataset below a root: a data root that holds its folder, or the folder itself.

    Several names joined by + are one dataset to learn from; its options are those of each, by name.

    Raises:
        UsageError: unknown name or option.
        DataError: the folder is missing; the message says what tree is expected.
    """
    if SEPARATOR not in name:
        return open_dataset(dataset_class(name), root, options)
    from .union import Union

    parts = parts_named(union_name(name))
    given = known_keys(f"dataset of '{name}' with options", options, parts)
    return Union([load_dataset(part, root, **given.get(part, {})) for part in parts])


def open_dataset(
    dataset: type[Dataset],
    root: str | Path | None,
    options: Mapping[str, Any],
    by_name: bool = False,
) -> Dataset:
    """A dataset of a class; see `load_dataset`.

    Args:
        dataset: the class.
        root: a folder of many datasets, the dataset's own, or None.
        options: of the dataset.
        by_name: do not take the root itself by its shape alone. So it is where the root holds a
            folder named as another dataset.
    """
    place = None if root is None else Path(root).expanduser()
    if place is not None and not by_name:
        unsure = not is_named(place, dataset) and dataset.match(place) == 1
        by_name = unsure and _holds_others(place, dataset)
    return dataset.open(find_root(dataset, place, by_name), **options)


def _holds_others(root: Path, dataset: type[Dataset]) -> bool:
    """Whether a folder named as another dataset of the benchmark lies in a root."""
    taken: set[str] = set()
    for name in names("dataset"):
        try:
            other = dataset_class(name)
        except BrokenEntry as error:  # a broken plug-in does not matter to this search
            LOG.debug("%s", error)
            continue
        if other.in_benchmark and other.name != dataset.name:
            taken |= usual_names(other)
    return any(normalize_name(folder.name) in taken for folder in folders_in(root))


def __getattr__(name: str) -> Any:
    """`create` by the place that it was imported from before; its home is `zsad.bench`."""
    if name == "create":
        return getattr(importlib.import_module(f"{NAMESPACE}.bench"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
