"""Random changes of training images, and mosaics of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.methods import _augmentation as augmentation
from zsad.methods._augmentation import changed
from zsad.methods._mosaics import anomalous_partners


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def marked():
    """A picture with a bright rectangle, and the rectangle as its mask."""
    pixels = np.random.default_rng(0).integers(40, 120, (60, 80, 3)).astype(np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:60] = True
    pixels[mask] = 250
    return Image.fromarray(pixels), mask


def test_the_same_generator_changes_an_image_in_the_same_way(marked):
    for seed in range(5):
        first, second = (changed(*marked, seeded(seed)) for _ in range(2))
        assert np.array_equal(np.asarray(first[0]), np.asarray(second[0]))
        assert np.array_equal(first[1], second[1])


def test_each_change_is_made_to_half_of_the_images(marked):
    image, mask = marked
    same_mask = same = 0
    for seed in range(200):
        other, moved = changed(image, mask, seeded(seed))
        assert other.mode == "RGB" and moved.shape == (other.height, other.width)
        assert {other.size} <= {(80, 60), (60, 80)}
        same_mask += moved.shape == mask.shape and np.array_equal(moved, mask)
        same += other.size == image.size and np.array_equal(np.asarray(other), np.asarray(image))
    assert 40 < same_mask < 90  # not turned: (1/2) (1/2 + 1/2 1/4) = 62 of 200 in the mean
    assert same < 20  # nothing at all: 8 in the mean


def test_the_mask_goes_where_the_defect_goes(marked):
    image, mask = marked
    for degrees in (-30.0, 10.0, 30.0):
        turned, moved = augmentation._turned(image, mask, degrees)
        bright = np.asarray(turned).mean(axis=2) > 180
        assert (bright == moved).mean() > 0.97
        assert not np.array_equal(moved, mask)
    turned, moved = augmentation._turned(image, mask, 0.0)
    assert np.array_equal(np.asarray(turned), np.asarray(image)) and np.array_equal(moved, mask)


def test_a_quarter_turn_is_anticlockwise():
    pixels = np.zeros((31, 31, 3), np.uint8)
    pixels[15, 28] = 200  # right of the middle
    turned, _ = augmentation._turned(Image.fromarray(pixels), pixels[..., 0] > 0, 90.0)
    assert np.unravel_index(np.asarray(turned)[..., 0].argmax(), (31, 31)) == (2, 15)


def test_what_comes_from_outside_is_mirrored_at_the_border_pixel():
    pixels = np.repeat(np.arange(0, 250, 25, dtype=np.uint8)[None, :, None], 10, axis=0)
    image = Image.fromarray(np.repeat(pixels, 3, axis=2))
    grid = augmentation._turning_grid(10, 10, 45.0)[0]
    assert grid.abs().max() > 1.2  # corners lie outside
    turned, _ = augmentation._turned(image, np.zeros((10, 10), bool), 45.0)
    across = (grid[..., 0].double() + 1) * 4.5
    mirrored = across.abs()
    mirrored = torch.where(mirrored > 9, 18 - mirrored, mirrored)
    np.testing.assert_allclose(np.asarray(turned)[..., 0], 25 * mirrored, atol=1)


@pytest.mark.parametrize(
    "change", [augmentation._blurred, augmentation._softened, augmentation._jittered]
)
def test_a_recoloured_image_keeps_its_size_and_changes(marked, change):
    image, _ = marked
    other = change(image, seeded(1))
    assert other.mode == "RGB" and other.size == image.size
    assert not np.array_equal(np.asarray(other), np.asarray(image))


def test_anomalous_partners_stand_for_normal_ones():
    images = torch.arange(10.0)[:, None, None, None].expand(10, 3, 2, 2)
    masks = torch.zeros(10, 2, 2, dtype=torch.bool)
    masks[[3, 5], 0, 0] = True  # of the first image's partners 2..5, and none of the second's 6..9
    changed_images, changed_masks = anomalous_partners(images, masks)
    assert changed_images[:, 0, 0, 0].tolist() == [0, 1, 3, 5, 3, 5, 6, 7, 8, 9]
    assert changed_masks.flatten(1).any(dim=1).tolist() == [False] * 2 + [True] * 4 + [False] * 4
