"""How a backbone is named and run: what methods ask for, and what a machine can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from .errors import UsageError

Activation = Literal["own", "gelu", "quick_gelu"]
PosEmbed = Literal["bilinear", "bicubic", "bicubic_plain"]
Precision = Literal["fp64", "fp32", "tf32", "fp16", "bf16"]

PRECISIONS: Mapping[str, torch.dtype] = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
BUILT_IN = "tiny"
RANDOM = "random"
TINY = Path(__file__).parent / "tiny"
BUILT_IN_WEIGHTS = TINY / "tiny.safetensors"


@dataclass(frozen=True)
class BackboneSpec:
    """The backbone that a method was published with, and how it was run.

    Attributes:
        name: open_clip model name.
        pretrained: open_clip pretrained tag; "" is the name's default.
        image_size: square input in pixels.
        activation: "own" is what the weights were trained with; other values override it.
        pos_embed: how the positional grid is resized: "bilinear" (align_corners False, no
            antialias: AnomalyCLIP's library), "bicubic" (antialiased, which is another kernel even
            where the grid grows: open_clip) or "bicubic_plain" (not antialiased: AdaCLIP).
    """

    name: str = "ViT-L-14-336-quickgelu"
    pretrained: str = "openai"
    image_size: int = 518
    activation: Activation = "own"
    pos_embed: PosEmbed = "bilinear"


def check_precision(precision: str, device: str | torch.device) -> None:
    """Refuse a precision that the processors of a device do not have.

    Raises:
        UsageError: names the precision, the device and the fix.
    """
    if precision == "tf32" and torch.device(device).type != "cuda":
        raise UsageError(
            f"precision 'tf32' is of NVIDIA's GPUs, not of device '{device}': take --device cuda, "
            "or --precision fp32 or bf16"
        )


def check_device(device: str | torch.device) -> None:
    """Refuse a CUDA device that this machine does not have.

    Raises:
        UsageError: names the device and what there is.
    """
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"device '{device}' is unknown: take cpu, cuda or cuda:1") from error
    if wanted.type != "cuda":
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (wanted.index or 0) >= count:
        raise UsageError(
            f"device '{device}' is not there, this machine has {count or 'no'} CUDA devices that "
            "torch can use: take --device cpu or auto"
        )
