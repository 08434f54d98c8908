"""The gallery on disk: anomaly maps of the same images for every method of a category.

    gallery/<cell>/<category>.json    which images, how they were judged, the range of the maps
    gallery/<cell>/<category>.png     their maps as one sheet of tiles, grey, 8 bits
    gallery/images/<digest>.webp      the images themselves, shared by the cells of a category
    gallery/images/<digest>.png       their masks: how much of each pixel is anomalous

Level 0 of a map is the method's lowest value in the category, level 255 its highest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from ..errors import ZsadError, reading
from ..files import file_name, read_json, whole_file, write_json
from ..json_fields import Binary, Fraction, Label, from_json
from .cell import Cell
from .run_folder import GALLERY, gallery_folder, shared_picture_path

MAP_SIDE = 112
PICTURE_SIDE = 168
TILES_IN_ROW = 8
RATES: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""False positive rates of pixels for which a sheet tells the level."""

Bytes = NDArray[np.uint8]
OwnPicture = Annotated[str, Field(pattern=r"^[^/\\\x00]*\.png$")]  # in the index's folder
SharedPicture = Annotated[str, Field(pattern=r"^[0-9a-f]{24}\.(png|webp)$")]
PixelLevel = Annotated[int, Field(ge=0, le=256)]


class GalleryError(ZsadError):
    """The pictures of a run are missing or broken."""


@dataclass(frozen=True)
class SheetImage:
    """One image of a sheet.

    Attributes:
        name: identity of the image in its dataset.
        label: 0 normal, 1 anomalous.
        score: the method's anomaly score; None where it gave none with the map.
        quality: of the method's answer, see `gallery_choice`; None where it cannot be judged.
        pixel_auroc: AUROC of the image's own pixels; None without a mask with both kinds.
        has_mask: 0 where the dataset has no mask of it.
    """

    name: str
    label: Binary
    score: float | None
    quality: Fraction | None
    pixel_auroc: Fraction | None
    has_mask: Binary


@dataclass(frozen=True)
class Sheet:
    """The index of a category's maps of one cell.

    Attributes:
        dataset: `Cell.target`.
        lowest, highest: of all maps of the category.
        images: in the order of the tiles.
        levels: for each of `RATES` the lowest level that no larger share of the normal pixels
            reaches; 256 is above all pixels.
        maps, pictures, masks: file names.
    """

    category: Label
    dataset: Label
    lowest: float
    highest: float
    images: list[SheetImage]
    levels: list[PixelLevel]
    maps: OwnPicture
    pictures: SharedPicture
    masks: SharedPicture


@dataclass(frozen=True)
class MapSheet:
    """A sheet with its pictures, which are read when they are first asked for.

    Attributes:
        run: the run folder.
        cell: whose maps they are.
        sheet: its index.
    """

    run: Path
    cell: Cell
    sheet: Sheet

    @cached_property
    def _maps(self) -> Bytes:
        path = gallery_folder(self.run, self.cell) / self.sheet.maps
        return _read_tiles(path, "L", len(self.sheet.images), MAP_SIDE)

    @cached_property
    def _masks(self) -> Bytes:
        path = shared_picture_path(self.run, self.sheet.masks)
        return _read_tiles(path, "L", len(self.sheet.images), MAP_SIDE)

    @cached_property
    def _pictures(self) -> Bytes:
        path = shared_picture_path(self.run, self.sheet.pictures)
        return _read_tiles(path, "RGB", len(self.sheet.images), PICTURE_SIDE)

    def map_of(self, place: int) -> Bytes:
        """The map of an image as levels [M, M], M = `MAP_SIDE`.

        Raises:
            GalleryError: the sheet is missing or broken.
        """
        return np.asarray(self._maps[place])

    def picture_of(self, place: int) -> Bytes:
        """An image, RGB [S, S, 3], S = `PICTURE_SIDE`; errors as `map_of`."""
        return np.asarray(self._pictures[place])

    def mask_of(self, place: int) -> Bytes | None:
        """How much of each pixel is anomalous, [M, M] of 0 to 255; None without a mask."""
        return np.asarray(self._masks[place]) if self.sheet.images[place].has_mask else None


def read_sheets(run: Path, cell: Cell) -> list[MapSheet]:
    """The sheets of a cell by category; empty where a run kept none.

    Raises:
        GalleryError: an index is broken, or names a file outside its folder.
    """
    return [
        MapSheet(run, cell, from_json_sheet(path, raw))
        for path, raw in read_indexes(gallery_folder(run, cell))
        if is_sheet(raw)
    ]


def read_indexes(folder: Path) -> Iterator[tuple[Path, Any]]:
    """The indexes of a folder with their content, of this form or an earlier one."""
    for path in sorted(folder.glob("*.json")):
        with index_of(path):
            raw = read_json(path)
            if not isinstance(raw, dict):
                raise TypeError("it is not an object")
        yield path, raw


def index_of(path: Path) -> AbstractContextManager[None]:
    """Turn whatever is wrong with an index into an error that names it."""
    fix = ": delete its folder, or run with --gallery and --retry always"
    return reading(path, "index of pictures", GalleryError, fix)


