"""The built-in auxiliary set: what trainable methods learn from before they meet `synthetic`."""

from __future__ import annotations

from ._synthetic import AUXILIARY_DEFECTS, AUXILIARY_KINDS, DrawnDataset, categories


class SyntheticAux(DrawnDataset):
    """Nine categories of 12 normal and 24 anomalous pictures, other classes than the test set's."""

    name = "synthetic_aux"
    title = "Synthetic-aux"
    kinds = AUXILIARY_KINDS
    defects = AUXILIARY_DEFECTS
    per_kind = (12, 24)
    categories = categories(AUXILIARY_KINDS, 12, 24)
