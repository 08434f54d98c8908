"""WinCLIP+: WinCLIP that is also shown a few normal images, and looks for what they do not have.

Jeong et al., "WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation", CVPR 2023, section
4.3; no code was released. Windows of two sizes and patches of k normal images are remembered
(*reference association*): each window or patch of an image is as anomalous as it is far from the
nearest remembered one. These three maps are averaged, and their mean is joined with what the
language-guided WinCLIP says. It is of the few-shot track: what it is shown are normal training
images of the category, which the harness draws by the seed.

Axes: B images, k normal images, L patch tokens, D embedding.

Differences from the paper: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bench.anomaly_maps import upsample_smoothed
from ..bench.backbone import Backbone, TokenSpec
from ..bench.category import Observed
from ..bench.errors import UsageError
from ..bench.method import Options, Prediction, Query, Track
from .winclip import PATCH_EMBEDDINGS, WINDOW_SIDES, WinClip, WinClipOptions, per_patch

LEAST = 1e-6  # a distance of 0, to itself, has no harmonic mean


@dataclass(frozen=True)
class WinClipFewShotOptions(WinClipOptions):
    """Options of WinCLIP, and k.

    Attributes:
        shots: k, normal images that it is shown; the paper prints 1, 2 and 4.
    """

    shots: int = 4


class WinClipFewShot(WinClip):
    """Language-guided scores, joined with distances to a few normal images."""

    title = "WinCLIP+"
    track = Track.FEW_SHOT
    in_benchmark = False
    variants: ClassVar[Mapping[str, Options]] = {
        "one_shot": WinClipFewShotOptions(templates="22", shots=1),
        "two_shot": WinClipFewShotOptions(templates="22", shots=2),
        "four_shot": WinClipFewShotOptions(templates="22", shots=4),
    }
    default_variant = "four_shot"
    options: WinClipFewShotOptions

    def __init__(self, backbone: Backbone, options: Options | None = None) -> None:
        super().__init__(backbone, options)
        self._remembered: list[Tensor] = []  # of each scale [k * windows or k * L, D], unit length

    @property
    def patches(self) -> TokenSpec:
        """The patch tokens that are remembered: those of the last block."""
        return TokenSpec(self.backbone.depth)

    @property
    def token_specs(self) -> frozenset[TokenSpec]:
        """The patch embeddings, from which windows are cut, and the patch tokens."""
        return frozenset({PATCH_EMBEDDINGS, self.patches})

    def observe(self, images: Observed) -> None:
        """Remember the windows and the patches of the normal images."""
        shown = [self._scales(query, self.windows(query)) for query in images.batches()]
        self._remembered = [torch.cat(scale).flatten(0, 1) for scale in zip(*shown, strict=True)]

    def predict(self, query: Query) -> Prediction:
        """The mean of both scores and of both maps.

        The score of the association is the greatest of its patches.
        """
        if not self._remembered:
            raise UsageError("WinCLIP+ is asked before it was shown normal images")
        windows = self.windows(query)
        scores, guided = self.guided_by_language(query, windows)
        associated = self.association(query, windows)  # [B, L]
        patches = (guided + associated) / 2
        image_scores = (scores + associated.amax(dim=1).to(scores.dtype)) / 2
        grid, size, sigma = query.features.grid, self.map_size, self.smoothing_sigma
        return Prediction(image_scores, upsample_smoothed(patches.float(), grid, size, sigma))

    def association(self, query: Query, windows: list[Tensor]) -> Tensor:
        """Mean [B, L] float64 over the scales of half the cosine distance to what is remembered."""
        scales = zip(self._scales(query, windows), self._remembered, strict=True)
        far = [((1 - (own @ normal.T).amax(dim=-1)) / 2).clamp(min=LEAST) for own, normal in scales]
        grid, (*over_windows, over_patches) = query.features.grid[0], far
        maps = [
            per_patch(distances, grid, side)
            for side, distances in zip(WINDOW_SIDES, over_windows, strict=True)
        ]
        return torch.stack([*maps, over_patches.double()]).mean(dim=0)

    def _scales(self, query: Query, windows: list[Tensor]) -> list[Tensor]:
        """What is compared, of unit length: windows of each size [B, windows, D], and patches."""
        patches = self.backbone.normalise_tokens(query.features.tokens[self.patches])
        return [F.normalize(scale, dim=-1) for scale in (*windows, patches)]
