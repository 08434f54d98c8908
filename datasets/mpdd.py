"""MPDD: painted metal parts in changing positions."""

from __future__ import annotations

from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS


class MPDD(LaidOutDataset):
    """MPDD (Jezek et al.); test counts from AA-CLIP's per-image metadata."""

    name = "mpdd"
    layouts = USUAL_LAYOUTS
