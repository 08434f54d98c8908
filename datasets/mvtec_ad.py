"""MVTec AD: fifteen industrial objects and textures with pixel-precise masks."""

from __future__ import annotations

from ._catalogue import categories_of, source_of
from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS


class MVTecAD(LaidOutDataset):
    """MVTec AD, or a user's own images in its tree.

    Counts are those of the dataset and of AA-CLIP's per-image metadata. FAPrompt's Table 4 prints
    83 anomalous tiles, the release has 84.
    """

    name = "mvtec_ad"
    title = "MVTecAD"
    domain = "industrial"
    modality = "photography"
    auxiliary = "visa"
    in_benchmark = True
    folders = ("mvtec_anomaly_detection", "mvtec_ad", "mvtec", "mvtecad", "MVTec-AD")
    open_categories = True
    layouts = USUAL_LAYOUTS
    categories = categories_of("mvtec_ad")
    source = source_of("mvtec_ad")
