"""The built-in fabrics, of the domain of surfaces: a small set for the mean over a domain."""

from __future__ import annotations

from ._kinds import TEST_DEFECTS, kinds_of
from ._synthetic import DrawnDataset


class SyntheticFabrics(DrawnDataset):
    """Two kinds of fabric, with the defects of `synthetic`."""

    name = "synthetic_fabrics"
    title = "Synthetic-fabrics"
    domain = "surfaces"
    kinds = kinds_of("fabrics")
    defects = TEST_DEFECTS
    per_kind = (8, 8)
    is_built_in = True
    train_per_kind = 8
