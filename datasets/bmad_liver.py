"""BMAD-Liver: slices of liver CT with and without tumours, with masks."""

from __future__ import annotations

from ._bmad import GoodUngood
from ._laid_out import LaidOutDataset
from ._meta import MetaJson


class BMADLiver(LaidOutDataset):
    """BMAD's liver set, from BTCV and LiTS; the counts are those of AA-CLIP's metadata."""

    name = "bmad_liver"
    layouts = (GoodUngood(), MetaJson())
