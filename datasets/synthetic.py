"""The built-in test set: held-out surfaces and objects, half of their defects of unseen kinds."""

from __future__ import annotations

from ._kinds import TEST_DEFECTS, TEST_KINDS
from ._synthetic import DrawnDataset


class Synthetic(DrawnDataset):
    """Six held-out categories of 40 normal and 40 anomalous pictures."""

    name = "synthetic"
    title = "Synthetic"
    kinds = TEST_KINDS
    defects = TEST_DEFECTS
    per_kind = (40, 40)
