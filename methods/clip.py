"""CLIP: is an image, or a patch, closer to "a normal bottle" or to "an anomalous bottle"?

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021,
used for anomaly detection as in AnomalyCLIP's comparison (Zhou et al., ICLR 2024): two prompts, no
change on the vision side. CLIP's own patch tokens are inverted, so pixel-level AUROC below 0.5 is
what has to come out. The authors left smoothing, layers and ln_post open; each is an option.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..bench.anomaly_maps import state_probabilities, upsample_smoothed
from ..bench.backbone import Backbone, TokenSpec
from ..bench.method import Method, Options, Prediction, Query
from ..bench.prompts import PromptEnsemble
from ._prompts import CLIP_ABNORMAL, CLIP_NORMAL, CLIP_TEMPLATES

LAST = 24  # of ViT-L/14's 24 blocks


@dataclass(frozen=True)
class ClipOptions(Options):
    """Options of CLIP.

    Attributes:
        temperature: divides the cosine similarity; no AUROC depends on it.
        layers: blocks (of 24) whose maps are added.
        class_token_ln: ln_post on the class token, as CLIP has it.
    """

    temperature: float = 0.07
    layers: tuple[int, ...] = (LAST,)
    class_token_ln: bool = True


class Clip(Method):
    """Two prompts against the class token and the patch tokens of the ordinary path."""

    title = "CLIP"
    sigma = 4.0
    variants: ClassVar[Mapping[str, Options]] = {
        "official": ClipOptions(),
        "paper": ClipOptions(),
    }
    options: ClipOptions

    def __init__(self, backbone: Backbone, options: Options | None = None) -> None:
        super().__init__(backbone, options)
        self.text = self.ensemble()
        self.specs = [TokenSpec(self.backbone.layer(layer)) for layer in self.options.layers]

    def ensemble(self) -> PromptEnsemble:
        """The prompts of either state; with these AnomalyCLIP's issue 76 gets the printed row."""
        return PromptEnsemble(self.backbone, CLIP_TEMPLATES, CLIP_NORMAL, CLIP_ABNORMAL, True)

    @property
    def prompts(self) -> list[str]:
        """Those of `ensemble`."""
        return self.text.prompts()

    def predict(self, query: Query) -> Prediction:
        """Class token against the prompts for the score, patch tokens for the map."""
        features, temperature = query.features, self.options.temperature
        text = self.text(query.class_names)  # [B, 2, D]
        ln = self.options.class_token_ln
        token = features.class_token if ln else features.class_token_no_ln
        scores = state_probabilities(token, text, temperature)[:, 1]
        patches = torch.stack(
            [
                state_probabilities(self.backbone.project(features.tokens[s]), text, temperature)
                for s in self.specs
            ]
        ).sum(dim=0)  # [B, L, 2]
        grid, size, sigma = features.grid, self.map_size, self.smoothing_sigma
        return Prediction(scores, upsample_smoothed(patches[..., 1], grid, size, sigma))
