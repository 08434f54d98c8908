"""The built-in test set: held-out surfaces and objects, half of their defects of unseen kinds."""

from __future__ import annotations

from ._kinds import TEST_KINDS
from ._synthetic import DrawnDataset


class Synthetic(DrawnDataset):
    """Six held-out categories: 40 normal and 40 anomalous pictures, 16 more normal to train on."""

    name = "synthetic"
    title = "Synthetic"
    kinds = TEST_KINDS
    per_kind = (40, 40)
    train_per_kind = 16
