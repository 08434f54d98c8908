"""Kvasir-SEG: endoscopy images, each with a polyp and its mask."""

from __future__ import annotations

from ._laid_out import LaidOutDataset
from ._layouts import IMAGES_AND_MASKS, USUAL_LAYOUTS


class Kvasir(LaidOutDataset):
    """Kvasir-SEG, all 1000 images (the copy in PraNet's TestDataset has 100).

    The official masks are JPEG: ringing counts as polyp under the paper's threshold of 0, and does
    not under the option mask_threshold=127.
    """

    name = "kvasir"
    layouts = (IMAGES_AND_MASKS, *USUAL_LAYOUTS)
