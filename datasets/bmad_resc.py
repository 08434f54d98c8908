"""BMAD-RESC: optical coherence tomography of the retina, with masks of oedema."""

from __future__ import annotations

from ._bmad import BMADDataset


class BMADRESC(BMADDataset):
    """BMAD's RESC; the counts are those of AA-CLIP's per-image metadata."""

    name = "bmad_resc"
