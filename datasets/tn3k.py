"""TN3K: ultrasound images of thyroid nodules with masks."""

from __future__ import annotations

from ..bench.dataset import Counts, Source
from ._laid_out import LaidOutDataset, one_category
from ._layouts import IMAGES_AND_MASKS, CategoryTrees, PairFolders
from ._meta import MetaJson


class TN3K(LaidOutDataset):
    """TN3K: its 614 test images; trainval is the train split. Masks are JPEG."""

    name = "tn3k"
    title = "TN3K"
    domain = "medical"
    modality = "radiology (ultrasound)"
    in_benchmark = True
    has_image_labels = False
    folders = ("tn3k", "Thyroid Dataset", "thyroid")
    layouts = (
        PairFolders(
            ("test-image",),
            ("test-mask",),
            ("trainval-image",),
            ("trainval-mask",),
            key="official",
            certain=True,
        ),
        IMAGES_AND_MASKS,
        CategoryTrees(),
        MetaJson(),
    )
    categories = one_category("thyroid", Counts(0, 614, 0, 2879))
    source = Source(
        page="https://github.com/haifangong/TRFE-Net-for-thyroid-nodule-segmentation",
        download="the drives that the page links, by hand",
        licence="not stated (code MIT)",
        citation="gong2021multi",
        tree=(
            "Thyroid Dataset/tn3k/\n"
            "  test-image/0000.jpg       test-mask/0000.jpg\n"
            "  trainval-image/0000.jpg   trainval-mask/0000.jpg"
        ),
    )
