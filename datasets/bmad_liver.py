"""BMAD-Liver: slices of liver CT with and without tumours, with masks."""

from __future__ import annotations

from ._bmad import BMADDataset


class BMADLiver(BMADDataset):
    """BMAD's liver set, from BTCV and LiTS; the counts are those of AA-CLIP's metadata."""

    name = "bmad_liver"
