"""AnomalyCLIP Ensemble: is FAPrompt better than ten AnomalyCLIPs, or than ten of its prompts?

Both are baselines of the FAPrompt paper (section 4.2), whose code is not released. `seeds`
("Ensemble"): as many models as FAPrompt has abnormal prompts, differing in their initial weights;
how the paper joins them is not said, here scores and maps are averaged. `prompts` ("Ensemble*"):
one model with as many abnormal prompts, each with all tokens of its own, kept apart by FAPrompt's
orthogonality loss; unlike FAPrompt's they do not continue the normal prompt.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..bench.backbone import Backbone, TokenSpec
from ..bench.method import Options, Prediction, Query, Schedule, TrainableMethod
from ..bench.options import Positive
from .anomalyclip import AnomalyClip, AnomalyClipOptions

MEMBERS = 10  # FAPrompt's K
OVERLAP_WEIGHT = 2.0  # FAPrompt's sum over ordered pairs has weight 1


@dataclass(frozen=True)
class EnsembleOptions(AnomalyClipOptions):
    """What can be asked of the ensemble: all of AnomalyCLIP's options, and the number of models.

    Attributes:
        n_members: models; their gradients are independent, so that they learn as if alone, though
            all from the same batches.
    """

    n_members: Positive = MEMBERS


class AnomalyClipEnsemble(TrainableMethod):
    """Several AnomalyCLIPs on one visual forward, averaged."""

    title = "AnomalyCLIP Ensemble"
    in_benchmark = False
    sigma = AnomalyClip.sigma
    class_aware = False
    variants: ClassVar[Mapping[str, Options]] = {
        "seeds": EnsembleOptions(),
        "prompts": EnsembleOptions(n_members=1, n_prompts=MEMBERS, overlap_weight=OVERLAP_WEIGHT),
    }
    default_variant = "seeds"
    mean_over_images = True
    options: EnsembleOptions

    def __init__(self, backbone: Backbone, options: EnsembleOptions | None = None) -> None:
        super().__init__(backbone, options)
        own = {f.name: getattr(self.options, f.name) for f in fields(AnomalyClipOptions)}
        self.members = nn.ModuleList(
            AnomalyClip(backbone, AnomalyClipOptions(**own)) for _ in range(self.options.n_members)
        )

    @property
    def models(self) -> list[AnomalyClip]:
        """The members."""
        return [member for member in self.members if isinstance(member, AnomalyClip)]

    @property
    def prompts(self) -> list[str]:
        """AnomalyCLIP's."""
        return self.models[0].prompts

    @property
    def token_specs(self) -> frozenset[TokenSpec]:
        """AnomalyCLIP's."""
        return self.models[0].token_specs

    @property
    def schedule(self) -> Schedule:
        """AnomalyCLIP's."""
        return self.models[0].schedule

    def predict(self, query: Query) -> Prediction:
        """Means of the members' scores and maps; the Gaussian commutes with the mean."""
        answers = [model.predict(query) for model in self.models]
        scores = [answer.scores for answer in answers if answer.scores is not None]
        maps = [answer.maps for answer in answers if answer.maps is not None]
        return Prediction(torch.stack(scores).mean(dim=0), torch.stack(maps).mean(dim=0))

    def loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Means of the members' terms, and under "total" their sum."""
        losses = [model.loss(query, labels, masks) for model in self.models]
        terms = {
            name: torch.stack([loss[name] for loss in losses]).mean(dim=0)
            for name in losses[0]
            if name != "total"
        }
        return {**terms, "total": torch.stack([loss["total"] for loss in losses]).sum()}
