"""The built-in goods, of the domain of objects: a small set for the mean over a domain."""

from __future__ import annotations

from ._kinds import TEST_DEFECTS, kinds_of
from ._synthetic import DrawnDataset


class SyntheticGoods(DrawnDataset):
    """Two kinds of goods, with the defects of `synthetic`."""

    name = "synthetic_goods"
    title = "Synthetic-goods"
    domain = "objects"
    kinds = kinds_of("goods")
    defects = TEST_DEFECTS
    per_kind = (8, 8)
    is_built_in = True
    train_per_kind = 8
