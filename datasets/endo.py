"""Endo: the segmentation test set of EndoTect 2020, polyps with masks."""

from __future__ import annotations

from ._laid_out import LaidOutDataset
from ._layouts import IMAGES_AND_MASKS, USUAL_LAYOUTS


class Endo(LaidOutDataset):
    """EndoTect 2020; jpg images and png masks, paired by their stems."""

    name = "endo"
    layouts = (IMAGES_AND_MASKS, *USUAL_LAYOUTS)
