"""MPDD: painted metal parts in changing positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..bench.dataset import CategoryInfo, Counts, Source
from ._laid_out import LaidOutDataset
from ._layouts import CategoryTrees
from ._meta import MetaJson


class MPDD(LaidOutDataset):
    """MPDD (Jezek et al.); test counts from AA-CLIP's per-image metadata."""

    name = "mpdd"
    title = "MPDD"
    domain = "industrial"
    modality = "photography"
    in_benchmark = True
    folders = ("MPDD", "mpdd")
    layouts = (CategoryTrees(), MetaJson())
    categories: ClassVar[Mapping[str, CategoryInfo]] = {
        category: CategoryInfo(category, category.replace("_", " "), Counts(*counts, None, 0))
        for category, counts in {
            "bracket_black": (32, 47),
            "bracket_brown": (26, 51),
            "bracket_white": (30, 30),
            "connector": (30, 14),
            "metal_plate": (26, 71),
            "tubes": (32, 69),
        }.items()
    }
    source = Source(
        page="https://github.com/stepanje/MPDD",
        download="the OneDrive folder that the page links, by hand",
        licence="CC BY-NC-SA 4.0",
        citation="jezek2021deep",
        tree=(
            "MPDD/\n"
            "  <category>/train/good/000.png\n"
            "  <category>/test/{good,<defect>}/000.png\n"
            "  <category>/ground_truth/<defect>/000_mask.png"
        ),
    )
