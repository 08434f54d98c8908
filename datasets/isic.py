"""ISIC 2016: photographs of skin lesions with masks."""

from __future__ import annotations

from ..bench.dataset import Counts, Source
from ._laid_out import LaidOutDataset, one_category
from ._layouts import IMAGES_AND_MASKS, CategoryTrees, PairFolders
from ._meta import MetaJson


class ISIC(LaidOutDataset):
    """ISIC 2016 (ISBI challenge, part 1): test data and, where there, training data."""

    name = "isic"
    title = "ISIC"
    domain = "medical"
    modality = "photography"
    in_benchmark = True
    has_image_labels = False
    folders = ("ISIC", "ISIC2016", "ISIC_2016", "ISBI", "ISBI2016", "ISBI2016_ISIC")
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
        CategoryTrees(),
        MetaJson(),
    )
    categories = one_category("skin", Counts(0, 379))
    source = Source(
        page="https://challenge.isic-archive.com/data/#2016",
        download=(
            "https://isic-challenge-data.s3.amazonaws.com/2016/ISBI2016_ISIC_Part1_Test_Data.zip "
            "and ISBI2016_ISIC_Part1_Test_GroundTruth.zip beside it"
        ),
        licence="CC-0 (unverified)",
        citation="gutman2016skin",
        tree=(
            "ISIC/\n"
            "  ISBI2016_ISIC_Part1_Test_Data/ISIC_0000003.jpg\n"
            "  ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_0000003_Segmentation.png"
        ),
    )
