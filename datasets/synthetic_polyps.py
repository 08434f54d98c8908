"""The built-in polyps, of the domain of lesions: a set without normal images."""

from __future__ import annotations

from ._kinds import kinds_of
from ._synthetic import DrawnDataset


class SyntheticPolyps(DrawnDataset):
    """Tissue of two organs; every picture has a lesion, so that no image-level metric exists."""

    name = "synthetic_polyps"
    title = "Synthetic-polyps"
    domain = "lesions"
    has_image_labels = False
    kinds = kinds_of("polyps")
    defects = ("polyp", "patchy")
    per_kind = (0, 12)
    train_per_kind = 0
