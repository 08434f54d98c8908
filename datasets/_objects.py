"""Procedural objects on a plain ground: discs, nuts, capsules, chips, screws, ...

Each function draws an object: canvas, two colours, scale, orientation -> picture and foreground.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ._drawing import (
    TAU,
    Canvas,
    Colour,
    Field,
    Mask,
    Picture,
    hexagon,
    jittered,
    mix,
    plain,
    shaded,
    soft,
)

SILVER = np.array([0.75, 0.75, 0.72])
COPPER = np.array([0.8, 0.5, 0.25])


def ground(c: Canvas) -> Picture:
    """A dark, grey or bright table, unevenly lit."""
    tone = np.full(3, (0.1, 0.55, 0.88)[c.random.integers(3)])
    table = plain(c, jittered(c.random, tone, 0.05))
    return shaded(table * (1 + 0.03 * c.speckle()), 1 + 0.08 * c.clouds(3))


def placed(c: Canvas, angle: float = 0.0) -> tuple[Field, Field]:
    """Coordinates of an object that lies somewhere near the middle, turned by `angle`."""
    dx, dy = c.random.uniform(-0.04, 0.04, 2)
    x, y = c.turned(angle)
    return x - dx, y - dy


def cut_out(c: Canvas, signed_distance: Field, picture: Picture) -> tuple[Picture, Mask]:
    """The picture inside the outline, the ground outside."""
    inside = soft(signed_distance)
    return mix(inside, picture, ground(c)), inside > 0.5


def washer(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A ring."""
    x, y = placed(c)
    radius = np.hypot(x, y)
    gleam = 1 + 0.12 * np.cos(2 * np.arctan2(y, x) + t)
    outline = np.maximum(radius - 0.34 * s, 0.15 * s - radius)
    return cut_out(c, outline, shaded(plain(c, first), gleam))


