"""The V-V patch tokens that AnomalyCLIP reads and that its successors read with it."""

from __future__ import annotations

from collections.abc import Sequence

from ..bench.backbone import Backbone, TokenSpec

VALUE_FROM = 6  # of 24: V-V attention in blocks 6..24 (DPAM_layer=20 in the released code)


def value_specs(backbone: Backbone, layers: Sequence[int] = (24,)) -> tuple[TokenSpec, ...]:
    """V-V tokens after these layers of 24, in their order."""
    start = backbone.layer(VALUE_FROM)
    return tuple(TokenSpec(backbone.layer(layer), start) for layer in layers)
