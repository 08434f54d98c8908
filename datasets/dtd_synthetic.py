"""DTD-Synthetic: twelve textures with painted defects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..bench.dataset import CategoryInfo, Counts, Source
from ._laid_out import LaidOutDataset
from ._layouts import CategoryTrees
from ._meta import MetaJson


class DTDSynthetic(LaidOutDataset):
    """DTD-Synthetic (Aota et al., WACV 2023); counts from Bayes-PFL's per-image metadata."""

    name = "dtd_synthetic"
    title = "DTD-Synthetic"
    domain = "industrial"
    modality = "photography"
    in_benchmark = True
    folders = ("DTD-Synthetic", "dtd_synthetic", "DTD", "DTD_Synthetic")
    layouts = (CategoryTrees(), MetaJson())
    categories: ClassVar[Mapping[str, CategoryInfo]] = {
        category: CategoryInfo(
            category,
            f"{category.partition('_')[0].lower()} texture",
            Counts(normal, anomalous, 100, 0),
        )
        for category, (normal, anomalous) in {
            "Woven_001": (30, 70),
            "Woven_127": (80, 80),
            "Woven_104": (20, 80),
            "Stratified_154": (20, 80),
            "Blotchy_099": (20, 80),
            "Woven_068": (51, 79),
            "Woven_125": (20, 79),
            "Marbled_078": (20, 80),
            "Perforated_037": (20, 80),
            "Mesh_114": (36, 80),
            "Fibrous_183": (20, 80),
            "Matted_069": (20, 79),
        }.items()
    }
    source = Source(
        page="https://drive.google.com/drive/folders/10OyPzvI3H6llCZBxKxFlKWt1Pw1tkMK1",
        download="the page's folder, by hand",
        licence="not stated (derived from DTD, research use)",
        citation="aota2023zero",
        tree=(
            "DTD-Synthetic/\n"
            "  <category>/train/good/000.png\n"
            "  <category>/test/{good,bad}/000.png\n"
            "  <category>/ground_truth/bad/000_mask.png"
        ),
    )
