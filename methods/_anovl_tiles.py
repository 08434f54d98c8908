"""AnoVL's `vis_test.py`, with which its authors tested on VisA: two square tiles of an image.

The image keeps its aspect: its shorter side is resized to a tile's, and the tiles are the squares
at both ends of the longer side, which overlap. Scores are means over the tiles; maps, and the loss
of the adaptation, are taken where the tiles are joined.

Axes: B images, L patch tokens of a tile, D embedding, S side of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..bench.anomaly_maps import state_similarity, upsample
from ..bench.backbone import Backbone, TokenSpec, VisualFeatures
from ..bench.errors import DataError
from ..bench.preprocess import Preprocess


@dataclass(frozen=True)
class TwoTiles(Preprocess):
    """Images on a canvas [3, 2 S, 2 S] that the backbone reads as two tiles.

    The canvas is as large as the longest image that two tiles cover, and NaN where there is no
    image, so that images of several sizes make one batch and each tells how its tiles lie.
    """

    def __call__(self, image: Image.Image) -> Tensor:
        """An RGB image of any size -> canvas [3, 2 S, 2 S] float32, the image at its top left.

        Raises:
            DataError: the image is so long that its two tiles do not meet.
        """
        side = self.image_size
        down, right = second_tile((image.height, image.width), side)
        canvas = torch.full((3, 2 * side, 2 * side), torch.nan)
        canvas[:, : side + down, : side + right] = self.normalised(
            image, (side + down, side + right)
        )
        return canvas

    def encode(
        self, backbone: Backbone, images: Tensor, specs: Iterable[TokenSpec]
    ) -> VisualFeatures:
        """Both tiles: class tokens [B, 2, D], patch tokens [B, 2 L, D], the grid of one tile."""
        side = self.image_size
        tiles = [
            tile
            for canvas in images
            for down, right in [tile_offset(canvas)]
            for tile in (
                canvas[:, :side, :side],
                canvas[:, down : down + side, right : right + side],
            )
        ]
        features = backbone.encode_image(torch.stack(tiles), specs)
        return VisualFeatures(
            features.class_token.reshape(len(images), 2, -1),
            features.class_token_no_ln.reshape(len(images), 2, -1),
            {
                spec: tokens.reshape(len(images), -1, tokens.shape[-1])
                for spec, tokens in features.tokens.items()
            },
            features.grid,
        )

    def picture(self, pixels: Tensor) -> NDArray[np.uint8]:
        """The RGB picture [H, W, 3] without the empty part of its canvas."""
        down, right = tile_offset(pixels)
        return super().picture(pixels[:, : self.image_size + down, : self.image_size + right])


def second_tile(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Where the second of two square tiles begins (rows down, columns right); the first at 0, 0.

    Args:
        size: (height, width) of the image as it was read.
        side: of a tile; the image's shorter side is resized to it, the longer one in proportion and
            rounded down (torchvision's Resize).

    Raises:
        DataError: the image is so long that the tiles do not meet.
    """
    height, width = size
    beyond = side * max(size) // min(size) - side
    if beyond > side:
        raise DataError(
            f"an image of {width} x {height} px is more than twice as long as it is wide: two "
            "square tiles leave a gap between them; choose a variant that squashes images"
        )
    return (beyond, 0) if height > width else (0, beyond)


def tile_offset(canvas: Tensor) -> tuple[int, int]:
    """Where the second tile begins (rows down, columns right) on a canvas [3, 2 S, 2 S]."""
    side = canvas.shape[-1] // 2
    there = ~canvas[0].isnan()
    return int(there[:, 0].sum()) - side, int(there[0].sum()) - side


def join_tiles(tiles: Tensor, second: tuple[int, int]) -> Tensor:
    """Two tiles of each image put together; where they overlap, their mean.

    Args:
        tiles: [B, 2, C, S, S].
        second: (rows down, columns right) of the second tile.

    Returns:
        [B, C, S + rows, S + columns].
    """
    down, right = second
    both = F.pad(tiles[:, 0], (0, right, 0, down)) + F.pad(tiles[:, 1], (right, 0, down, 0))
    count = torch.zeros_like(both[:1, :1])
    count[..., : tiles.shape[-2], : tiles.shape[-1]] += 1
    count[..., down:, right:] += 1
    return both / count


def tile_scores(class_tokens: Tensor, states: Tensor) -> Tensor:
    """[B] mean abnormal probability of the class tokens [B, 2, D], given states [B, 2, D]."""
    return state_similarity(class_tokens, states).softmax(dim=-1)[..., 1].mean(dim=1)


@dataclass(frozen=True)
class Joint:
    """How the tiles of some images of a batch join, which have one size.

    Attributes:
        chosen: which images of the batch.
        second: where the second tile begins (rows down, columns right).
        grid: rows and columns of a tile's patches.
        side: S.
    """

    chosen: list[int]
    second: tuple[int, int]
    grid: tuple[int, int]
    side: int

    def probabilities(self, similarity: Tensor) -> Tensor:
        """Of the joined tiles' pixels, [B, pixels, 2].

        Args:
            similarity: [B, 2 L, 2] of patches, enlarged and joined before it becomes probabilities.
        """
        patches = similarity.reshape(-1, self.grid[0] * self.grid[1], 2)
        tiles = upsample(patches, self.grid, self.side, align_corners=True)
        joined = join_tiles(tiles.reshape(-1, 2, *tiles.shape[1:]), self.second)  # [B, 2, H, W]
        return joined.softmax(dim=1).flatten(2).transpose(1, 2)

    def square(self, tiles: Tensor) -> Tensor:
        """Maps of tiles [2 B, S, S] -> joined maps, squashed to [B, S, S]."""
        joined = join_tiles(tiles.reshape(-1, 2, 1, self.side, self.side), self.second)
        return F.interpolate(joined, (self.side, self.side), mode="bilinear")[:, 0]


def joints(images: Tensor, grid: tuple[int, int]) -> Iterator[Joint]:
    """The images of a batch [B, 3, 2 S, 2 S], those of one size together."""
    offsets = [tile_offset(image) for image in images]
    for second in dict.fromkeys(offsets):
        chosen = [i for i, other in enumerate(offsets) if other == second]
        yield Joint(chosen, second, grid, images.shape[-1] // 2)


MapsOf = Callable[[Joint], Tensor]


def joined_maps(images: Tensor, grid: tuple[int, int], maps_of: MapsOf) -> Tensor:
    """[B, S, S] joined from the maps of tiles [2 n, S, S] that `maps_of` gives for n images."""
    joined: dict[int, Tensor] = {}
    for joint in joints(images, grid):
        joined |= zip(joint.chosen, joint.square(maps_of(joint)), strict=True)
    return torch.stack([joined[i] for i in range(len(images))])
