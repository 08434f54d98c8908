"""A contact sheet: some samples of a dataset side by side, their masks outlined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ..dataset import Dataset, Sample
from ..files import output_file

TILE = 224
CAPTION = 30
GAP = 8
OUTLINE = (255, 40, 40)
PAPER = (255, 255, 255)
INK = (20, 20, 20)


def choose(samples: Sequence[Sample], count: int) -> list[Sample]:
    """About `count` samples, evenly spaced within each kind of anomaly of each category.

    Every kind gets its turn before any gets a second one, so that a small sheet shows many kinds.
    """
    groups: dict[tuple[str, int, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.category, sample.label, sample.anomaly_type), []).append(sample)
    if len(groups) >= count:
        kinds = list(groups.values())
        return [kinds[i * len(kinds) // count][0] for i in range(count)]
    share = dict.fromkeys(groups, 0)
    left = min(count, len(samples))
    while left:
        for key, members in groups.items():
            if left and share[key] < len(members):
                share[key] += 1
                left -= 1
    return [
        members[i * len(members) // share[key]]
        for key, members in groups.items()
        for i in range(share[key])
    ]


def contact_sheet(dataset: Dataset, samples: Sequence[Sample], columns: int = 6) -> Image.Image:
    """Draw samples as tiles with captions, anomalous regions outlined in red.

    Raises:
        DataError: a file cannot be read.
    """
    columns = max(1, min(columns, len(samples)))
    rows = -(-len(samples) // columns)
    width = GAP + columns * (TILE + GAP)
    height = GAP + rows * (TILE + CAPTION + GAP)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default()
    for number, sample in enumerate(samples):
        left = GAP + number % columns * (TILE + GAP)
        top = GAP + number // columns * (TILE + CAPTION + GAP)
        reading = dataset.read(sample)
        tile = draw_tile(reading.image, reading.mask)
        sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
        lines = _caption(dataset, sample)
        for line, text in enumerate(lines):
            draw.text((left, top + TILE + 2 + 13 * line), _fit(text, font), fill=INK, font=font)
    return sheet


def draw_tile(image: Image.Image, mask: NDArray[np.bool_] | None) -> Image.Image:
    """An image scaled into a tile with its aspect kept, and the outline of its mask [H, W]."""
    scale = TILE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    tile = image.resize(size, Image.Resampling.BICUBIC)
    if mask is not None and mask.any():
        grey = Image.fromarray(mask.astype(np.uint8) * 255)
        # A box filter and "> 0" keep defects that are thinner than a pixel of the tile.
        small = grey.resize(size, Image.Resampling.BOX).point(lambda value: 255 if value else 0)
        ring = np.asarray(small.filter(ImageFilter.MaxFilter(5))) > np.asarray(small)
        pixels = np.array(tile)
        pixels[ring] = OUTLINE
        tile = Image.fromarray(pixels)
    return tile


def _caption(dataset: Dataset, sample: Sample) -> tuple[str, str]:
    kind = "normal" if sample.label == 0 else sample.anomaly_type
    return f"{sample.category}: {kind}", "/".join(sample.name(dataset.root).split("/")[-2:])


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, its beginning cut off where it is wider than a tile."""
    text = text.encode("ascii", "replace").decode()
    while len(text) > 1 and font.getlength(text) > TILE:
        text = "~" + text[2:]
    return text


def save(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as PNG.

    Raises:
        FileError: the file cannot be written.
    """
    with output_file(path) as file:
        sheet.save(file, format="PNG")
