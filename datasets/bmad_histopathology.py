"""BMAD-Histopathology: patches of lymph nodes from Camelyon16, without masks."""

from __future__ import annotations

from ._bmad import GoodUngood
from ._laid_out import LaidOutDataset
from ._meta import MetaJson


class BMADHistopathology(LaidOutDataset):
    """BMAD's histopathology set, from Camelyon16; the counts are not established."""

    name = "bmad_histopathology"
    layouts = (GoodUngood(), MetaJson())
