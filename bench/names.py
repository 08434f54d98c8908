"""How a name is spelled: in the registry and in records, on screen, and to be compared."""

from __future__ import annotations

from functools import lru_cache


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
