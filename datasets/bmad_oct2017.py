"""BMAD-OCT2017: optical coherence tomography of the retina, without masks."""

from __future__ import annotations

from ._bmad import BMADDataset


class BMADOCT2017(BMADDataset):
    """BMAD's OCT2017, from Kermany et al.; the counts are not established."""

    name = "bmad_oct2017"
