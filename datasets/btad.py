"""BTAD: three industrial products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..bench.dataset import CategoryInfo, Counts, Source
from ._laid_out import LaidOutDataset
from ._layouts import CategoryTrees
from ._meta import MetaJson


class BTAD(LaidOutDataset):
    """BTAD (beanTech): product 01 has bmp images and png masks, 02 png, 03 bmp."""

    name = "btad"
    title = "BTAD"
    domain = "industrial"
    modality = "photography"
    in_benchmark = True
    folders = ("BTech_Dataset_transformed", "btad", "BTech_Dataset", "BTech")
    layouts = (CategoryTrees(mask_endings=("", "_mask")), MetaJson())
    categories: ClassVar[Mapping[str, CategoryInfo]] = {
        "01": CategoryInfo("01", "product 01", Counts(21, 49, 400, 0)),
        "02": CategoryInfo("02", "product 02", Counts(30, 200, 399, 0)),
        "03": CategoryInfo("03", "product 03", Counts(400, 41, 1000, 0)),
    }
    source = Source(
        page="https://github.com/pankajmishra000/VT-ADL",
        download="http://avires.dimi.uniud.it/papers/btad/btad.zip",
        licence="CC BY-NC-SA 4.0",
        citation="mishra2021vtadl",
        tree=(
            "BTech_Dataset_transformed/\n"
            "  {01,02,03}/train/ok/0000.bmp\n"
            "  {01,02,03}/test/{ok,ko}/0000.bmp\n"
            "  {01,02,03}/ground_truth/ko/0000.png"
        ),
    )
