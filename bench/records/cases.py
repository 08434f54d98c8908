"""The best and the worst cases of one method in a category, as strips: image, mask, anomaly map.

They come from the category's sheet of maps. Runs of earlier versions have the strips themselves:

    gallery/<cell>/<category>.json            what the strips show
    gallery/<cell>/<category>-best-1.png      three squares side by side, transparent between them
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..files import file_name, read_json
from ..json_fields import Binary, Count, Fraction, Label, from_json
from .cell import Cell
from .map_sheets import (
    MAP_SIDE,
    Bytes,
    GalleryError,
    MapSheet,
    OwnPicture,
    SheetImage,
    from_json_sheet,
    index_of,
    is_sheet,
    read_indexes,
)
from .run_folder import gallery_folder, strip_path

GAP = 4
HEAT = "inferno"
"""Brightness rises with the anomaly score, so the map reads without colour vision too."""
CASES = 2  # of each kind

Kind = Literal["best", "worst"]
KINDS: tuple[Kind, ...] = ("best", "worst")


@dataclass(frozen=True)
class Case:
    """One strip of a cell's gallery.

    Attributes:
        category: of the image.
        kind: best or worst.
        rank: 1 is the very best, or the very worst.
        name: identity of the image in its dataset.
        label: 0 normal, 1 anomalous.
        score: the method's anomaly score of the image; None where it gives none.
        quality: share of the images (of the pixels, where there is no score) of the other label
            that this one is ordered right against, in [0, 1]; None where there are none.
        file: name of the PNG beside the index.
    """

    category: Label
    kind: Kind
    rank: Count
    name: str
    label: Binary
    score: float | None
    quality: Fraction | None
    file: OwnPicture

    @property
    def note(self) -> str:
        """One sentence that says how the case was judged."""
        if self.quality is None:
            return ("normal", "anomalous")[self.label]
        share = f"{100 * self.quality:.0f}%"
        if self.score is None:
            return f"anomalous, its region outranks {share} of its other pixels"
        if self.label:
            return f"anomalous, scored above {share} of the normal images"
        return f"normal, scored below {share} of the anomalous images"


def read_cases(run: Path, cell: Cell) -> list[Case]:
    """The cases of a cell, by category, best first; empty where a run kept no pictures.

    Raises:
        GalleryError: an index is broken, or names a file outside its folder.
    """
    cases: list[Case] = []
    for path, raw in read_indexes(gallery_folder(run, cell)):
        if is_sheet(raw):
            cases += _cases_of(MapSheet(run, cell, from_json_sheet(path, raw)))
        else:
            with index_of(path):
                cases += from_json(list[Case], raw["cases"])
    return sorted(cases, key=lambda c: (c.category, KINDS.index(c.kind), c.rank))


def _cases_of(sheet: MapSheet) -> Iterator[Case]:
    """Anomalous images of the highest quality, without any normal ones; those of the lowest."""
    images = sheet.sheet.images
    anomalous = [image for image in images if image.label]
    best = sorted(anomalous or images, key=lambda i: (-(i.quality or 0.0), i.name))[:CASES]
    others = [image for image in images if image not in best]
    worst = sorted(others, key=lambda i: (i.quality or 0.0, i.name))[:CASES]
    for kind, found in zip(KINDS, (best, worst), strict=True):
        for rank, own in enumerate(found, start=1):
            judged = own.name, own.label, own.score, own.quality
            yield Case(sheet.sheet.category, kind, rank, *judged, sheet.sheet.maps)


def read_strip(run: Path, cell: Cell, case: Case) -> Image.Image:
    """The strip of a case, RGBA.

    Raises:
        GalleryError: it is missing or not a picture.
    """
    index = gallery_folder(run, cell) / f"{file_name(case.category)}.json"
    with index_of(index):
        raw = read_json(index)
        if is_sheet(raw):
            sheet = MapSheet(run, cell, from_json_sheet(index, raw))
            names = [image.name for image in sheet.sheet.images]
            return strip_of(sheet, names.index(case.name))
    path = strip_path(run, cell, case.file)
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise GalleryError(f"{path} is not a readable picture ({error})") from error


def strip_of(sheet: MapSheet, place: int) -> Image.Image:
    """Image, mask and map of an image side by side, transparent between them."""
    picture = Image.fromarray(sheet.picture_of(place)).resize((MAP_SIDE, MAP_SIDE))
    mask = mask_panel(sheet.mask_of(place), sheet.sheet.images[place])
    panels = (picture, Image.fromarray(mask), Image.fromarray(coloured(sheet.map_of(place))))
    strip = Image.new("RGBA", (3 * MAP_SIDE + 2 * GAP, MAP_SIDE), (0, 0, 0, 0))
    for i, panel in enumerate(panels):
        strip.paste(panel, (i * (MAP_SIDE + GAP), 0))
    return strip


def mask_panel(mask: Bytes | None, image: SheetImage) -> Bytes:
    """White where anomalous, RGB [M, M, 3]; grey stripes where an anomalous image has no mask."""
    if mask is None and image.label:
        y, x = np.mgrid[:MAP_SIDE, :MAP_SIDE]
        grey = np.where((x + y) // 8 % 2, 150, 175)
    else:
        known = np.zeros((MAP_SIDE, MAP_SIDE), bool) if mask is None else mask > 0
        grey = np.where(known, 245, 24)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def coloured(levels: Bytes) -> Bytes:
    """A map of levels as RGB [M, M, 3]."""
    return colours()[levels]


def colours() -> NDArray[np.uint8]:
    """The colours of the 256 levels of a map, [256, 3]."""
    from matplotlib import colormaps

    found: NDArray[np.uint8] = np.rint(255 * colormaps[HEAT](np.arange(256))[:, :3]).astype(
        np.uint8
    )
    return found
