"""The built-in goods, of the domain of objects: a small set for the mean over a domain."""

from __future__ import annotations

from ._kinds import kinds_of
from ._synthetic import DrawnDataset


class SyntheticGoods(DrawnDataset):
    """Two kinds of goods, with the defects of `synthetic`."""

    name = "synthetic_goods"
    title = "Synthetic-goods"
    domain = "objects"
    kinds = kinds_of("goods")
