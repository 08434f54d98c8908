"""ISIC 2016: photographs of skin lesions with masks."""

from __future__ import annotations

from ._laid_out import LaidOutDataset
from ._layouts import IMAGES_AND_MASKS, USUAL_LAYOUTS, PairFolders


class ISIC(LaidOutDataset):
    """ISIC 2016 (ISBI challenge, part 1): test data and, where there, training data."""

    name = "isic"
    layouts = (
        PairFolders(
            ("isbi2016_isic_part1_test_data", "skin/test", "test"),
            (
                "isbi2016_isic_part1_test_groundtruth",
                "skin/isbi2016_isic_part1_test_groundtruth",
            ),
            ("isbi2016_isic_part1_training_data",),
            ("isbi2016_isic_part1_training_groundtruth",),
            key="official",
            mask_endings=("_segmentation", ""),
            certain=True,
        ),
        IMAGES_AND_MASKS,
        *USUAL_LAYOUTS,
    )