def disc(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A disc with concentric grooves."""
    radius = np.hypot(*placed(c))
    return cut_out(c, radius - 0.38 * s, mix(0.5 + 0.5 * np.sin(TAU * radius * 8), first, second))


def bolt(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A hexagonal head."""
    x, y = placed(c, t)
    radius = np.hypot(x, y)
    head = shaded(
        mix(soft(radius - 0.2 * s), second, first),
        (1 - 0.35 * soft(np.abs(radius - 0.2 * s) - 0.012)) * (1 + 0.4 * x),
    )
    return cut_out(c, hexagon(x, y) - 0.33 * s, head)


def nut(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A hexagonal nut with a hole."""
    x, y = placed(c, t)
    radius = np.hypot(x, y)
    metal = shaded(plain(c, first), 1 + 0.3 * x - 0.2 * y)
    face = mix(soft(np.abs(radius - 0.19 * s) - 0.02), second, metal)
    return cut_out(c, np.maximum(hexagon(x, y) - 0.33 * s, 0.15 * s - radius), face)


def chip(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """An integrated circuit with pins."""
    x, y = placed(c, np.round(t / TAU * 4) * TAU / 4 + c.random.normal(0, 0.04))
    body = np.maximum(np.abs(x) - 0.2 * s, np.abs(y) - 0.33 * s)
    pitch = 0.022 - np.abs((y * 9 / s) % 1 - 0.5) / 9
    pins = np.maximum(np.maximum(np.abs(x) - 0.34 * s, np.abs(y) - 0.31 * s), pitch)
    print_ = np.maximum(np.abs(y) - 0.1 * s, 0.01 - np.abs((y * 14) % 1 - 0.5) / 14)
    picture = mix(soft(body), first, plain(c, SILVER))
    picture = mix(soft(np.hypot(x + 0.12 * s, y + 0.25 * s) - 0.03), second, picture)
    picture = mix(0.5 * soft(np.maximum(np.abs(x) - 0.12 * s, print_)), np.full(3, 0.8), picture)
    return cut_out(c, np.minimum(body, pins), picture)


def tablet(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """An oval pill with a score line."""
    x, y = placed(c, t)
    outline = np.hypot(x, y * 1.35) - 0.34 * s
    dome = np.clip(0.75 + 0.9 * np.sqrt(np.clip(-outline, 0, 1)), 0, 1.15)
    return cut_out(c, outline, shaded(plain(c, first), dome * (1 - 0.3 * soft(np.abs(x) - 0.012))))


def capsule(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A capsule of two colours."""
    x, y = placed(c, t)
    outline = np.hypot(x, np.maximum(np.abs(y) - 0.2 * s, 0)) - 0.15 * s
    gleam = 0.7 + 0.5 * np.exp(-(((x + 0.04) / 0.06) ** 2))
    return cut_out(c, outline, shaded(mix(soft(y), first, second), gleam))


def gear(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A cogwheel."""
    x, y = placed(c)
    radius = np.hypot(x, y)
    teeth = 0.3 * s + 0.04 * s * np.clip(3 * np.sin(12 * (np.arctan2(y, x) + t)), -1, 1)
    wheel = mix(soft(radius - 0.2 * s), second, first)
    return cut_out(c, np.maximum(radius - teeth, 0.07 * s - radius), wheel)


def screw(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A threaded screw from the side."""
    x, y = placed(c, t)
    thread = np.sin(TAU * y * 17)
    shaft = np.maximum(np.abs(x) - (0.07 + 0.018 * thread) * s, np.abs(y) - 0.36)
    head = np.maximum(np.abs(x) - 0.15 * s, np.abs(y + 0.33) - 0.06)
    gleam = (0.75 + 0.5 * np.exp(-((x / 0.04) ** 2))) * (0.85 + 0.15 * np.sin(TAU * y * 17 + 1))
    return cut_out(c, np.minimum(shaft, head), shaded(plain(c, first), gleam))


def cookie(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A biscuit with crumbs."""
    x, y = placed(c)
    turn = np.arctan2(y, x)
    outline = np.hypot(x, y) - 0.34 * s - 0.012 * np.sin(3 * turn + t) - 0.008 * np.sin(7 * turn)
    dough = shaded(plain(c, first), 1 + 0.12 * c.clouds(14, 2))
    crumbs = c.random.uniform(-0.24, 0.24, (9, 2)) * s
    near = cKDTree(crumbs).query(np.stack([x, y], -1))[0]
    return cut_out(c, outline, mix(soft(near - 0.035), second, dough))


def plug(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A square plug with two contacts."""
    x, y = placed(c, t)
    contacts = np.minimum(np.hypot(x - 0.12, y), np.hypot(x + 0.12, y)) - 0.06
    face = shaded(mix(soft(contacts), second, first), 1 + 0.2 * x)
    return cut_out(c, np.maximum(np.abs(x), np.abs(y)) - 0.3 * s, face)


def coin(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A coin with an embossed star."""
    x, y = placed(c)
    radius = np.hypot(x, y)
    star = np.cos(6 * (np.arctan2(y, x) + t)) * (radius < 0.22 * s) * radius * 3
    rim = 1 - 0.3 * soft(np.abs(radius - 0.29 * s) - 0.012)
    return cut_out(c, radius - 0.36 * s, shaded(plain(c, first), (1 + 0.2 * star) * rim))


def cross(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A cross-shaped joint."""
    x, y = placed(c, t)
    arm = np.maximum(np.abs(x) - 0.36 * s, np.abs(y) - 0.12 * s)
    other = np.maximum(np.abs(y) - 0.36 * s, np.abs(x) - 0.12 * s)
    face = shaded(mix(soft(np.hypot(x, y) - 0.07), second, first), 1 + 0.3 * x)
    return cut_out(c, np.minimum(arm, other), face)


def tube(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A round tube with a band."""
    x, y = placed(c, t)
    barrel = 0.6 + 0.6 * np.cos(np.clip(x / (0.17 * s), -1, 1) * 1.4)
    wall = mix(soft(np.abs(y - 0.2) - 0.04), second, shaded(plain(c, first), barrel))
    return cut_out(c, np.maximum(np.abs(x) - 0.17 * s, np.abs(y) - 0.4), wall)


def button(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A button with four holes."""
    x, y = placed(c, t)
    radius = np.hypot(x, y)
    holes = np.hypot(np.abs(x) - 0.08 * s, np.abs(y) - 0.08 * s) - 0.035 * s
    rim = (1 - 0.25 * soft(np.abs(radius - 0.25 * s) - 0.03)) * (1 + 0.25 * x)
    return cut_out(c, radius - 0.34 * s, mix(soft(holes), second, shaded(plain(c, first), rim)))


def cable(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """The section of a cable with three wires."""
    x, y = placed(c)
    picture = plain(c, np.full(3, 0.75))
    strands = 1 + 0.15 * np.sin(90 * x) * np.sin(90 * y)
    for k, colour in enumerate((first, second, jittered(c.random, np.array([0.25, 0.65, 0.3])))):
        turn = t + k * TAU / 3
        wire = np.hypot(x - 0.17 * s * np.cos(turn), y - 0.17 * s * np.sin(turn))
        picture = mix(soft(wire - 0.14 * s), colour, picture)
        picture = mix(soft(wire - 0.085 * s), shaded(plain(c, COPPER), strands), picture)
    return cut_out(c, np.hypot(x, y) - 0.38 * s, picture)


def key(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A key with a round bow and teeth."""
    x, y = placed(c, t)
    bow = np.hypot(x, y + 0.2 * s) - 0.15 * s
    blade = np.maximum(np.abs(x) - 0.05 * s, np.abs(y - 0.1 * s) - 0.27 * s)
    teeth = np.maximum(np.abs(x - 0.08 * s) - 0.05 * s, np.abs((y * 14) % 1 - 0.5) / 14 - 0.018)
    teeth = np.maximum(teeth, np.abs(y - 0.22 * s) - 0.13 * s)
    hole = 0.05 * s - np.hypot(x, y + 0.24 * s)
    outline = np.maximum(np.minimum(np.minimum(bow, blade), teeth), hole)
    return cut_out(c, outline, shaded(mix(soft(bow), second, first), 1 + 0.8 * x))


def bottle_cap(
    c: Canvas, first: Colour, second: Colour, s: float, t: float
) -> tuple[Picture, Mask]:
    """A crown cap."""
    x, y = placed(c)
    radius, turn = np.hypot(x, y), np.arctan2(y, x) + t
    crown = 0.34 * s + 0.018 * s * np.cos(21 * turn)
    face = mix(soft(radius - 0.24 * s), second, first)
    return cut_out(c, radius - crown, shaded(face, 1 + 0.15 * np.cos(21 * turn) * (radius > 0.27)))


def battery(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A cell with a coloured sleeve and a contact."""
    x, y = placed(c, t)
    can = np.maximum(np.abs(x) - 0.13 * s, np.abs(y) - 0.33 * s)
    contact = np.maximum(np.abs(x) - 0.05 * s, np.abs(y + 0.35 * s) - 0.04 * s)
    barrel = 0.6 + 0.6 * np.cos(np.clip(x / (0.13 * s), -1, 1) * 1.4)
    sleeve = shaded(mix(soft(y + 0.12 * s), first, second), barrel)
    return cut_out(c, np.minimum(can, contact), mix(soft(can), sleeve, plain(c, SILVER)))


def star(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A star of five rays."""
    x, y = placed(c)
    radius, turn = np.hypot(x, y), np.arctan2(y, x) + t
    ray = np.abs((turn * 5 / TAU) % 1 - 0.5)
    face = shaded(mix(soft(radius - 0.1 * s), second, first), 0.75 + 0.9 * ray)
    return cut_out(c, radius - (0.18 + 0.4 * ray) * s, face)


def connector(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A block with two rows of contacts."""
    x, y = placed(c, t)
    u, v = (x / s * 9) % 1 - 0.5, (y / s * 9) % 1 - 0.5
    inner = np.maximum(np.abs(x) - 0.28 * s, np.abs(y) - 0.11 * s)
    contacts = np.maximum(np.maximum(np.abs(u), np.abs(v)) / 9 - 0.028, inner)
    face = shaded(mix(soft(contacts), second, first), 1 + 0.25 * y)
    return cut_out(c, np.maximum(np.abs(x) - 0.36 * s, np.abs(y) - 0.17 * s), face)


def horseshoe(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """An open ring with nail holes."""
    x, y = placed(c, t)
    radius, turn = np.hypot(x, y), np.arctan2(y, x)
    ring = np.maximum(np.abs(radius - 0.26 * s) - 0.09 * s, 0.12 * s - np.abs(x) - 2 * (y < 0))
    nails = np.hypot(radius - 0.26 * s, ((turn * 8 / TAU) % 1 - 0.5) * 0.2) - 0.02
    return cut_out(c, ring, shaded(mix(soft(nails), second, first), 1 + 0.25 * x))


def comb(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A spine with teeth."""
    x, y = placed(c, t)
    spine = np.maximum(np.abs(x) - 0.36 * s, np.abs(y + 0.16 * s) - 0.07 * s)
    tooth = np.abs((x / s * 13) % 1 - 0.5) / 13 - 0.02
    teeth = np.maximum(np.maximum(tooth, np.abs(x) - 0.35 * s), np.abs(y - 0.05 * s) - 0.2 * s)
    face = shaded(mix(soft(spine), second, first), 1 + 0.3 * y)
    return cut_out(c, np.minimum(spine, teeth), face)


def bottle(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A bottle with a label, from the side."""
    x, y = placed(c, t)
    body = np.maximum(np.abs(x) - 0.16 * s, np.abs(y - 0.1 * s) - 0.27 * s)
    neck = np.maximum(np.abs(x) - 0.06 * s, np.abs(y + 0.26 * s) - 0.12 * s)
    label = np.maximum(np.abs(x) - 0.2 * s, np.abs(y - 0.12 * s) - 0.11 * s)
    gleam = 0.7 + 0.6 * np.exp(-(((x + 0.06) / 0.05) ** 2))
    glass = shaded(mix(soft(label), second, first), gleam)
    return cut_out(c, np.minimum(body, neck), glass)


def leaf(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A leaf with veins."""
    x, y = placed(c, t)
    outline = np.hypot(np.abs(x) + 0.24 * s, y) - 0.42 * s
    vein = np.minimum(np.abs(x), np.abs(((y - np.abs(x)) * 9) % 1 - 0.5) / 9 + 0.006)
    blade = shaded(mix(soft(vein - 0.008), second, first), 1 + 0.08 * c.clouds(7))
    return cut_out(c, outline, blade)


def dice(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A square with rounded corners and five pips."""
    x, y = placed(c, t)
    corner = np.hypot(np.maximum(np.abs(x) - 0.22 * s, 0), np.maximum(np.abs(y) - 0.22 * s, 0))
    pips = np.minimum(np.hypot(x, y), np.hypot(np.abs(x) - 0.15 * s, np.abs(y) - 0.15 * s))
    face = shaded(mix(soft(pips - 0.05 * s), second, first), 1 + 0.2 * x + 0.1 * y)
    return cut_out(c, corner - 0.08 * s, face)


def bulb(c: Canvas, first: Colour, second: Colour, s: float, t: float) -> tuple[Picture, Mask]:
    """A lamp with a threaded base."""
    x, y = placed(c, t)
    glass = np.hypot(x, y + 0.1 * s) - 0.22 * s
    base = np.maximum(np.abs(x) - 0.1 * s, np.abs(y - 0.2 * s) - 0.14 * s)
    metal = shaded(plain(c, second), 0.8 + 0.3 * np.sin(TAU * y * 16))
    light = shaded(plain(c, first), 1.1 - 1.2 * np.hypot(x + 0.06, y + 0.16))
    return cut_out(c, np.minimum(glass, base), mix(soft(glass), light, metal))
