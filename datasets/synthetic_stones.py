"""The built-in stones, of the domain of surfaces: a small set for the mean over a domain."""

from __future__ import annotations

from ._kinds import TEST_DEFECTS, kinds_of
from ._synthetic import DrawnDataset


class SyntheticStones(DrawnDataset):
    """Polished stone and tiles, with the defects of `synthetic`."""

    name = "synthetic_stones"
    title = "Synthetic-stones"
    domain = "surfaces"
    kinds = kinds_of("stones")
    defects = TEST_DEFECTS
    per_kind = (8, 8)
    is_built_in = True
    train_per_kind = 8
