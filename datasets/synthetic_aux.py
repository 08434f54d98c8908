"""The built-in auxiliary set: what trainable methods learn from before they meet `synthetic`."""

from __future__ import annotations

from ._kinds import AUXILIARY_DEFECTS, AUXILIARY_KINDS, BACKBONE_KINDS
from ._synthetic import DrawnDataset

KINDS = (*AUXILIARY_KINDS, *BACKBONE_KINDS[:72:4])
"""Nine classes of its own and 18 of the backbone's in other pictures: prompts that are learned from
few classes fit these and fail on others, whatever the number of pictures."""


class SyntheticAux(DrawnDataset):
    """27 categories of four normal and eight anomalous pictures; none is the test set's."""

    name = "synthetic_aux"
    title = "Synthetic-aux"
    kinds = KINDS
    defects = AUXILIARY_DEFECTS
    per_kind = (4, 8)
    train_per_kind = 0
    is_built_in = False
