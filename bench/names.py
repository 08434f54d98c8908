"""How names are compared: registry names and the many spellings of papers, folders and people."""

from __future__ import annotations

from functools import lru_cache


def registry_name(name: str) -> str:
    """The registry's spelling of a name: lower case, underscores.

    >>> registry_name("CLIP-AC")
    'clip_ac'
    """
    return name.strip().lower().replace("-", "_").replace(" ", "_")


@lru_cache(maxsize=1 << 16)
def normalize_name(name: str) -> str:
    """A name without what spellings differ in: case, blanks and punctuation.

    The star stays: it tells two of the models that the papers print apart.

    >>> normalize_name("MVTecAD") == normalize_name("mvtec_ad")
    True
    >>> normalize_name("+CAP w/o L_oc"), normalize_name("Ensemble*")
    ('capwoloc', 'ensemble*')
    """
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter == "*")
