"""The built-in scans, of the domain of lesions: a set without masks."""

from __future__ import annotations

from ._kinds import kinds_of
from ._synthetic import DrawnDataset


class SyntheticScans(DrawnDataset):
    """Sections of two organs, some with a mass, without masks: no pixel-level metric exists."""

    name = "synthetic_scans"
    title = "Synthetic-scans"
    domain = "lesions"
    has_masks = False
    kinds = kinds_of("scans")
    defects = ("mass",)
