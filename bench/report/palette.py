"""How methods are told apart, in the page and in the figures alike.

Colours differ without colour vision too; beyond them they repeat with another dash, and figures
change the marker besides.
"""

from __future__ import annotations

from typing import Any

LIGHT = (
    "#0068a8",
    "#d65a00",
    "#00a078",
    "#c2559a",
    "#c99a1a",
    "#57b4e8",
    "#8a9296",
    "#4b2f8f",
    "#8f1d2c",
    "#14201f",
)
DARK = (
    "#5aaee8",
    "#f0894b",
    "#3fc79d",
    "#dd93c0",
    "#e2b640",
    "#9adcf7",
    "#8d979b",
    "#8a6fe0",
    "#e0566b",
    "#f2f4f4",
)
"""The same colours for the page's dark theme."""
DASHES = (("-", "none"), ("--", "6 3"), (":", "1.5 3.5"))
"""As matplotlib and as CSS write them."""
MARKERS = "osD^vPXh<>"


def colour(index: int) -> str:
    """The colour of the method at a place of the table's columns."""
    return LIGHT[index % len(LIGHT)]


def marker(index: int) -> str:
    """Its marker in a figure."""
    return MARKERS[(index + index // len(LIGHT)) % len(MARKERS)]


def line_style(index: int) -> dict[str, Any]:
    """Its colour and dash, as arguments of matplotlib's `plot`."""
    dash, _ = DASHES[index // len(LIGHT) % len(DASHES)]
    return {"color": colour(index), "linestyle": dash}


def css_classes(index: int) -> str:
    """Its colour and dash, as classes of `stylesheet`."""
    return f"s{index % len(LIGHT)} d{index // len(LIGHT) % len(DASHES)}"


def stylesheet() -> str:
    """CSS that gives the classes s0, s1, ... their colours and d0, d1, ... their dashes."""
    light, dark = (
        "".join(f" --s{i}: {value};" for i, value in enumerate(colours))
        for colours in (LIGHT, DARK)
    )
    return "\n".join(
        [
            f":root {{{light} }}",
            "@media (prefers-color-scheme: dark) {",
            f'  :root:not([data-theme="light"]) {{{dark} }}',
            "}",
            f':root[data-theme="dark"] {{{dark} }}',
            *(f".s{i} {{ stroke: var(--s{i}); }}" for i in range(len(LIGHT))),
            *(f".d{i} {{ stroke-dasharray: {css}; }}" for i, (_, css) in enumerate(DASHES)),
        ]
    )
