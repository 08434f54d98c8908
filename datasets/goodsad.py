"""GoodsAD: supermarket goods, photographed one by one, with masks."""

from __future__ import annotations

from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS


class GoodsAD(LaidOutDataset):
    """GoodsAD (PKU-GoodsAD); the counts are those of the authors' page."""

    name = "goodsad"
    layouts = USUAL_LAYOUTS
