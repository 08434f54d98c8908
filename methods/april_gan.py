"""APRIL-GAN: a linear layer for each of four blocks brings patch tokens to the text features.

Chen et al., "APRIL-GAN: A Zero-/Few-Shot Anomaly Classification and Segmentation Method for CVPR
2023 VAND Workshop Challenge Tracks 1&2", and the released code (ByChelsea/VAND-APRIL-GAN). That
code builds its model for 518 pixels from a configuration without QuickGELU, so that OpenAI's
weights run with plain GELU and bicubic positions: numerically another model than CLIP's, kept here
as published. Variant `shared` runs the backbone as all other methods do; weights learned with one
do not fit the other. The released script trains for 3 epochs with mosaics on MVTec AD and for 15
without on VisA, whose configuration any other auxiliary dataset takes here; variant
`official_mvtec` takes MVTec AD's on all of them.

Axes: B images, L patch tokens, D embedding, S image side, M map side.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..bench.anomaly_maps import smooth, state_maps, state_probabilities
from ..bench.backbone import Backbone, BackboneSpec, TokenSpec
from ..bench.method import Options, Prediction, Query, Schedule
from ..bench.prompt_learner import linear
from ..bench.prompts import PromptEnsemble
from ._losses import dice_loss, enlarged, focal_loss
from ._mosaics import MosaicMethod, MosaicOptions
from ._prompts import APRIL_35, APRIL_ABNORMAL, APRIL_NORMAL

ON_MVTEC: Mapping[str, Any] = {"epochs": 3, "mosaic_rate": 0.2}


@dataclass(frozen=True)
class AprilGanOptions(MosaicOptions):
    """What can be asked of APRIL-GAN; the defaults are those of the released script for VisA.

    Attributes:
        layers: blocks of 24 whose patch tokens are read, one linear layer each.
        temperature: of every softmax.
        shared: run the backbone with its own activation and bilinear positions, so that the visual
            forward of other methods serves this one too.
        epochs, batch_size, lr: of training.
    """

    layers: Sequence[int] = (6, 12, 18, 24)
    temperature: float = 0.01
    shared: bool = False
    epochs: int = 15
    batch_size: int = 8
    lr: float = 1e-3


class AprilGan(MosaicMethod):
    """Linear layers on the patch tokens of four blocks, and a prompt ensemble."""

    title = "APRIL-GAN"
    backbone_spec = BackboneSpec(activation="gelu", pos_embed="bicubic")
    variants: ClassVar[Mapping[str, Options]] = {
        "official": AprilGanOptions(),
        "official_mvtec": AprilGanOptions(**ON_MVTEC),
        "shared": AprilGanOptions(shared=True),
    }
    default_variant = "official"
    auxiliary_options: ClassVar[Mapping[str, Mapping[str, Any]]] = {"mvtec_ad": ON_MVTEC}
    published_parameters = 3_148_800
    official_key = "trainable_linearlayer"
    mean_over_images = True
    options: AprilGanOptions

    def __init__(self, backbone: Backbone, options: AprilGanOptions | None = None) -> None:
        super().__init__(backbone, options)
        chosen = self.options
        if chosen.shared:
            self.backbone = backbone.view()
        self.fc = nn.ModuleList(
            linear(self.backbone.width, self.backbone.embed_dim) for _ in chosen.layers
        )
        self.specs = [TokenSpec(self.backbone.layer(layer)) for layer in chosen.layers]
        self.text = PromptEnsemble(self.backbone, APRIL_35, APRIL_NORMAL, APRIL_ABNORMAL, True)

    @property
    def prompts(self) -> list[str]:
        """7 normal and 5 abnormal states in 35 templates."""
        return self.text.prompts()

    @property
    def schedule(self) -> Schedule:
        """Adam at a constant rate."""
        chosen = self.options
        return Schedule(
            chosen.epochs, chosen.batch_size, chosen.lr, augments=chosen.mosaic_rate > 0
        )

    def _similarities(self, query: Query, text: Tensor) -> list[Tensor]:
        """[B, L, 2] of each layer, which are enlarged and then made probabilities."""
        similarities = []
        for layer, spec in zip(self.fc, self.specs, strict=True):
            patches = F.normalize(layer(query.features.tokens[spec]), dim=-1)  # [B, L, D]
            similarities.append(patches @ text.transpose(1, 2) / self.options.temperature)
        return similarities

    def predict(self, query: Query) -> Prediction:
        """Score from CLIP's class token; map as the sum over layers, in 0..4."""
        text = self.text(query.class_names)  # [B, 2, D]
        scores = state_probabilities(query.features.class_token, text, self.options.temperature)
        grid, size = query.features.grid, self.map_size
        layers = [state_maps(x, grid, size)[:, 1] for x in self._similarities(query, text)]
        maps = torch.stack(layers).sum(dim=0)
        return Prediction(scores[:, 1], smooth(maps, self.smoothing_sigma))

    def loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Focal loss and the abnormal dice loss, summed over layers; image labels are not used."""
        grid, size = query.features.grid, self.map_size
        layers = [
            enlarged(similarity[..., 1] - similarity[..., 0], grid, size, align_corners=True)
            for similarity in self._similarities(query, self.text(query.class_names))
        ]
        maps = [layer.sigmoid() for layer in layers]
        focal = torch.stack([focal_loss(m, masks) for m in maps]).sum()
        dice = torch.stack([dice_loss(m, masks) for m in maps]).sum()
        return {"focal": focal, "dice_abnormal": dice, "total": focal + dice}
