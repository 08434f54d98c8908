"""PatchCore, full-shot, through anomalib: distances to a coreset of normal patches.

Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022. A reference of what
all normal images of a category make possible, not a zero-shot method.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from ..bench.method import ExtraWork, Options
from ._anomalib import FullShotMethod, FullShotOptions

if TYPE_CHECKING:
    from ..bench.category import Observed

LAYERS = ("layer2", "layer3")
BATCH = 8


@dataclass(frozen=True)
class PatchCoreOptions(FullShotOptions):
    """Options of PatchCore.

    Attributes:
        coreset: share of the normal patches that is remembered.
        neighbours: of the nearest remembered patch, which weigh the image's score; 1: no weight.
    """

    coreset: float = 0.1
    neighbours: int = 9


class PatchCore(FullShotMethod):
    """Nearest neighbours among the features of normal patches."""

    title = "PatchCore"
    frozen = "feature_extractor"
    variants: ClassVar[Mapping[str, Options]] = {"anomalib": PatchCoreOptions()}
    options: PatchCoreOptions

    @classmethod
    def extra_work_of(cls, options: Options) -> ExtraWork:
        """What is remembered."""
        assert isinstance(options, PatchCoreOptions)
        share = f"{100 * options.coreset:g} %"
        return ExtraWork(memory=f"the features of {share} of the category's normal patches")

    def make_network(self) -> Any:
        """See `FullShotMethod`."""
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        chosen = self.options
        network = PatchcoreModel(LAYERS, chosen.network, chosen.pre_trained, chosen.neighbours)
        network.anomaly_map_generator.blur = nn.Identity()
        network.euclidean_dist = distances
        return network.requires_grad_(False)

    def learn(self, images: Tensor, observed: Observed) -> None:
        """See `FullShotMethod`."""
        self.network.train()
        self.network.embedding_store.clear()
        for batch in torch.split(images, BATCH):
            observed.check()
            self.network(self.to_device(batch))
        # anomalib draws a bar for each category, and warns of a default of its own
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.network.subsample_embedding(self.options.coreset)

    def scores(self, answer: Any, maps: Tensor) -> Tensor:
        """The distance of the farthest patch, weighed by the neighbours of its nearest."""
        scores: Tensor = answer.pred_score
        return scores


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distances [.., N, M] of features [.., N, D] and [.., M, D].

    In double precision: by products in single, equal patches, as on a black ground, are as far
    apart as rounding says, which depends on the batch.
    """
    exact = torch.cdist(first.double(), second.double(), compute_mode="use_mm_for_euclid_dist")
    return exact.to(first.dtype)
