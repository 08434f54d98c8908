"""Endo: the segmentation test set of EndoTect 2020, polyps with masks."""

from __future__ import annotations

from ..bench.dataset import Counts, Source
from ._laid_out import LaidOutDataset, one_category
from ._layouts import IMAGES_AND_MASKS, CategoryTrees
from ._meta import MetaJson


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
    layouts = (IMAGES_AND_MASKS, CategoryTrees(), MetaJson())
    categories = one_category("colon", Counts(0, 200, 0, 0))
    source = Source(
        page="https://endotect.com",
        download="Google Drive file 1LNpLkv5ZlEUzr_RPN5rdOHaqk0SkZa3m, by hand",
        licence="CC BY 4.0 (as HyperKvasir, unverified)",
        citation="hicks2021endotect",
        tree=("EndoTect_2020_Segmentation_Test_Dataset/\n  images/<id>.jpg\n  masks/<id>.png"),
    )
