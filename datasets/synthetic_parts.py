"""The built-in parts, of the domain of objects: a small set for the mean over a domain."""

from __future__ import annotations

from ._kinds import kinds_of
from ._synthetic import DrawnDataset


class SyntheticParts(DrawnDataset):
    """Two kinds of machine parts, with the defects of `synthetic`."""

    name = "synthetic_parts"
    title = "Synthetic-parts"
    domain = "objects"
    kinds = kinds_of("parts")
