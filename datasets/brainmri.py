"""BrainMRI: magnetic resonance slices of the head with and without a tumour, without masks."""

from __future__ import annotations

from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS, LabelFolders


class BrainMRI(LaidOutDataset):
    """BrainMRI (Kaggle, navoneel): the whole set is tested.

    The archive holds its two folders twice, once more below brain_tumor_dataset/: one copy counts.
    """

    name = "brainmri"
    layouts = (LabelFolders(normal=("no",), anomalous=("yes",)), *USUAL_LAYOUTS)
