"""BMAD-Brain: slices of brain MRI with and without tumours, with masks."""

from __future__ import annotations

from ._bmad import BMADDataset


class BMADBrain(BMADDataset):
    """BMAD's brain set, from BraTS 2021; the counts are those of AA-CLIP's per-image metadata."""

    name = "bmad_brain"
