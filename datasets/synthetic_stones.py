"""The built-in stones, of the domain of surfaces: a small set for the mean over a domain."""

from __future__ import annotations

from ._kinds import kinds_of
from ._synthetic import DrawnDataset


class SyntheticStones(DrawnDataset):
    """Polished stone and tiles, with the defects of `synthetic`."""

    name = "synthetic_stones"
    title = "Synthetic-stones"
    domain = "surfaces"
    kinds = kinds_of("stones")
