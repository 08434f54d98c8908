"""MuSc: normal patches find their like in many other images of the category, anomalous ones do not.

Li et al., "MuSc: Zero-Shot Industrial Anomaly Classification and Segmentation with Mutual Scoring
of the Unlabeled Images", ICLR 2024, and the released code (xrli-U/MuSc). Nothing is learned and no
text is read: all test images of a category score each other, so an image alone has no score.
*LNAMD* averages patch tokens over neighbourhoods; *MSM* gives each patch the mean distance to the
nearest patches of the images that are nearest to it; *RsCIN* smooths image scores over similar
images.

Variant `official` is the released code, which runs OpenAI's weights with plain GELU and positions
by bicubic interpolation without antialiasing; `official_visa` has the windows that it takes for
VisA; `paper` reads raw tokens where nothing is averaged, as the first release did. `fixed`, the
default, runs the backbone's own activation, has one rule for all datasets and sizes of categories,
and scores large categories in parts that are chosen without labels. `shared` is `fixed` on the
visual forward of the other methods.

Axes: N images that score each other, L patch tokens, D width of the visual tower.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.anomaly_maps import smooth, upsample
from ..bench.backbone import Backbone, BackboneSpec, PosEmbed, TokenSpec
from ..bench.category import Observed
from ..bench.errors import UsageError
from ..bench.method import ExtraWork, Method, Options, Prediction, Query, Track
from ..bench.scratch import Scratch

TILE_BYTES = 64 << 20  # of the similarities that are held at once


@dataclass(frozen=True)
class MuScOptions(Options):
    """What can be asked of MuSc.

    Attributes:
        layers: blocks of 24 whose patch tokens are compared.
        degrees: sides of the neighbourhoods that tokens are averaged over, odd.
        normalise_degree_one: tokens are layer-normalised for degree 1, too.
        share: of the other images, the nearest, whose distances are averaged.
        windows: numbers of similar images that image scores are averaged over, itself included.
        max_images: larger categories are scored in parts of at most so many images; 0: no limit.
        small_categories: at least one image is near, and windows end at the number of images; else
            a category that is too small is refused.
        view: how the backbone is run: as released, or with its own activation, or as by others.
    """

    layers: Sequence[int] = (6, 12, 18, 24)
    degrees: Sequence[int] = (1, 3, 5)
    normalise_degree_one: bool = True
    share: float = 0.3
    windows: Sequence[int] = (1, 2, 3)
    max_images: int = 200
    small_categories: bool = True
    view: Literal["released", "own", "shared"] = "own"


FIXED = MuScOptions()
OFFICIAL = replace(FIXED, max_images=0, small_categories=False, view="released")
PLAIN: PosEmbed = "bicubic_plain"


class MuSc(Method):
    """Mutual scoring of the unlabelled test images of a category."""

    title = "MuSc"
    track = Track.TRANSDUCTIVE
    backbone_spec = BackboneSpec(pos_embed=PLAIN)
    class_aware = False
    needs_keys = True
    in_benchmark = False
    variants: ClassVar[Mapping[str, Options]] = {
        "official": OFFICIAL,
        "official_visa": replace(OFFICIAL, windows=(1, 8, 9)),
        "paper": replace(OFFICIAL, normalise_degree_one=False),
        "fixed": FIXED,
        "shared": replace(FIXED, view="shared"),
    }
    default_variant = "fixed"
    options: MuScOptions

    def __init__(self, backbone: Backbone, options: Options | None = None) -> None:
        super().__init__(backbone, options)
        if self.options.max_images == 1 or not all(d % 2 for d in self.options.degrees):
            raise UsageError("degrees of MuSc are odd, and max-images is 0 or at least 2")
        if self.options.view == "released":
            self.backbone = backbone.view("gelu", PLAIN)
        elif self.options.view == "shared":
            self.backbone = backbone.view()
        self.specs = [TokenSpec(self.backbone.layer(layer)) for layer in self.options.layers]
        self._patch_maps: Tensor | None = None  # [N, L] float64
        self._scores = torch.empty(0)  # [N]

    @classmethod
    def extra_work_of(cls, options: Options) -> ExtraWork:
        """What is kept to compare each image with all others."""
        return ExtraWork(
            memory="the patch tokens of all images of a category, on disk beyond a budget, and "
            f"their similarities in tiles of {TILE_BYTES >> 20} MiB"
        )

    def observe(self, images: Observed) -> None:
        """Score all images of the category against each other.

        Raises:
            UsageError: there are too few images; names the variant and how many it needs.
        """
        self._refuse_few(len(images))
        grid = images[0:1].features.grid
        maps = torch.zeros(len(images), math.prod(grid), dtype=torch.float64)
        for part in self.parts(images):
            maps[part] = self._mutual_scores(images, part, grid)
        maps = maps.to(images.class_token.device)
        highest = [self._enlarged(m[None], grid).amax() for m in maps]
        windows = [min(window, len(images)) for window in self.options.windows]
        self._patch_maps = maps
        self._scores = rescored(torch.stack(highest), images.class_token, windows)

    def predict(self, query: Query) -> Prediction:
        """What was found of the images of a batch when the category was observed."""
        if self._patch_maps is None or query.places is None:
            raise UsageError("MuSc has no score for an image alone: let it observe a category")
        places = list(query.places)
        maps = self._enlarged(self._patch_maps[places], query.features.grid)
        return Prediction(self._scores[places], smooth(maps, self.smoothing_sigma))

    def parts(self, images: Observed) -> list[list[int]]:
        """The places of the images that score each other: all, or parts of nearly equal size.

        Images are dealt out in the order of their keys, which says nothing about labels. The
        released code divides by the kind of defect, and so by the truth.
        """
        most = self.options.max_images or len(images)
        count = math.ceil(len(images) / most)
        if count == 1 or images.keys is None:
            return [list(range(len(images)))]
        keys = images.keys
        order = sorted(range(len(images)), key=lambda place: keys[place])
        return [order[first::count] for first in range(count)]

    def _mutual_scores(
        self, images: Observed, part: Sequence[int], grid: tuple[int, int]
    ) -> Tensor:
        """Patch scores [N, L] float64 of the images of a part: means over layers and degrees."""
        count, length = len(part), math.prod(grid)
        nearest = int(self.options.share * (count - 1))
        nearest = max(1, nearest) if self.options.small_categories else nearest
        scratch = Scratch()
        kept = self._room(scratch, count, length, self.backbone.width)
        best = self._room(scratch, count, length, count)
        total = torch.zeros(count, length, dtype=torch.float64)
        for spec in self.specs:
            for degree in self.options.degrees:
                normalise = degree > 1 or self.options.normalise_degree_one
                for row, place in enumerate(part):
                    tokens = images.tokens(spec, slice(place, place + 1))
                    kept[row] = aggregated(tokens, grid, degree, normalise)[0]
                greatest_similarities(kept, best, images.check)
                total += nearest_distances(best, nearest).cpu()
        return total / (len(self.specs) * len(self.options.degrees))

    def _room(self, scratch: Scratch, *shape: int) -> Tensor:
        """Zeros on the backbone's device; on the CPU within a budget of memory."""
        device, dtype = self.backbone.device, self.backbone.dtype
        if device.type == "cpu":
            return scratch.zeros(shape, dtype)
        return torch.zeros(shape, dtype=dtype, device=device)

    def _enlarged(self, patch_maps: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patch maps [N, L] at the map size."""
        return upsample(patch_maps, grid, self.map_size, align_corners=True)

    def _refuse_few(self, count: int) -> None:
        least = 2
        if not self.options.small_categories:
            near = math.ceil(1 / self.options.share - 1e-9) + 1
            least = max(near, *self.options.windows)
        if count < least:
            raise UsageError(
                f"variant '{self.variant}' of MuSc scores images against each other and needs at "
                f"least {least} of a category, not {count}: give more images"
            )


def aggregated(tokens: Tensor, grid: tuple[int, int], degree: int, normalise: bool) -> Tensor:
    """LNAMD: patch tokens [N, L, D] averaged over neighbourhoods, of unit length.

    Each image's tokens are layer-normalised over patches and width together. At the border absent
    neighbours count as zeros.
    """
    if normalise:
        tokens = F.layer_norm(tokens, tokens.shape[1:])
    if degree > 1:
        square = tokens.transpose(1, 2).reshape(len(tokens), -1, *grid)
        means = F.avg_pool2d(square, degree, stride=1, padding=(degree - 1) // 2)
        tokens = means.flatten(2).transpose(1, 2)
    return F.normalize(tokens, dim=-1)


def greatest_similarities(tokens: Tensor, best: Tensor, check: Callable[[], None]) -> None:
    """Write into `best` how similar each patch is to the most similar one of each other image.

    Every pair of images is multiplied once, for both of them, in tiles that hold `TILE_BYTES`.

    Args:
        tokens: [N, L, D] of unit length.
        best: [N, L, N]; [i, m, j] is the greatest cosine of patch m of image i with a patch of j.
            Of an image with itself it is -1.
        check: called before each image, to stop work that is no longer wanted.
    """
    count, length, _ = tokens.shape
    step = max(1, TILE_BYTES // (length * length * tokens.element_size()))
    for i in range(count):
        check()
        best[i, :, i] = -1
        for start in range(i + 1, count, step):
            others = tokens[start : start + step]
            similarity = (tokens[i] @ others.flatten(0, 1).T).reshape(length, len(others), length)
            best[i, :, start : start + len(others)] = similarity.amax(dim=2)
            best[start : start + len(others), :, i] = similarity.amax(dim=0)


def nearest_distances(best: Tensor, nearest: int) -> Tensor:
    """MSM: mean distance [N, L] of each patch to the `nearest` images that are nearest to it.

    Args:
        best: [N, L, N] as `greatest_similarities` writes it.
        nearest: of the others, at least 1.
    """
    rows = [
        (2 - 2 * row.topk(nearest, dim=1).values).clamp(min=0).sqrt().mean(dim=1) for row in best
    ]
    return torch.stack(rows)


def rescored(scores: Tensor, class_tokens: Tensor, windows: Sequence[int]) -> Tensor:
    """RsCIN: image scores [N], scaled to 0..1 and averaged over the most similar images.

    Args:
        scores: [N]; equal ones are all 0.
        class_tokens: [N, D].
        windows: how many of the most similar images, the image itself among them, are averaged,
            weighted by their cosines; the answer is the mean over windows.
    """
    low, high = scores.aminmax()
    scaled = ((scores - low) / (high - low)).float() if high > low else torch.zeros_like(scores)
    unit = F.normalize(class_tokens, dim=-1)
    similarity = unit @ unit.T
    found = []
    for window in windows:
        weights, images = similarity.topk(window, dim=1)
        weights = weights / weights.sum(dim=1, keepdim=True)
        found.append((weights * scaled.to(weights.dtype)[images]).sum(dim=1))
    return torch.stack(found).mean(dim=0)
