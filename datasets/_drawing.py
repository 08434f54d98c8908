"""What drawings are made of: a square of coordinates, seeded noise, soft edges, mixing.

Everything is computed in float64 and rounded to bytes at the end, so that the last bit of a sine,
which differs between processors, does not reach a picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

Field = NDArray[np.float64]  # [S, S], one value per pixel
Picture = NDArray[np.float64]  # [S, S, 3], in 0..1
Mask = NDArray[np.bool_]  # [S, S]
Colour = NDArray[np.float64]  # [3], in 0..1

TAU = 2 * np.pi
REFERENCE = 96  # pixels; lengths given in pixels are meant at this size


@dataclass
class Canvas:
    """A square to draw on.

    Attributes:
        size: side in pixels.
        random: the generator of this drawing.
        x, y: coordinates of the pixels, in -0.5..0.5.
    """

    size: int
    random: np.random.Generator
    x: Field = field(init=False)
    y: Field = field(init=False)

    def __post_init__(self) -> None:
        ramp = np.arange(self.size) / self.size - 0.5
        self.x, self.y = np.meshgrid(ramp, ramp)

    @property
    def shape(self) -> tuple[int, int]:
        """(S, S)."""
        return (self.size, self.size)

    def pixels(self, length: float) -> float:
        """A length in pixels of the reference size, in pixels of this canvas."""
        return length * self.size / REFERENCE

    def grain(self, sigma: float | tuple[float, float] = 0.0) -> Field:
        """White noise, blurred by sigma (reference pixels), with unit deviation."""
        noise = self.random.standard_normal(self.shape)
        widths = np.asarray(sigma) * self.size / REFERENCE
        noise = ndimage.gaussian_filter(noise, widths.tolist())
        unit: Field = noise / noise.std()
        return unit

    def speckle(self) -> Picture:
        """Unit noise that is grey: [S, S, 1]."""
        return self.random.standard_normal(self.shape)[..., None]

    def clouds(self, cells: int, octaves: int = 1, gain: float = 0.5) -> Field:
        """Smooth noise of about -1..1: random values on a coarse lattice, interpolated."""
        total = np.zeros(self.shape)
        for octave in range(octaves):
            coarse = self.random.uniform(-1, 1, (cells, cells))
            total += gain**octave * enlarge(coarse, self.size)
            cells = min(2 * cells, self.size)
        return total

    def turned(self, angle: float, wobble: float = 0.0) -> NDArray[np.float64]:
        """Coordinates [2, S, S], x first, in a frame turned by `angle`, optionally distorted."""
        frame = rotated(self.x, self.y, angle)
        if wobble:
            frame += wobble * np.stack([self.clouds(3, 2), self.clouds(3, 2)])
        return frame

    def some_place(self, mask: Mask) -> tuple[float, float]:
        """The coordinates of a random pixel of a mask."""
        rows, columns = np.nonzero(mask)
        i = self.random.integers(len(rows))
        return float(columns[i] / self.size - 0.5), float(rows[i] / self.size - 0.5)

    def cells(self, count: int, x: Field, y: Field) -> tuple[Field, Field, NDArray[np.intp], int]:
        """Distances to the nearest and second nearest of scattered points, and which is nearest."""
        side = int(np.ceil(np.sqrt(count))) + 2
        lattice = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
        jitter = 0.9 * self.random.uniform(0, 1, lattice.shape)
        points = (lattice + jitter) / (side - 2) - 0.5 - 1 / (side - 2)
        distance, index = cKDTree(points).query(np.stack([x, y], -1), k=2)
        return distance[..., 0], distance[..., 1], index[..., 0], len(points)

    def distance_to(self, points: NDArray[np.float64]) -> Field:
        """Distance of every pixel to the nearest of some points [N, 2]."""
        distance: Field = cKDTree(points).query(np.stack([self.x, self.y], -1))[0]
        return distance


def rotated(x: Field, y: Field, angle: float) -> NDArray[np.float64]:
    """Coordinates [2, S, S], x first, in a frame turned by `angle` about the origin."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * x - s * y, s * x + c * y])


def enlarge(coarse: Field, size: int) -> Field:
    """Bicubic enlargement of a small square of values."""
    if coarse.shape == (size, size):
        return coarse
    factor, order = size / len(coarse), min(3, len(coarse) - 1)
    enlarged: Field = ndimage.zoom(coarse, factor, order=order, mode="nearest", grid_mode=True)
    return enlarged


def soft(signed_distance: Field, edge: float = 0.012) -> Field:
    """1 inside (negative distance), 0 outside, a ramp of width `edge` between."""
    return np.clip(0.5 - signed_distance / (2 * edge), 0, 1)


def mix(share: Field, first: Picture | Colour, second: Picture | Colour) -> Picture:
    """`share` of the first and the rest of the second, pixel by pixel."""
    mixed: Picture = share[..., None] * first + (1 - share[..., None]) * second
    return mixed


def plain(canvas: Canvas, colour: Colour) -> Picture:
    """One colour everywhere."""
    return np.broadcast_to(colour, (*canvas.shape, 3)).astype(float)


def shaded(picture: Picture, light: NDArray[np.floating[Any]]) -> Picture:
    """A picture times a brightness."""
    lit: Picture = picture * light[..., None]
    return lit


def jittered(random: np.random.Generator, colour: Colour, amount: float = 0.06) -> Colour:
    """A colour near another."""
    shift = random.normal(0, amount, 3) * 0.6 + random.normal(0, amount)
    return np.clip(colour + shift, 0.03, 0.97)


def hexagon(x: Field, y: Field) -> Field:
    """The radius of the regular hexagon through each point."""
    x, y = np.abs(x), np.abs(y)
    return np.maximum(x * 0.8660254037844386 + y * 0.5, y)


def warped(picture: Picture, x: Field, y: Field) -> Picture:
    """The picture looked up at other coordinates."""
    size = picture.shape[0]
    where = [(y + 0.5) * size, (x + 0.5) * size]
    channels: list[Field] = [
        ndimage.map_coordinates(picture[..., c], where, order=1, mode="nearest") for c in range(3)
    ]
    return np.stack(channels, -1)


def to_bytes(picture: Picture) -> NDArray[np.uint8]:
    """A picture in 0..1 as uint8."""
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def to_image(picture: NDArray[np.uint8] | Mask) -> Image.Image:
    """uint8 [S, S, 3] or a mask [S, S] as an image that can be saved."""
    return Image.fromarray(picture.astype(np.uint8) * (255 if picture.dtype == bool else 1))
