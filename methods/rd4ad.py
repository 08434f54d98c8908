"""RD4AD, full-shot, through anomalib: a decoder that learns to undo an encoder of normal images.

Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022. A
reference of what all normal images of a category make possible, not a zero-shot method.

Differences from the released code: docs/fidelity.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from ..bench.method import Options
from ._anomalib import FullShotMethod, FullShotOptions

if TYPE_CHECKING:
    from ..bench.category import Observed

LAYERS = ("layer1", "layer2", "layer3")


@dataclass(frozen=True)
class RD4ADOptions(FullShotOptions):
    """Options of RD4AD; the values are the paper's.

    Attributes:
        epochs: over the normal images of a category.
        batch_size: images of a step.
        lr: of Adam.
    """

    epochs: int = 200
    batch_size: int = 16
    lr: float = 0.005


class RD4AD(FullShotMethod):
    """Cosine distances between what a frozen encoder sees and what a decoder gives back."""

    title = "RD4AD"
    frozen = "encoder"
    variants: ClassVar[Mapping[str, Options]] = {"anomalib": RD4ADOptions()}
    options: RD4ADOptions

    def make_network(self) -> Any:
        """See `FullShotMethod`."""
        from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
        from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel

        chosen, size = self.options, self.image_size
        network = ReverseDistillationModel(
            chosen.network, (size, size), LAYERS, AnomalyMapGenerationMode.ADD, chosen.pre_trained
        )
        network.anomaly_map_generator.kernel_size = 1  # pixels: maps are smoothed here
        network.encoder.requires_grad_(False)
        return network

    def learn(self, images: Tensor, observed: Observed) -> None:
        """See `FullShotMethod`; bottleneck and decoder start afresh for each category."""
        from anomalib.models.image.reverse_distillation.loss import ReverseDistillationLoss

        network, loss = self._forgotten(), ReverseDistillationLoss()
        learning = [*network.bottleneck.parameters(), *network.decoder.parameters()]
        optimizer = torch.optim.Adam(learning, self.options.lr, betas=(0.5, 0.999))
        network.train()
        for _ in range(self.options.epochs):
            for chosen in torch.split(torch.randperm(len(images)), self.options.batch_size):
                observed.check()
                with torch.enable_grad():
                    value = loss(*network(self.to_device(images[chosen])))
                    optimizer.zero_grad()
                    value.backward()
                optimizer.step()

    def scores(self, answer: Any, maps: Tensor) -> Tensor:
        """The greatest pixel."""
        return maps.amax(dim=(1, 2))

    def _forgotten(self) -> Any:
        """The network with a bottleneck and a decoder that have learned nothing."""
        from anomalib.models.components.backbone import get_decoder
        from anomalib.models.image.reverse_distillation.components import get_bottleneck_layer

        name, backbone = self.options.network, self.backbone
        self.network.bottleneck = get_bottleneck_layer(name).to(backbone.device, backbone.dtype)
        self.network.decoder = get_decoder(name).to(backbone.device, backbone.dtype)
        return self.network
