"""The built-in moles, of the domain of lesions: with normal images and with masks."""

from __future__ import annotations

from ._kinds import kinds_of
from ._synthetic import DrawnDataset


class SyntheticMoles(DrawnDataset):
    """Skin of two tones with moles and inflamed patches."""

    name = "synthetic_moles"
    title = "Synthetic-moles"
    domain = "lesions"
    kinds = kinds_of("moles")
    defects = ("mole", "patchy")
