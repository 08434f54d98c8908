"""CVC-ClinicDB: colonoscopy frames, each with a polyp and its mask."""

from __future__ import annotations

from ..bench.dataset import Counts, Source
from ._laid_out import LaidOutDataset, one_category
from ._layouts import GROUND_TRUTH, IMAGES_AND_MASKS, CategoryTrees, PairFolders
from ._meta import MetaJson

DRAWN = ("ground truth", *GROUND_TRUTH)
"""The release's name of the folder of masks, and how copies spell it."""


class CVCClinicDB(LaidOutDataset):
    """CVC-ClinicDB, the official TIFFs or a PNG copy.

    138 official masks have grey edges, which the paper's threshold of 0 counts as polyp; the option
    mask_threshold=127 does not.
    """

    name = "cvc_clinicdb"
    title = "CVC-ClinicDB"
    domain = "medical"
    modality = "endoscopy"
    in_benchmark = True
    has_image_labels = False
    folders = ("CVC-ClinicDB", "ClinicDB", "CVC_ClinicDB")
    layouts = (
        PairFolders(
            ("original", "png/original", "tif/original"),
            tuple(f"{part}{name}" for part in ("", "png/", "tif/") for name in DRAWN),
            key="official",
            certain=True,
        ),
        IMAGES_AND_MASKS,
        CategoryTrees(),
        MetaJson(),
    )
    categories = one_category("colon", Counts(0, 612, 0, 0))
    source = Source(
        page="https://polyp.grand-challenge.org/CVCClinicDB/",
        download=(
            "https://figshare.com/articles/figure/Polyp_DataSet_zip/21221579 (PNG), "
            "or the page's archive"
        ),
        licence="research and education only, no commercial use",
        citation="bernal2015wm",
        tree=(
            "CVC-ClinicDB/\n"
            "  Original/1.tif ... 612.tif       or images/1.png\n"
            "  Ground Truth/1.tif ... 612.tif   or masks/1.png"
        ),
    )
