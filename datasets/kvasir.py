"""Kvasir-SEG: endoscopy images, each with a polyp and its mask."""

from __future__ import annotations

from ._catalogue import categories_of, source_of
from ._laid_out import LaidOutDataset
from ._layouts import IMAGES_AND_MASKS, USUAL_LAYOUTS


class Kvasir(LaidOutDataset):
    """Kvasir-SEG, all 1000 images (the copy in PraNet's TestDataset has 100).

    The official masks are JPEG: ringing counts as polyp under the paper's threshold of 0, and does
    not under the option mask_threshold=127.
    """

    name = "kvasir"
    title = "Kvasir"
    domain = "medical"
    modality = "endoscopy"
    in_benchmark = True
    has_image_labels = False
    folders = ("Kvasir-SEG", "Kvasir", "kvasir_seg")
    layouts = (IMAGES_AND_MASKS, *USUAL_LAYOUTS)
    categories = categories_of("kvasir")
    source = source_of("kvasir")
