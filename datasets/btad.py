"""BTAD: three industrial products."""

from __future__ import annotations

from ._laid_out import LaidOutDataset
from ._layouts import CategoryTrees
from ._meta import MetaJson


class BTAD(LaidOutDataset):
    """BTAD (beanTech): product 01 has bmp images and png masks, 02 png, 03 bmp."""

    name = "btad"
    layouts = (CategoryTrees(mask_endings=("", "_mask")), MetaJson())