def is_sheet(raw: Any) -> bool:
    """Whether an index is of this form; earlier ones list cases."""
    return "cases" not in raw


def from_json_sheet(path: Path, raw: Any) -> Sheet:
    """An index that was read from a file.

    Raises:
        GalleryError: it is broken; names the file.
    """
    with index_of(path):
        sheet = from_json(Sheet, raw)
        if len(sheet.levels) != len(RATES):
            raise ValueError(f"levels: {len(sheet.levels)} instead of {len(RATES)}")
        return sheet


def names_shown(run: Path, dataset: str, category: str) -> list[str]:
    """The images of a category of which a run already has sheets, of whatever method."""
    paths = sorted((run / GALLERY).glob(f"*/{file_name(category)}.json"))
    own = [s for s in _sound_sheets(paths) if (s.dataset, s.category) == (dataset, category)]
    return list(dict.fromkeys(image.name for sheet in own for image in sheet.images))


def shared_pictures(run: Path, cell: Cell) -> list[Path]:
    """The pictures outside a cell's own folder that its sheets show."""
    sheets = _sound_sheets(sorted(gallery_folder(run, cell).glob("*.json")))
    names = [name for sheet in sheets for name in (sheet.pictures, sheet.masks)]
    return [shared_picture_path(run, name) for name in dict.fromkeys(names)]


def _sound_sheets(paths: Iterable[Path]) -> Iterator[Sheet]:
    """The sheets among some indexes; one that is broken, or is just being replaced, is none."""
    for path in paths:
        with suppress(GalleryError):
            with index_of(path):
                raw = read_json(path)
            if isinstance(raw, dict) and is_sheet(raw):
                yield from_json_sheet(path, raw)


def write_sheet(run: Path, cell: Cell, sheet: Sheet, levels: Sequence[Bytes]) -> None:
    """Write the maps of a cell's category, each as levels [M, M], and then their index."""
    folder = gallery_folder(run, cell)
    with whole_file(folder / sheet.maps) as file:
        file.write(_png(levels))
    write_json(folder / f"{file_name(sheet.category)}.json", dataclasses.asdict(sheet))


def write_shared(
    run: Path, pictures: Sequence[Bytes], masks: Sequence[Bytes | None]
) -> tuple[str, str]:
    """Write images and their masks, unless the run has them; returns the names of the two files.

    Args:
        run: the run folder.
        pictures: RGB [S, S, 3] each.
        masks: [M, M] each, or None.
    """
    empty = np.zeros((MAP_SIDE, MAP_SIDE), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(_tiled(pictures)).save(buffer, format="WEBP", quality=82, method=1)
    files = {".webp": buffer.getvalue(), ".png": _png([empty if m is None else m for m in masks])}
    names = []
    for suffix, content in files.items():
        names.append(hashlib.sha256(content).hexdigest()[:24] + suffix)
        path = shared_picture_path(run, names[-1])
        if not path.exists():
            with whole_file(path) as file:
                file.write(content)
    return names[0], names[1]


def _png(tiles: Sequence[Bytes]) -> bytes:
    """Tiles as a PNG; smooth maps are small at the lowest level of compression already."""
    buffer = io.BytesIO()
    Image.fromarray(_tiled(tiles)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _tiled(tiles: Sequence[Bytes]) -> Bytes:
    """Square tiles row by row as one picture, the rest of the last row black."""
    side = len(tiles[0])
    rows = -(-len(tiles) // TILES_IN_ROW)
    missing = [np.zeros_like(tiles[0])] * (rows * TILES_IN_ROW - len(tiles))
    sheet = np.stack([*tiles, *missing]).reshape(rows, TILES_IN_ROW, side, side, -1)
    sheet = sheet.transpose(0, 2, 1, 3, 4).reshape(rows * side, TILES_IN_ROW * side, -1)
    return sheet.squeeze(axis=2) if tiles[0].ndim == 2 else sheet


def _read_tiles(path: Path, mode: str, count: int, side: int) -> Bytes:
    """The first `count` tiles of a sheet, [count, side, side] or with channels last.

    Raises:
        GalleryError: the picture is missing, broken, or too small.
    """
    try:
        with Image.open(path, formats=("PNG", "WEBP")) as picture:
            sheet = np.asarray(picture.convert(mode))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise GalleryError(f"{path} is not a readable picture ({error})") from error
    rows = -(-count // TILES_IN_ROW)
    if sheet.shape[:2] != (rows * side, TILES_IN_ROW * side):
        raise GalleryError(
            f"{path} has {sheet.shape[1]} x {sheet.shape[0]} pixels, not those of {count} tiles of "
            f"{side}: delete its folder, or run with --gallery and --retry always"
        )
    tiles = sheet.reshape(rows, side, TILES_IN_ROW, side, -1).swapaxes(1, 2)
    tiles = tiles.reshape(rows * TILES_IN_ROW, side, side, -1)[:count]
    return tiles.squeeze(axis=3) if mode == "L" else tiles
