"""BrainMRI: magnetic resonance slices of the head with and without a tumour, without masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..bench.dataset import Counts, Source
from ._laid_out import LaidOutDataset, one_category
from ._layouts import CategoryTrees, LabelFolders
from ._meta import MetaJson


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
    layouts = (LabelFolders(normal=("no",), anomalous=("yes",)), CategoryTrees(), MetaJson())
    categories = one_category("brain", Counts(98, 155, 0, 0))
    released_keys: ClassVar[Mapping[str, str | None]] = {
        "faprompt": "brainmri2",
        "anomalyclip": None,
    }
    source = Source(
        page="https://www.kaggle.com/datasets/navoneel/brain-mri-images-for-brain-tumor-detection",
        download="kaggle datasets download navoneel/brain-mri-images-for-brain-tumor-detection",
        licence="unverified (Kaggle page)",
        citation="salehi2021multiresolution",
        tree="brain-mri-images-for-brain-tumor-detection/\n  no/*.jpg\n  yes/*.jpg",
    )
