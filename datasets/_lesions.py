"""Procedural tissue, skin and scans, and the lesions on them: blobs without a hard edge.

Each of the first group draws a ground: canvas, two colours, scale, orientation -> picture, or
picture and foreground. Lesions are drawn as the defects of `_damage.py` are.
"""

from __future__ import annotations

import numpy as np

from ._damage import blob, by_name, other_tone, spot_on
from ._drawing import TAU, Canvas, Colour, Mask, Picture, jittered, mix, plain, shaded, soft

FLESH = np.array([0.82, 0.38, 0.34])
PIGMENT = np.array([0.30, 0.17, 0.11])


# -- grounds ------------------------------------------------------------------------------------


def mucosa(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Moist folds with veins and gleams, darker towards the rim of the view."""
    x, y = c.turned(angle)
    folds = np.sin(TAU * (2.2 * scale * y + 0.5 * c.clouds(3, 2)) + 2 * x)
    veins = soft(np.abs(c.clouds(6, 3)) - 0.03, 0.04)
    picture = mix(0.35 * veins, second, shaded(plain(c, first), 1 + 0.13 * folds))
    gleams = soft(2.1 - c.grain(2.2), 0.4)
    lit = mix(0.7 * gleams, np.ones(3), picture)
    return shaded(lit, 1.08 - 0.9 * (c.x**2 + c.y**2))


def skin(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Pores, fine lines and a few hairs."""
    near, after, _, _ = c.cells(int(420 * scale**2), c.x, c.y)
    lines = 0.9 + 0.1 * np.clip((after - near) * 60, 0, 1)
    picture = shaded(plain(c, first), lines * (1 + 0.05 * c.clouds(5, 3)))
    for _ in range(c.random.integers(2, 6)):
        cx, cy = c.random.uniform(-0.5, 0.5, 2)
        heading = angle + np.cumsum(c.random.normal(0, 0.06, 40))
        hair = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1), 0) * 0.012 + (cx, cy)
        picture = mix(0.7 * soft(c.distance_to(hair) - 0.003, 0.006), second, picture)
    return picture


def scan(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A grey section of a body part on black: a bright rim, two halves, grain of the device."""
    dx, dy = c.random.uniform(-0.03, 0.03, 2)
    x, y = c.x - dx, c.y - dy
    radius = np.hypot(x * 1.2, y) + 0.012 * c.clouds(5)
    inside, rim = soft(radius - 0.4 * s), soft(np.abs(radius - 0.38 * s) - 0.012)
    halves = soft(np.abs(x + 0.01 * c.clouds(4)) - 0.006) * soft(np.abs(y) - 0.3 * s)
    matter = mix(np.clip(0.5 + 0.45 * c.clouds(9, 3), 0, 1), first, second)
    picture = mix(0.8 * halves, 0.4 * second, matter)
    picture = mix(rim, np.full(3, 0.85), picture) * (1 + 0.05 * c.speckle())
    return picture * inside[..., None], radius < 0.36 * s


# -- lesions ------------------------------------------------------------------------------------


def polyp(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A dome of the tissue's own colour, lit from one side, with a gleam."""
    cx, cy = spot_on(c, foreground, 0.2)
    radius, turn = c.random.uniform(0.1, 0.2), c.random.uniform(0, TAU)
    x, y = c.x - cx, c.y - cy
    distance = np.hypot(x, y) / radius + 0.12 * c.clouds(6)
    dome = np.clip(1 - distance, 0, 1)
    slope = (np.cos(turn) * x + np.sin(turn) * y) / radius
    raised = picture * (0.9 + 0.75 * np.sqrt(dome) + 0.35 * slope * (distance < 1))[..., None]
    gleam = soft(np.hypot(x + 0.35 * radius, y + 0.35 * radius) - 0.14 * radius, 0.02)
    inside = soft((distance - 1) * radius, 0.02)
    tinted = mix(0.45 * inside, jittered(c.random, FLESH), np.clip(raised, 0, 1))
    return mix(0.8 * gleam * inside, np.ones(3), mix(1 - inside, picture, tinted)), inside > 0.5


def mole(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A pigmented spot with an irregular, soft border and darker islands."""
    inside = np.clip(blob(c, foreground, 0.08, 0.19, 0.45) * 2.5, 0, 1) * foreground
    islands = 1 - 0.35 * (c.clouds(12, 2) > 0.3)
    tone = jittered(c.random, PIGMENT, 0.05) * islands[..., None]
    return mix(c.random.uniform(0.6, 0.92) * inside, tone, picture), inside > 0.3


def mass(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """A round region that absorbs more or less than what is around it."""
    inside = np.clip(blob(c, foreground, 0.07, 0.15, 0.2) * 3, 0, 1) * foreground
    tone = other_tone(c, picture, foreground, 0.35) * (1 + 0.08 * c.clouds(20))[..., None]
    return mix(0.75 * inside, tone, picture), inside > 0.35


def patchy(c: Canvas, picture: Picture, foreground: Mask) -> tuple[Picture, Mask]:
    """Two to four small reddened or darkened places close together."""
    inside = np.zeros(c.shape)
    for _ in range(c.random.integers(2, 5)):
        inside = np.maximum(inside, np.clip(blob(c, foreground, 0.04, 0.08, 0.4) * 3, 0, 1))
    tone = picture.mean((0, 1)) * c.random.uniform((0.7, 0.25, 0.25), (1.0, 0.5, 0.5))
    return mix(0.8 * inside * foreground, tone, picture), inside * foreground > 0.35


LESIONS = by_name(polyp, mole, mass, patchy)
