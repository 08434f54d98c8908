"""Kvasir-SEG: endoscopy images, each with a polyp and its mask."""

from __future__ import annotations

from ..bench.dataset import Counts, Source
from ._laid_out import LaidOutDataset, one_category
from ._layouts import IMAGES_AND_MASKS, CategoryTrees
from ._meta import MetaJson


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
    layouts = (IMAGES_AND_MASKS, CategoryTrees(), MetaJson())
    categories = one_category("colon", Counts(0, 1000, 0, 0))
    source = Source(
        page="https://datasets.simula.no/kvasir-seg/",
        download="https://datasets.simula.no/downloads/kvasir-seg.zip",
        licence="research and education",
        citation="jha2020kvasir",
        tree=("Kvasir-SEG/\n  images/<id>.jpg\n  masks/<id>.jpg"),
    )
