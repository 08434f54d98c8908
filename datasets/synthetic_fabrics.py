"""The built-in fabrics, of the domain of surfaces: a small set for the mean over a domain."""

from __future__ import annotations

from ._kinds import kinds_of
from ._synthetic import DrawnDataset


class SyntheticFabrics(DrawnDataset):
    """Two kinds of fabric, with the defects of `synthetic`."""

    name = "synthetic_fabrics"
    title = "Synthetic-fabrics"
    domain = "surfaces"
    kinds = kinds_of("fabrics")
