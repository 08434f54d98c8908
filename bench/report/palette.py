"""How the page and the figures distinguish methods.

The colours can be distinguished without colour vision. After the last one they repeat with another
dash and another marker.
"""

from __future__ import annotations

from typing import Any

import numpy as np

COLOURS = (
    ("#0068a8", "#5aaee8"),
    ("#d65a00", "#f0894b"),
    ("#00a078", "#3fc79d"),
    ("#c2559a", "#dd93c0"),
    ("#c99a1a", "#e2b640"),
    ("#57b4e8", "#9adcf7"),
    ("#8a9296", "#8d979b"),
    ("#4b2f8f", "#8a6fe0"),
    ("#8f1d2c", "#e0566b"),
    ("#14201f", "#f2f4f4"),
)
"""In the page's light theme and in figures, and in its dark theme."""
DASHES = (("-", "none"), ("--", "6 3"), (":", "1.5 3.5"))
"""As matplotlib and as CSS write them."""
MARKERS = "osD^vPXh<>"


def colour(index: int) -> str:
    """The colour of the method at a place of the table's columns."""
    return COLOURS[index % len(COLOURS)][0]


def marker(index: int) -> str:
    """Its marker, as matplotlib names it."""
    return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


def line_style(index: int) -> dict[str, Any]:
    """Its colour and dash, as arguments of matplotlib's `plot`."""
    dash, _ = DASHES[index // len(COLOURS) % len(DASHES)]
    return {"color": colour(index), "linestyle": dash}


def marked_line(index: int, size: float = 5.0) -> dict[str, Any]:
    """Its line with a marker of so many points at every value, as arguments of `plot`."""
    return {"marker": marker(index), "markersize": size, "linewidth": 1.5, **line_style(index)}


def css_classes(index: int) -> str:
    """Its colour and dash, as classes of the page."""
    return f"s{index % len(COLOURS)} d{index // len(COLOURS) % len(DASHES)}"


def marker_path(index: int, size: float = 6.0) -> str:
    """Its marker as an SVG path around the origin, in units of the page."""
    from matplotlib.markers import MarkerStyle
    from matplotlib.transforms import Affine2D

    style = MarkerStyle(marker(index))
    flip = Affine2D().scale(size, -size)  # y grows downwards in SVG
    path = style.get_path().transformed(style.get_transform() + flip)
    shapes = map(np.asarray, path.to_polygons(closed_only=True))
    return "".join("M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in shape) + "Z" for shape in shapes)
