"""AITEX: long strips of seven fabrics, cut into square patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from ..bench.dataset import Box, Sample
from ..bench.errors import DataError
from ..bench.images import MaskRule, image_size, read_mask
from ._folders import child, lacking, list_images, subfolders
from ._laid_out import LaidOutDataset, SplitDataset
from ._layouts import USUAL_LAYOUTS
from ._listing import Layout, Listing
from ._masks import grouped

PATCH = 256
STRIPS = ("Defect_images", "Mask_images", "NODefect_images")
DEFECTS = {
    "002": "Broken_end",
    "006": "Broken_yarn",
    "010": "Broken_pick",
    "016": "Weft_curling",
    "019": "Fuzzyball",
    "022": "Cut_selvage",
    "023": "Crease",
    "025": "Warp_ball",
    "027": "Knots",
    "029": "Contamination",
    "030": "Nep",
    "036": "Weft_crack",
}
WITHOUT_MASK = frozenset({"0100_025_08"})
"""Defective in the release, but it has no mask."""


def patches(width: int, height: int) -> list[Box]:
    """The patches of a strip, left to right; the last one is narrower where 256 does not divide."""
    return [Box(x, 0, min(x + PATCH, width), height) for x in range(0, width, PATCH)]


class FabricStrips(Layout):
    """The release: Defect_images, Mask_images, NODefect_images/<fabric> (each maybe nested twice).

    Normal are the patches of flawless strips; anomalous are those patches of defective strips
    whose part of the mask is not empty; other patches of defective strips are not used. Rule of
    DRA's convert_AITEX.py, whose file-system order of the normal patches is here that of the names.
    """

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`."""
        return 2 if all(child(folder, name.lower()) for name in STRIPS) else 0

    def lacks(self, folder: Path, dataset: type[LaidOutDataset]) -> str:
        """See `Layout.lacks`."""
        return lacking({f"folder {name}": child(folder, name.lower()) for name in STRIPS})

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = Listing()
        flawless = _unnested(folder, "nodefect_images")
        strips = [*list_images(flawless)]
        for fabric in subfolders(flawless).values():
            strips += list_images(fabric)
        normals = [
            dataset.sample(strip, 0, crop=crop)
            for strip in strips
            for crop in patches(*image_size(strip))
        ]
        if not normals:
            raise DataError(f"{flawless} holds no image of a flawless fabric")
        drawn = list_images(_unnested(folder, "mask_images"))
        masks = grouped(drawn, lambda mask: mask.stem.partition("_mask")[0])  # or _mask1, _mask2
        defective = list_images(_unnested(folder, "defect_images"))
        for strip in defective:
            found.samples += self._anomalous(strip, masks.pop(strip.stem, []), dataset, found)
        found.tell_unused([path for paths in masks.values() for path in paths])
        found.samples += dataset.divide(normals)
        return found

    def _anomalous(
        self, strip: Path, masks: Sequence[Path], dataset: LaidOutDataset, found: Listing
    ) -> list[Sample]:
        """The anomalous patches of a defective strip, none if the paper leaves it out."""
        if not masks:
            if strip.stem in WITHOUT_MASK:
                found.notes.append(f"no mask for image {strip} (nor in the release)")
            else:
                found.tell_no_mask(strip)
            return []
        if len(masks) > 1 and dataset.options["multi_mask"] == "skip":
            return []
        drawn = read_mask(masks[0], MaskRule())
        for mask in masks[1:]:
            more = read_mask(mask, MaskRule())
            if more.shape != drawn.shape:
                raise DataError(f"masks {masks[0]} and {mask} have different sizes")
            drawn = drawn | more
        height, width = drawn.shape
        code = strip.stem.split("_")[1] if strip.stem.count("_") >= 2 else ""
        kind = DEFECTS.get(code, code or "defect")
        return [
            dataset.sample(strip, 1, anomaly_type=kind, masks=masks, crop=crop)
            for crop in patches(width, height)
            if drawn[:, crop.left : crop.right].any()
        ]


def _unnested(folder: Path, name: str) -> Path:
    """A folder, or the one of the same name in it, as Kaggle's copy has it."""
    outer = child(folder, name)
    assert outer is not None
    return child(outer, name) or outer


class AITEX(SplitDataset):
    """AITEX, pooled over its defects: a quarter of the normal patches and all anomalous ones.

    The option multi_mask says what becomes of the two strips with two masks: "skip" leaves them
    out as the paper does (183 anomalous patches), "union" merges their masks (185).
    """

    name = "aitex"
    layouts = (FabricStrips(), *USUAL_LAYOUTS)
    selections: ClassVar[Mapping[str, Sequence[str]]] = {"multi_mask": ("skip", "union")}
