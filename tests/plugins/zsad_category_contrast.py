"""A plug-in outside of the project: what is rare in a whole category counts as anomalous."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from zsad.bench.anomaly_maps import smooth, upsample
from zsad.bench.backbone import Backbone, TokenSpec
from zsad.bench.category import Observed
from zsad.bench.method import Method, Options, Prediction, Query, Track


class CategoryContrast(Method):
    """Distance of each patch to the category's mean at its place; scores in units of the range."""

    title = "Category contrast"
    track = Track.TRANSDUCTIVE
    class_aware = False

    def __init__(self, backbone: Backbone, options: Options | None = None) -> None:
        super().__init__(backbone, options)
        self._spec = TokenSpec(backbone.depth)
        self._mean = torch.zeros(0)  # [L, D] of the category that was observed last

    @property
    def token_specs(self) -> frozenset[TokenSpec]:
        """Of the last block."""
        return frozenset({self._spec})

    def observe(self, images: Observed) -> None:
        """Take the mean over the category, a few images at a time."""
        sums = [self._patches(batch).double().sum(dim=0) for batch in images.batches()]
        self._mean = torch.stack(sums).sum(dim=0) / len(images)

    def _patches(self, query: Query) -> Tensor:
        projected = self.backbone.project(query.features.tokens[self._spec])
        return F.normalize(projected, dim=-1)

    def predict(self, query: Query) -> Prediction:
        """Maps are final; of the scores only the parts are known yet."""
        distance = 1 - (self._patches(query) * self._mean).sum(dim=-1)  # [B, L]
        maps = upsample(distance.float(), query.features.grid, self.map_size)
        maps = smooth(maps, self.smoothing_sigma)
        return Prediction(None, maps, parts=maps.amax(dim=(1, 2))[:, None])

    def conclude(self, parts: Tensor) -> Tensor:
        """The largest distance of each image, on the scale of the category."""
        largest = parts[:, 0]
        return (largest - largest.min()) / (largest.max() - largest.min() + 1e-8)
