"""BTAD: three industrial products."""

from __future__ import annotations

from ._catalogue import categories_of, source_of
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
    categories = categories_of("btad")
    source = source_of("btad")
