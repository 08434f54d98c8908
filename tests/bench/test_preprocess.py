"""Images are squashed, or read as two tiles that can be put together again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench.errors import DataError
from zsad.bench.preprocess import Preprocess, join_tiles, second_tile

RANDOM = np.random.default_rng(0)


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("size", "second"),
    [((240, 240), (0, 0)), ((500, 600), (0, 48)), ((600, 500), (48, 0)), ((100, 200), (0, 240))],
)
def test_the_second_tile_ends_where_the_longer_side_does(size, second):
    assert second_tile(size, 240) == second


@pytest.mark.parametrize("size", [(40, 50), (50, 40), (40, 40), (40, 80)])
def test_tiles_put_together_are_the_image(size):
    prepare = Preprocess(40, framing="two_tiles")
    image = noise(*size)
    tiles = prepare(image)
    assert tiles.shape == (2, 3, 40, 40)
    joined = join_tiles(tiles[None], second_tile(size, 40))
    assert joined.shape[-2:] == size
    np.testing.assert_array_equal(prepare.picture(tiles, size), np.asarray(image))


def test_where_tiles_overlap_their_mean_stands():
    tiles = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])[None]
    joined = join_tiles(tiles, (0, 3))
    assert joined[0, 0, 0].tolist() == [0, 0, 0, 0.5, 1, 1, 1]


def test_an_image_too_long_for_two_tiles_is_refused_with_its_size():
    with pytest.raises(DataError, match="100 x 210 px is more than twice as long"):
        Preprocess(40, framing="two_tiles")(noise(210, 100))


def test_a_squashed_picture_is_shown_as_it_was_prepared():
    image = noise(32, 32)
    prepare = Preprocess(32, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    np.testing.assert_array_equal(prepare.picture(prepare(image), (32, 32)), np.asarray(image))
