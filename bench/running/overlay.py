"""An image beside its anomaly map, the found region outlined, with its score and a scale bar."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ..records.cases import HEAT

SMALLEST, LARGEST = 240, 1024  # pixels of a panel's longer side
GAP, STRIP, BAR = 8, 36, 14  # STRIP: below the panels, for caption and scale
OUTLINE, EDGE = (0, 229, 255), (0, 0, 0)
PAPER, INK = (255, 255, 255), (20, 20, 20)

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Scale:
    """What the colours of all overlays of a call mean.

    Attributes:
        low: value that is shown black.
        high: value that is shown brightest.
        threshold: values above it are the outlined region; None outlines none.
    """

    low: float
    high: float
    threshold: float | None = None

    def level(self, values: ArrayLike) -> NDArray[np.float64]:
        """Where values lie between low and high, in [0, 1]."""
        share = (np.asarray(values, np.float64) - self.low) / max(self.high - self.low, 1e-12)
        return np.clip(share, 0, 1)


def draw_overlay(image: Image.Image, anomaly_map: Map, scale: Scale, caption: str) -> Image.Image:
    """The image as it is, and the map as heat beside it; both with the outline of the region.

    Args:
        image: RGB of any size; panels keep its aspect, between `SMALLEST` and `LARGEST` pixels.
        anomaly_map: [M, M], greater is more anomalous; resized to the panel.
        scale: colours and threshold, the same for all images of a call.
        caption: stands below, as the score and the verdict.
    """
    from matplotlib import colormaps

    size = _panel_size(image.size)
    values = np.asarray(Image.fromarray(anomaly_map).resize(size, Image.Resampling.BILINEAR))
    heat = Image.fromarray((colormaps[HEAT](scale.level(values))[..., :3] * 255).astype(np.uint8))
    panels = [image.resize(size, Image.Resampling.LANCZOS), heat]
    if scale.threshold is not None:
        panels = [_outlined(panel, values > scale.threshold) for panel in panels]
    return _sheet(panels, scale, caption)


def _panel_size(size: tuple[int, int]) -> tuple[int, int]:
    longer = max(size)
    factor = min(max(longer, SMALLEST), LARGEST) / longer
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _outlined(panel: Image.Image, region: NDArray[np.bool_]) -> Image.Image:
    """A panel with a line around a region [H, W]: bright, with a dark edge, seen on any ground."""
    if not region.any():
        return panel
    width = 1 + 2 * max(1, round(max(panel.size) / 400))
    grey = Image.fromarray(region.astype(np.uint8) * 255)
    inside = np.asarray(grey)
    line = np.asarray(grey.filter(ImageFilter.MaxFilter(width))) > inside
    edge = np.asarray(grey.filter(ImageFilter.MaxFilter(width + 2))) > inside
    pixels = np.array(panel)
    pixels[edge] = EDGE
    pixels[line] = OUTLINE
    return Image.fromarray(pixels)


def _sheet(panels: list[Image.Image], scale: Scale, caption: str) -> Image.Image:
    """Panels side by side, below them the caption and the scale bar."""
    width, height = panels[0].size
    font = ImageFont.load_default(14)
    sheet = Image.new("RGB", (3 * GAP + 2 * width, height + 2 * GAP + STRIP), PAPER)
    for place, panel in enumerate(panels):
        sheet.paste(panel, (GAP + place * (width + GAP), GAP))
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, height + 2 * GAP), caption, fill=INK, font=font)
    _scale_bar(sheet, scale, (2 * GAP + width, height + 2 * GAP), width)
    return sheet


def _scale_bar(sheet: Image.Image, scale: Scale, place: tuple[int, int], width: int) -> None:
    """What the colours of the map mean, with a mark at the threshold."""
    from matplotlib import colormaps

    left, top = place
    ramp = colormaps[HEAT](np.linspace(0, 1, width))[None, :, :3] * 255
    bar = Image.fromarray(np.repeat(ramp.astype(np.uint8), BAR, axis=0))
    sheet.paste(bar, (left, top))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    texts = [(left, "la", short(scale.low)), (left + width, "ra", short(scale.high))]
    if scale.threshold is not None:
        level = float(scale.level(scale.threshold))
        mark = left + round(level * (width - 1))
        draw.line([(mark, top), (mark, top + BAR)], fill=OUTLINE, width=3)
        room = font.getlength(short(scale.low)) + 40
        if room < mark - left < width - room:
            texts.append((mark, "ma", short(scale.threshold)))
    for x, anchor, text in texts:
        draw.text((x, top + BAR + 2), text, fill=INK, font=font, anchor=anchor)


def short(value: float) -> str:
    """A number with three significant digits.

    >>> short(0.123456), short(1234.5), short(0.0)
    ('0.123', '1234', '0')
    """
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 8)}f}"
