"""How a name is spelled: in the registry and in records, on screen, and to be compared."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from .errors import unknown_name

SEPARATOR = "+"  # between the names of datasets that are learned from as one


def registry_name(name: str) -> str:
    """The spelling of cell keys, file names and columns: lower case, underscores.

    >>> registry_name("CLIP-AC")
    'clip_ac'
    """
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def display_name(name: str) -> str:
    """The spelling on screen, in tables and on pages: hyphens.

    >>> display_name("clip_ac")
    'clip-ac'
    """
    return name.replace("_", "-")


@lru_cache(maxsize=1 << 16)
def normalize_name(name: str) -> str:
    """A name without what spellings differ in; the star tells two printed models apart.

    >>> normalize_name("MVTecAD") == normalize_name("mvtec_ad"), normalize_name("Ensemble*")
    (True, 'ensemble*')
    """
    return "".join(c for c in name.lower() if c.isalnum() or c == "*")


def parts_named(name: str) -> list[str]:
    """The names in that of a union of datasets; any other name alone.

    >>> parts_named("mvtec_ad+visa")
    ['mvtec_ad', 'visa']
    """
    return name.split(SEPARATOR)


def known_name(kind: str, name: str, known: Collection[str]) -> str:
    """The one of some names that a spelling means; hyphens, underscores and case do not matter.

    >>> known_name("variant", "best-prompt", ["paper", "best_prompt"])
    'best_prompt'

    Raises:
        UsageError: there is none; the message lists the nearest ones.
    """
    if name in known:
        return name
    for own in known:
        if registry_name(own) == registry_name(name):
            return own
    raise unknown_name(kind, name, map(display_name, known))


def known_keys(kind: str, given: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """A table under the names that its keys mean, see `known_name`.

    Raises:
        UsageError: a key means none of the names.
    """
    return {known_name(kind, str(key), known): value for key, value in given.items()}
