"""The built-in parts, of the domain of objects: a small set for the mean over a domain."""

from __future__ import annotations

from ._kinds import TEST_DEFECTS, kinds_of
from ._synthetic import DrawnDataset


class SyntheticParts(DrawnDataset):
    """Two kinds of machine parts, with the defects of `synthetic`."""

    name = "synthetic_parts"
    title = "Synthetic-parts"
    domain = "objects"
    kinds = kinds_of("parts")
    defects = TEST_DEFECTS
    per_kind = (8, 8)
    is_built_in = True
    train_per_kind = 8
