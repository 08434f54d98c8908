"""Overlays show the image as it is, the region's outline and what the colours mean."""

import numpy as np
import pytest
from PIL import Image
from zsad.bench.running.overlay import GAP, LARGEST, OUTLINE, SMALLEST, Scale, draw_overlay

SIDE = 300


def _map(size=24):
    values = np.zeros((size, size), np.float32)
    values[4:12, 4:12] = 1.0
    return values


def _panels(sheet, side=SIDE):
    pixels = np.asarray(sheet)
    left = pixels[GAP : GAP + side, GAP : GAP + side]
    return left, pixels[GAP : GAP + side, 2 * GAP + side : 2 * GAP + 2 * side]


def test_outside_the_outline_the_image_keeps_every_pixel():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    left, heat = _panels(draw_overlay(image, _map(), Scale(0, 1, 0.5), "score 1"))
    same = (left == np.asarray(image)).all(axis=-1)
    assert 0.9 < same.mean() < 1
    changed = np.argwhere(~same)
    assert changed.min() > SIDE * 4 / 24 - 12 and changed.max() < SIDE * 12 / 24 + 12
    line = (left == OUTLINE).all(axis=-1)
    assert line.any() and (line == (heat == OUTLINE).all(axis=-1)).all()


def test_without_a_threshold_nothing_is_outlined():
    image = Image.new("RGB", (SIDE, SIDE), (90, 90, 90))
    sheet = draw_overlay(image, _map(), Scale(0, 1), "score 1")
    assert not (np.asarray(sheet) == OUTLINE).all(axis=-1).any()


def test_the_same_value_has_the_same_colour_in_every_overlay():
    image = Image.new("RGB", (SIDE, SIDE))
    scale = Scale(0, 2)
    _, weak = _panels(draw_overlay(image, _map(), scale, ""))
    _, strong = _panels(draw_overlay(image, 2 * _map(), scale, ""))
    middle = SIDE * 8 // 24
    assert strong[middle, middle].sum() > weak[middle, middle].sum() > weak[-1, -1].sum()
    assert (weak[-1, -1] == strong[-1, -1]).all()


@pytest.mark.parametrize(
    ("size", "longer"), [((60, 40), SMALLEST), ((5000, 2500), LARGEST), ((640, 480), 640)]
)
def test_panels_keep_the_aspect_and_a_size_that_can_be_read(size, longer):
    sheet = draw_overlay(Image.new("RGB", size), _map(), Scale(0, 1), "score 0.5")
    assert sheet.width == 2 * longer + 3 * GAP
    assert sheet.height > longer * size[1] / size[0]
