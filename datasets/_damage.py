"""Procedural defects. Each draws on a picture's foreground and returns picture and exact mask."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ._drawing import TAU, Canvas, Colour, Field, Mask, Picture, mix, rotated, soft, warped

DrawDefect = Callable[[Canvas, Picture, Mask], tuple[Picture, Mask]]
DARK = np.full(3, 0.05)
BRIGHT = np.full(3, 0.9)


# -- shapes -------------------------------------------------------------------------------------


def spot_on(c: Canvas, foreground: Mask, margin: float = 0.1) -> tuple[float, float]:
    """A random place on the foreground, away from the picture's border."""
    inner = foreground & (np.abs(c.x) < 0.5 - margin) & (np.abs(c.y) < 0.5 - margin)
    if not foreground.all():
        deep = ndimage.binary_erosion(inner, iterations=max(1, round(c.pixels(4))))
        inner = deep if deep.any() else inner
    return c.some_place(inner if inner.any() else foreground)


def turned_at_spot(c: Canvas, foreground: Mask) -> NDArray[np.float64]:
    """Coordinates in a frame that is turned by chance about a random place on the foreground."""
    cx, cy = spot_on(c, foreground)
    return rotated(c.x - cx, c.y - cy, c.random.uniform(0, TAU))


def blob(c: Canvas, foreground: Mask, low: float, high: float, rough: float = 0.35) -> Field:
    """An irregular ellipse: positive inside, 1 at its centre; radii in image sides."""
    cx, cy = spot_on(c, foreground, 0.08)
    a = c.random.uniform(low, high)
    b, turn = a * c.random.uniform(0.55, 1), c.random.uniform(0, TAU)
    u, v = rotated(c.x - cx, c.y - cy, turn)
    inside: Field = 1 - np.hypot(u / a, v / b) + rough * c.clouds(9)
    return inside


def path(
    c: Canvas, foreground: Mask, length: float, wiggle: float, steps: int = 60
) -> NDArray[np.float64]:
    """Points [N, 2] of a wandering line through the foreground."""
    cx, cy = spot_on(c, foreground)
    heading = c.random.uniform(0, TAU) + np.cumsum(c.random.normal(0, wiggle, steps))
    x = np.cumsum(np.cos(heading)) * length / steps
    y = np.cumsum(np.sin(heading)) * length / steps
    return np.stack([x - x.mean() + cx, y - y.mean() + cy], 1)


def other_colour(c: Canvas, picture: Picture, foreground: Mask, least: float = 0.3) -> Colour:
    """A random colour that differs from the foreground's mean by at least `least`."""
    mean = picture[foreground].mean(0)
    tries = c.random.uniform(0, 1, (8, 3))
    differs = np.abs(tries - mean).max(1) > least
    chosen: Colour = tries[int(np.argmax(differs))]
    return chosen


def other_tone(c: Canvas, picture: Picture, foreground: Mask, step: float = 0.45) -> Colour:
    """A grey that is clearly brighter or darker than the foreground."""
    mean = float(picture[foreground].mean())
    brighter = mean < 0.45 or (mean < 0.7 and c.random.random() < 0.4)
    return np.full(3, min(1.0, mean + step) if brighter else max(0.0, mean - step))


# -- defects that auxiliary and pre-training classes have ----------------------------------------


