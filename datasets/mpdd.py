"""MPDD: painted metal parts in changing positions."""

from __future__ import annotations

from ._catalogue import categories_of, source_of
from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS


class MPDD(LaidOutDataset):
    """MPDD (Jezek et al.); test counts from AA-CLIP's per-image metadata."""

    name = "mpdd"
    title = "MPDD"
    domain = "industrial"
    modality = "photography"
    in_benchmark = True
    folders = ("MPDD", "mpdd")
    layouts = USUAL_LAYOUTS
    categories = categories_of("mpdd")
    source = source_of("mpdd")
