"""TN3K: ultrasound images of thyroid nodules with masks."""

from __future__ import annotations

from ._catalogue import categories_of, source_of
from ._laid_out import LaidOutDataset
from ._layouts import IMAGES_AND_MASKS, USUAL_LAYOUTS, PairFolders


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
        *USUAL_LAYOUTS,
    )
    categories = categories_of("tn3k")
    source = source_of("tn3k")
