"""BMAD-Histopathology: patches of lymph nodes from Camelyon16, without masks."""

from __future__ import annotations

from ._bmad import BMADDataset


class BMADHistopathology(BMADDataset):
    """BMAD's histopathology set, from Camelyon16; the counts are not established."""

    name = "bmad_histopathology"
