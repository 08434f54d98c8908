"""MVTec AD: fifteen industrial objects and textures with pixel-precise masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..bench.dataset import CategoryInfo, Counts, Source
from ._laid_out import LaidOutDataset
from ._layouts import CategoryTrees
from ._meta import MetaJson


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
    layouts = (CategoryTrees(), MetaJson())
    categories: ClassVar[Mapping[str, CategoryInfo]] = {
        category: CategoryInfo(category, category.replace("_", " "), Counts(*counts, 0))
        for category, counts in {
            "carpet": (28, 89, 280),
            "grid": (21, 57, 264),
            "leather": (32, 92, 245),
            "tile": (33, 84, 230),
            "wood": (19, 60, 247),
            "bottle": (20, 63, 209),
            "capsule": (23, 109, 219),
            "pill": (26, 141, 267),
            "transistor": (60, 40, 213),
            "zipper": (32, 119, 240),
            "cable": (58, 92, 224),
            "hazelnut": (40, 70, 391),
            "metal_nut": (22, 93, 220),
            "screw": (41, 119, 320),
            "toothbrush": (12, 30, 60),
        }.items()
    }
    source = Source(
        page="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        download=(
            "https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/"
            "420938113-1629960298/mvtec_anomaly_detection.tar.xz"
        ),
        licence="CC BY-NC-SA 4.0",
        citation="bergmann2019mvtec",
        tree=(
            "mvtec_anomaly_detection/\n"
            "  <category>/train/good/000.png\n"
            "  <category>/test/{good,<defect>}/000.png\n"
            "  <category>/ground_truth/<defect>/000_mask.png"
        ),
    )
