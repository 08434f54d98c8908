"""Procedural surfaces: weave, wood grain, brushed metal, tiles, leather, grid, marble, carpet, ...

Each function draws a surface: canvas, two colours, scale (about 1), orientation -> picture
[S, S, 3].
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ._drawing import TAU, Canvas, Colour, Field, Picture, mix, plain, shaded, soft


def to_seam(u: Field, v: Field) -> Field:
    """How far a point of a unit lattice is from the nearest border of its cell."""
    return np.minimum(0.5 - np.abs(u % 1 - 0.5), 0.5 - np.abs(v % 1 - 0.5))


def weave(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Threads over and under."""
    across, along = np.sin(TAU * 11 * scale * c.turned(angle, 0.006))
    over = across * along > 0
    relief = 0.6 + 0.4 * np.where(over, np.abs(across), np.abs(along))
    return shaded(mix(over.astype(float), first, second), relief)


def twill(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Diagonal ribs."""
    x, y = c.turned(angle, 0.004)
    ribs = 0.5 + 0.5 * np.sin(TAU * 13 * scale * (x + y)) + 0.25 * np.sin(TAU * 24 * scale * x)
    return mix(np.clip(ribs, 0, 1), first, second)


def herringbone(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Zigzag ribs, as in knitwear."""
    x, y = c.turned(angle, 0.004)
    zigzag = np.abs((x * 6 * scale) % 1 - 0.5) * 2
    return mix(0.5 + 0.5 * np.sin(TAU * (y * 12 * scale + zigzag)), first, second)


def wood(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Year rings."""
    x, y = c.turned(angle)
    rings = x * 9 * scale + 0.8 * c.clouds(3, 2) + 0.15 * np.sin(TAU * y * 2)
    grain = 0.5 + 0.5 * np.sin(TAU * rings) + 0.06 * c.grain(0.6)
    return mix(np.clip(grain, 0, 1), first, second)


def planks(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Boards side by side."""
    x, _ = c.turned(angle)
    board = np.floor(x * 5 * scale).astype(int) % 40
    tone = 0.2 + 0.5 * c.random.uniform(0, 1, 40)[board] + 0.12 * c.grain((3, 0.7))
    gap = soft(0.46 - np.abs((x * 5 * scale) % 1 - 0.5), 0.02)
    return shaded(mix(np.clip(tone, 0, 1), first, second), 1 - 0.55 * gap)


def carpet(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Pile."""
    return mix(np.clip(0.5 + 0.25 * c.grain(0.8 / scale), 0, 1), first, second)


def terrazzo(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Chips in cement."""
    chips = mix(soft(1.1 - c.grain(1.6 / scale), 0.25), first, second)
    return shaded(chips, 1 - 0.25 * (c.grain(1.0) > 1.6))


def granite(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Coarse grains of three tones."""
    grains = c.grain(1.1 / scale)
    picture = mix((grains > 0.5).astype(float), first, second)
    return mix((grains < -0.9).astype(float), 0.35 * (first + second), picture)


def brushed(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Metal with fine parallel strokes."""
    wide = int(1.5 * c.size)
    noise = c.random.standard_normal((wide, wide))
    strokes = ndimage.gaussian_filter1d(noise, c.pixels(14), axis=1)
    strokes = ndimage.rotate(strokes, np.degrees(angle), reshape=False, order=1, mode="reflect")
    edge = (wide - c.size) // 2
    inner = strokes[edge : edge + c.size, edge : edge + c.size]
    return mix(np.clip(0.5 + 0.18 * inner / inner.std(), 0, 1), first, second)


def corrugated(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Parallel waves of a sheet."""
    x, _ = c.turned(angle, 0.004)
    return mix(0.5 + 0.5 * np.sin(TAU * 7 * scale * x), first, second)


def dots(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Round dots on a square lattice."""
    u, v = (c.turned(angle) * 8 * scale) % 1 - 0.5
    return mix(soft(np.hypot(u, v) - 0.28, 0.08), first, second) + 0.03 * c.speckle()


def checks(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """A chequered pattern."""
    parity = np.floor(c.turned(angle) * 7 * scale).sum(0) % 2
    return mix(ndimage.gaussian_filter(parity, c.pixels(0.6)), first, second) + 0.02 * c.speckle()


def stripes(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Printed bands."""
    x, _ = c.turned(angle, 0.003)
    band = soft(np.abs((x * 6 * scale) % 1 - 0.5) - 0.15, 0.03)
    return mix(band, first, second) + 0.025 * c.speckle()


def plaster(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Rough relief in slanting light."""
    rows, columns = np.gradient(c.clouds(int(14 * scale), 3, 0.6))
    slope = (columns * np.cos(angle) + rows * np.sin(angle)) * c.size / 96
    return shaded(plain(c, first), np.clip(1 + 0.9 * slope, 0.4, 1.5))


def gravel(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Stones of many tones."""
    near, after, index, count = c.cells(int(120 * scale**2), c.x, c.y)
    tone = c.random.uniform(0, 1, count)[index]
    return shaded(mix(tone, first, second), 0.35 + 0.65 * np.clip((after - near) * 40, 0, 1))


def honeycomb(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Round cells on a hexagonal lattice."""
    x, y = c.turned(angle)
    x, y = x * 7 * scale, y * 7 * scale * 1.1547
    distance = np.full(c.shape, np.inf)
    for row in (np.round(y), np.floor(y) + (y - np.floor(y) < 0.5)):
        shifted = x - 0.5 * (row % 2)
        distance = np.minimum(distance, np.hypot(shifted - np.round(shifted), (y - row) * 0.866))
    return mix(soft(distance - 0.36, 0.06), first, second)


def sponge(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Pores of many sizes."""
    near, _, index, count = c.cells(int(180 * scale**2), c.x, c.y)
    radius = c.random.uniform(0.012, 0.035, count)[index] / scale
    return mix(soft(near - radius, 0.008), 0.6 * second, first) * (1 + 0.04 * c.speckle())


def bricks(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """A wall with joints."""
    x, y = c.turned(angle)
    row = np.floor(y * 7 * scale)
    u = x * 3.5 * scale + 0.5 * (row % 2)
    tone = c.random.uniform(0.7, 1.1, 97)[(np.floor(u) * 7 + row * 13).astype(int) % 97]
    joint = np.minimum((0.5 - np.abs(u % 1 - 0.5)) * 2, 0.5 - np.abs((y * 7 * scale) % 1 - 0.5))
    wall = mix(soft(joint - 0.09, 0.04), second, shaded(plain(c, first), tone))
    return wall + 0.03 * c.speckle()


def tiles(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Square glazed tiles with joints."""
    u, v = c.turned(angle) * 4 * scale
    tone = c.random.uniform(0.85, 1.1, 64)[(np.floor(u) * 5 + np.floor(v) * 11).astype(int) % 64]
    edge = to_seam(u, v)
    glaze = shaded(plain(c, first), tone * (1 + 0.12 * (u % 1 - 0.5)))
    return mix(soft(edge - 0.06, 0.03), second, glaze)


def leather(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Creased cells."""
    x, y = c.x + 0.01 * c.clouds(8, 2), c.y + 0.01 * c.clouds(8, 2)
    near, after, _, _ = c.cells(int(260 * scale**2), x, y)
    crease = np.clip((after - near) * 45 * scale, 0, 1)
    return shaded(mix(crease, first, second), 1 + 0.05 * c.clouds(6, 2))


def grid(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Crossing wires."""
    wire = np.abs((c.turned(angle, 0.003) * 10 * scale) % 1 - 0.5).min(0)
    return mix(soft(wire - 0.13, 0.06), first, second)


def marble(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Veins."""
    x, _ = c.turned(angle)
    veins = np.abs(np.sin(TAU * (x * 1.5 * scale + 0.6 * c.clouds(4, 4, 0.55)))) ** 0.6
    return mix(veins, first, second)


def chainmail(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Linked rings."""
    u, v = c.turned(angle) * 7 * scale
    one, other = (np.abs(np.hypot((u + s) % 1 - 0.5, (v + s) % 1 - 0.5) - 0.4) for s in (0.0, 0.5))
    return mix(soft(np.minimum(one, other) - 0.07, 0.05), first, second)


def scales(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Overlapping rounded plates, as of a roof or a fish."""
    x, y = c.turned(angle, 0.004)
    u, v = x * 7 * scale, y * 9 * scale
    row = np.floor(v)
    across, down = (u + 0.5 * (row % 2)) % 1 - 0.5, v - row
    lower = np.hypot(across, down) < 0.55
    return mix(np.clip(np.where(lower, 1.5 * down, 0.25 + 0.5 * down), 0, 1), first, second)


def labyrinth(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Winding ridges of one width, as of a coral or a fingertip."""
    ridges = c.grain(1.6 / scale) - 0.9 * c.grain(3.2 / scale)
    fine = ridges - ndimage.gaussian_filter(ridges, c.pixels(3.2 / scale))
    return mix(soft(-fine, 0.5), first, second)


def camouflage(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Patches of three tones."""
    field = c.clouds(max(4, int(6 * scale)), 2)
    patches = mix((field > 0.25).astype(float), first, second)
    return mix((field < -0.3).astype(float), 0.5 * first, patches) + 0.02 * c.speckle()


def quilt(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Padded diamonds with seams."""
    x, y = c.turned(angle)
    u, v = (x + 0.7 * y) * 5 * scale, (x - 0.7 * y) * 5 * scale
    edge = to_seam(u, v)
    padded = shaded(plain(c, first), 0.7 + 0.5 * np.sqrt(2 * edge))
    return mix(soft(edge - 0.05, 0.03), second, padded) + 0.015 * c.speckle()


def ripples(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Wind-blown crests."""
    x, _ = c.turned(angle, 0.03)
    crest = 0.5 + 0.35 * np.sin(TAU * 8 * scale * x) + 0.1 * c.grain(0.6)
    return mix(np.clip(crest, 0, 1), first, second)


def confetti(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Round bits of a few colours on a ground."""
    near, _, index, count = c.cells(int(150 * scale**2), c.x, c.y)
    tones = np.stack([first, 1 - second, first[::-1]])
    bits = tones[c.random.integers(len(tones), size=count)][index]
    return mix(soft(near - 0.026 / scale, 0.008), bits, plain(c, second)) + 0.02 * c.speckle()


def mosaic(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Small stones in rows, each with its own tone."""
    u, v = c.turned(angle, 0.008) * 11 * scale
    tone = c.random.uniform(0, 1, 211)[(np.floor(u) * 17 + np.floor(v) * 31).astype(int) % 211]
    edge = to_seam(u, v)
    return shaded(mix(tone, first, second), 1 - 0.4 * soft(edge - 0.09, 0.05))


def straw(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Stalks that lie in two directions."""
    along, across = c.grain((8 / scale, 0.7)), c.grain((0.7, 8 / scale))
    stalks = np.clip(0.5 + 0.25 * np.maximum(along, across), 0, 1)
    return mix(stalks, first, second)


def braid(c: Canvas, first: Colour, second: Colour, scale: float, angle: float) -> Picture:
    """Ropes side by side, each twisted."""
    x, y = c.turned(angle)
    u = x * 6 * scale
    strand = 0.5 + 0.5 * np.sin(TAU * (y * 9 * scale + 0.8 * np.abs(u % 1 - 0.5)))
    return shaded(mix(strand, first, second), 0.5 + np.sqrt(0.5 - np.abs(u % 1 - 0.5)) * 0.75)
