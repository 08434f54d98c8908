"""CVC-ClinicDB: colonoscopy frames, each with a polyp and its mask."""

from __future__ import annotations

from ._laid_out import LaidOutDataset
from ._layouts import GROUND_TRUTH, IMAGES_AND_MASKS, USUAL_LAYOUTS, PairFolders

DRAWN = ("ground truth", *GROUND_TRUTH)
"""The release's name of the folder of masks, and how copies spell it."""


class CVCClinicDB(LaidOutDataset):
    """CVC-ClinicDB, the official TIFFs or a PNG copy.

    138 official masks have grey edges, which the paper's threshold of 0 counts as polyp; the option
    mask_threshold=127 does not.
    """

    name = "cvc_clinicdb"
    layouts = (
        PairFolders(
            ("original", "png/original", "tif/original"),
            tuple(f"{part}{name}" for part in ("", "png/", "tif/") for name in DRAWN),
            key="official",
            certain=True,
        ),
        IMAGES_AND_MASKS,
        *USUAL_LAYOUTS,
    )
