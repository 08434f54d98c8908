"""BMAD-Chest: chest X-rays with and without opacities, without masks."""

from __future__ import annotations

from ._bmad import BMADDataset


class BMADChest(BMADDataset):
    """BMAD's chest set, from the RSNA challenge; the counts are not established."""

    name = "bmad_chest"
