"""BrainMRI: magnetic resonance slices of the head with and without a tumour, without masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ._catalogue import categories_of, source_of
from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS, LabelFolders


class BrainMRI(LaidOutDataset):
    """BrainMRI (Kaggle, navoneel): the whole set is tested.

    The archive holds its two folders twice, once more below brain_tumor_dataset/: one copy counts.
    """

    name = "brainmri"
    title = "BrainMRI"
    domain = "medical"
    modality = "radiology (MRI)"
    in_benchmark = True
    has_masks = False
    folders = (
        "brain-mri-images-for-brain-tumor-detection",
        "BrainMRI",
        "brain_mri",
        "brain_tumor_dataset",
        "Brain_MRI",
    )
    layouts = (LabelFolders(normal=("no",), anomalous=("yes",)), *USUAL_LAYOUTS)
    categories = categories_of("brainmri")
    released_keys: ClassVar[Mapping[str, str | None]] = {
        "faprompt": "brainmri2",
        "anomalyclip": None,
    }
    source = source_of("brainmri")
