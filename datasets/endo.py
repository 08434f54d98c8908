"""Endo: the segmentation test set of EndoTect 2020, polyps with masks."""

from __future__ import annotations

from ._catalogue import categories_of, source_of
from ._laid_out import LaidOutDataset
from ._layouts import IMAGES_AND_MASKS, USUAL_LAYOUTS


class Endo(LaidOutDataset):
    """EndoTect 2020; jpg images and png masks, paired by their stems."""

    name = "endo"
    title = "Endo"
    domain = "medical"
    modality = "endoscopy"
    in_benchmark = True
    has_image_labels = False
    folders = (
        "EndoTect_2020_Segmentation_Test_Dataset",
        "Endo",
        "EndoTect",
        "EndoTect2020",
        "EndoTect_2020",
    )
    layouts = (IMAGES_AND_MASKS, *USUAL_LAYOUTS)
    categories = categories_of("endo")
    source = source_of("endo")
