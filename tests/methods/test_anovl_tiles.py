"""Two tiles of an image can be put together again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench.backbone import TokenSpec
from zsad.bench.errors import DataError
from zsad.methods._anovl_tiles import TwoTiles, join_tiles, second_tile, tile_offset

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
    prepare = TwoTiles(40)
    image = noise(*size)
    canvas = prepare(image)
    assert canvas.shape == (3, 80, 80)
    assert tile_offset(canvas) == second_tile(size, 40)
    np.testing.assert_array_equal(prepare.picture(canvas), np.asarray(image))


@pytest.mark.parametrize("size", [(40, 50), (50, 40)])
def test_both_tiles_of_each_image_are_encoded(size, tiny):
    side = tiny.native_size
    prepare = TwoTiles(side)
    canvases = torch.stack([prepare(noise(*size)), prepare(noise(side, side))])
    spec = TokenSpec(tiny.depth)
    found = prepare.encode(tiny, canvases, [spec])
    down, right = second_tile(size, side)
    apart = tiny.encode_image(
        torch.stack(
            [
                canvases[0, :, :side, :side],
                canvases[0, :, down : side + down, right : side + right],
                canvases[1, :, :side, :side],
                canvases[1, :, :side, :side],
            ]
        ),
        [spec],
    )
    assert torch.equal(found.class_token.flatten(0, 1), apart.class_token)
    assert torch.equal(found.tokens[spec].reshape_as(apart.tokens[spec]), apart.tokens[spec])
    assert bool(found.class_token.isfinite().all())


def test_where_tiles_overlap_their_mean_stands():
    tiles = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])[None]
    joined = join_tiles(tiles, (0, 3))
    assert joined[0, 0, 0].tolist() == [0, 0, 0, 0.5, 1, 1, 1]


def test_an_image_too_long_for_two_tiles_is_refused_with_its_size():
    with pytest.raises(DataError, match="100 x 210 px is more than twice as long"):
        TwoTiles(40)(noise(210, 100))
