"""MVTec AD: fifteen industrial objects and textures with pixel-precise masks."""

from __future__ import annotations

from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS


class MVTecAD(LaidOutDataset):
    """MVTec AD, or a user's own images in its tree.

    Counts are those of the dataset and of AA-CLIP's per-image metadata. FAPrompt's Table 4 prints
    83 anomalous tiles, the release has 84.
    """

    name = "mvtec_ad"
    auxiliary = "visa"
    open_categories = True
    layouts = USUAL_LAYOUTS
