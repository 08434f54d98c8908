"""DTD-Synthetic: twelve textures with painted defects."""

from __future__ import annotations

from ._catalogue import categories_of, source_of
from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS


class DTDSynthetic(LaidOutDataset):
    """DTD-Synthetic (Aota et al., WACV 2023); counts from Bayes-PFL's per-image metadata."""

    name = "dtd_synthetic"
    title = "DTD-Synthetic"
    domain = "industrial"
    modality = "photography"
    in_benchmark = True
    folders = ("DTD-Synthetic", "dtd_synthetic", "DTD", "DTD_Synthetic")
    layouts = USUAL_LAYOUTS
    categories = categories_of("dtd_synthetic")
    source = source_of("dtd_synthetic")