def scratch(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """One to three nearly straight lines."""
    line = np.zeros(c.shape)
    for _ in range(c.random.integers(1, 4)):
        points = path(c, foreground, c.random.uniform(0.2, 0.5), 0.04)
        line = np.maximum(line, soft(c.distance_to(points) - c.random.uniform(0.006, 0.014), 0.006))
    line = line * foreground
    return mix(0.9 * line, other_tone(c, picture, foreground), picture), line > 0.4


def hole(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A dark hole with a bright rim."""
    shape = blob(c, foreground, 0.04, 0.1, 0.15)
    inside = soft(-shape * 0.08) * foreground
    rim = soft(np.abs(shape) * 0.08 - 0.012) * foreground
    rimmed = mix(0.5 * rim, np.full(3, 0.8), picture)
    return mix(inside, np.full(3, c.random.uniform(0.03, 0.11)), rimmed), inside > 0.4


def stain(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A translucent discolouration."""
    inside = np.clip(blob(c, foreground, 0.09, 0.2, 0.5) * 2.2, 0, 1) * foreground
    colour = 0.7 * other_colour(c, picture, foreground)
    return mix(inside * c.random.uniform(0.5, 0.85), colour, picture), inside > 0.3


def crack(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A jagged line with branches."""
    trunk = path(c, foreground, c.random.uniform(0.3, 0.6), 0.35)
    line = c.distance_to(trunk) - 0.008
    for _ in range(c.random.integers(1, 4)):
        twig = path(c, foreground, c.random.uniform(0.1, 0.22), 0.35)
        twig = twig - twig[0] + trunk[c.random.integers(len(trunk))]
        line = np.minimum(line, c.distance_to(twig) - 0.006)
    inside = soft(line, 0.006) * foreground
    dark = picture[foreground].mean() >= 0.3
    colour = DARK if dark else other_tone(c, picture, foreground, 0.6)
    return mix(0.95 * inside, colour, picture), inside > 0.4


def contamination(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """One to three opaque grains of something else."""
    inside = np.zeros(c.shape)
    colour = other_colour(c, picture, foreground, 0.35)
    for _ in range(c.random.integers(1, 4)):
        inside = np.maximum(inside, soft(-blob(c, foreground, 0.03, 0.08, 0.5) * 0.06))
    return mix(inside, colour * (1 + 0.3 * c.clouds(40))[..., None], picture), inside > 0.4


def missing(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A bite out of an object, or a worn patch of a surface."""
    if foreground.all():
        inside = soft(-blob(c, foreground, 0.08, 0.17, 0.3) * 0.1, 0.02)
        colour = np.clip(picture.mean((0, 1)) * c.random.uniform(0.55, 1.3), 0, 1)
        return mix(inside, colour, picture), inside > 0.4
    edge = foreground & ~ndimage.binary_erosion(foreground, iterations=2)
    cx, cy = c.some_place(edge)
    inside = soft(np.hypot(c.x - cx, c.y - cy) - c.random.uniform(0.09, 0.17) + 0.02 * c.clouds(9))
    behind = picture[~foreground].mean(0) + 0.03 * c.speckle()
    return mix(inside, behind, picture), (inside > 0.4) & foreground


def melt(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A blurred, burnt or bleached patch."""
    inside = np.clip(blob(c, foreground, 0.12, 0.22, 0.4) * 2.5, 0, 1) * foreground
    blurred = ndimage.gaussian_filter(picture, (c.pixels(3.5), c.pixels(3.5), 0))
    burnt = np.clip(blurred * (0.8, 1.2)[c.random.integers(2)], 0, 1)
    return mix(inside, burnt, picture), inside > 0.35


def cut(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A dark slit with a raised edge."""
    x, y = turned_at_spot(c, foreground)
    half = c.random.uniform(0.1, 0.22)
    width = 0.022 * np.clip(1 - (x / half) ** 2, 0, 1)
    within = (np.abs(x) < half) & foreground
    inside = soft(np.abs(y) - width, 0.008) * within
    edge = soft(np.abs(y - 0.03) - 0.5 * width, 0.01) * within
    return mix(inside, DARK, mix(0.5 * edge, BRIGHT, picture)), inside > 0.4


def shift(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A block that is moved out of its place."""
    x, y = turned_at_spot(c, foreground)
    step = c.random.uniform(0.04, 0.09)
    half = c.random.uniform(0.07, 0.15, 2)
    block = (np.abs(x) < half[0]) & (np.abs(y) < half[1])
    way = c.random.uniform(0, TAU)
    moved = warped(picture, c.x + step * np.cos(way), c.y + step * np.sin(way))
    return np.where(block[..., None], moved, picture), block


def crease(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A fold: one side of a line is lit, the other in shadow."""
    x, y = turned_at_spot(c, foreground)
    half = c.random.uniform(0.15, 0.3)
    y = y + 0.02 * c.clouds(4)
    within = (np.abs(x) < half) & foreground
    wide = c.random.uniform(0.02, 0.035)
    fall = np.clip(1 - np.abs(y) / wide, 0, 1) * within
    light = 1 + c.random.uniform(0.5, 0.8) * np.sign(y) * fall
    return np.clip(picture * light[..., None], 0, 1), fall > 0.25


def abrasion(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A rubbed place: many short parallel strokes of a paler or darker tone."""
    inside = np.clip(blob(c, foreground, 0.1, 0.19, 0.4) * 3, 0, 1) * foreground
    wide = (4.0, 0.5) if c.random.random() < 0.5 else (0.5, 4.0)
    strokes = np.clip(0.5 + 0.5 * c.grain(wide), 0, 1)
    tone = other_tone(c, picture, foreground, 0.4)
    return mix(0.85 * inside * strokes, tone, picture), inside > 0.4


def smear(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """Something wiped along a line, fading out."""
    x, y = turned_at_spot(c, foreground)
    length = c.random.uniform(0.2, 0.4)
    along = np.clip(x / length + 0.5, 0, 1)
    width = c.random.uniform(0.03, 0.06) * (1 - 0.5 * along)
    within = (np.abs(x) < length / 2) * soft(np.abs(y) - width, 0.015) * foreground
    inside = within * (1 - 0.7 * along) * (0.85 + 0.15 * c.clouds(12))
    return mix(inside, other_colour(c, picture, foreground, 0.4), picture), inside > 0.25


# -- defects that only the validation classes have -----------------------------------------------


def ghost(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A faint second print of another part of the picture."""
    inside = np.clip(blob(c, foreground, 0.12, 0.2, 0.2) * 4, 0, 1) * foreground
    other = warped(picture, -c.y + c.random.uniform(-0.2, 0.2), c.x)
    return mix(0.6 * inside, other, picture), inside > 0.4


def bubble(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """Round blisters, each with a bright edge."""
    inside, rims = np.zeros(c.shape), np.zeros(c.shape)
    for _ in range(c.random.integers(2, 6)):
        x, y = spot_on(c, foreground)
        radius = c.random.uniform(0.025, 0.055)
        distance = np.hypot(c.x - x, c.y - y) - radius
        inside = np.maximum(inside, soft(distance))
        rims = np.maximum(rims, soft(np.abs(distance) - 0.007, 0.008))
    inside, rims = inside * foreground, rims * foreground
    tone = other_tone(c, picture, foreground, 0.5)
    return mix(0.8 * rims, tone, mix(0.2 * inside, BRIGHT, picture)), inside > 0.4


# -- defects that only the test classes have -----------------------------------------------------


def dent(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A pinched or bulged place with a shadow."""
    cx, cy = spot_on(c, foreground)
    radius = c.random.uniform(0.1, 0.18)
    x, y = c.x - cx, c.y - cy
    distance = np.hypot(x, y) / radius
    depth = np.clip(1 - distance, 0, 1)
    pull = 1 - (-0.9, 0.6)[c.random.integers(2)] * depth
    turn = c.random.uniform(0, TAU)
    slope = (np.cos(turn) * x + np.sin(turn) * y) / radius * np.sqrt(depth)
    bent = warped(picture, cx + x * pull, cy + y * pull)
    return np.clip(bent * (1 + 0.9 * slope)[..., None], 0, 1), distance < 0.85


def thread(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A fibre that lies on the surface."""
    points = path(c, foreground, c.random.uniform(0.5, 0.9), 0.14, 120)
    line = soft(c.distance_to(points) - c.random.uniform(0.008, 0.013), 0.006)
    return mix(line, other_colour(c, picture, foreground, 0.4), picture), line > 0.4


def spot(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A place of another hue with the texture intact."""
    inside = np.clip(blob(c, foreground, 0.07, 0.14, 0.2) * 4, 0, 1) * foreground
    order = ([1, 2, 0], [2, 0, 1], [1, 0, 2], [0, 2, 1], [2, 1, 0])[c.random.integers(5)]
    hue = np.clip(picture[..., order] * (1 + c.random.uniform(-0.5, 0.6, 3)), 0, 1)
    return mix(inside, hue, picture), inside > 0.4


def twist(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A whirl: the texture is turned within a disc."""
    cx, cy = spot_on(c, foreground)
    radius = c.random.uniform(0.14, 0.22)
    x, y = c.x - cx, c.y - cy
    distance = np.hypot(x, y) / radius
    turn = (-1, 1)[c.random.integers(2)] * c.random.uniform(1.2, 2.2) * np.clip(1 - distance, 0, 1)
    turned = warped(
        picture,
        cx + np.cos(turn) * x - np.sin(turn) * y,
        cy + np.sin(turn) * x + np.cos(turn) * y,
    )
    return turned, distance < 0.85


def by_name(*defects: DrawDefect) -> dict[str, DrawDefect]:
    """Functions by their names."""
    return {defect.__name__: defect for defect in defects}


SEEN = by_name(
    scratch, hole, stain, crack, contamination, missing, melt, cut, shift, crease, abrasion, smear
)
VALIDATION = by_name(ghost, bubble)
UNSEEN = by_name(dent, thread, spot, twist)
DEFECTS = {**SEEN, **VALIDATION, **UNSEEN}
