"""BMAD-Chest: chest X-rays with and without opacities, without masks."""

from __future__ import annotations

from ._bmad import GoodUngood
from ._laid_out import LaidOutDataset
from ._meta import MetaJson


class BMADChest(LaidOutDataset):
    """BMAD's chest set, from the RSNA challenge; the counts are not established."""

    name = "bmad_chest"
    layouts = (GoodUngood(), MetaJson())
