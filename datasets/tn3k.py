"""TN3K: ultrasound images of thyroid nodules with masks."""

from __future__ import annotations

from ._laid_out import LaidOutDataset
from ._layouts import IMAGES_AND_MASKS, USUAL_LAYOUTS, PairFolders


class TN3K(LaidOutDataset):
    """TN3K: its 614 test images; trainval is the train split. Masks are JPEG."""

    name = "tn3k"
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
