"""DTD-Synthetic: twelve textures with painted defects."""

from __future__ import annotations

from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS


class DTDSynthetic(LaidOutDataset):
    """DTD-Synthetic (Aota et al., WACV 2023); counts from Bayes-PFL's per-image metadata."""

    name = "dtd_synthetic"
    layouts = USUAL_LAYOUTS
