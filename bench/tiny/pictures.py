"""The pictures that the built-in backbone learns from: pairs without and with a defect."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..backbone import OPENAI_MEAN, OPENAI_STD
from .captions import KINDS, STATES

drawings = importlib.import_module("...datasets._synthetic", __package__)


@dataclass(frozen=True)
class Pictures:
    """Pairs of a normal picture and the same with a defect.

    Attributes:
        pixels: [N, 2, S, S, 3] uint8, normal first.
        covered: [N, G, G] share of each patch that the defect covers.
        classes: [N].
        states: [N] index into `STATES` of the defect.
    """

    pixels: NDArray[np.uint8]
    covered: NDArray[np.float32]
    classes: NDArray[np.int64]
    states: NDArray[np.int64]


def draw_pictures(
    count: int,
    seed: int,
    kinds: Any,
    patch: int,
    varied: float = 0.5,
    defects: Sequence[str] = KINDS,
) -> Pictures:
    """Draw `count` pairs of random classes and defects; the state of other defects is -1."""
    random = np.random.default_rng(seed)
    size = drawings.SIZE
    grid = size // patch
    pixels = np.empty((count, 2, size, size, 3), np.uint8)
    covered = np.empty((count, grid, grid), np.float32)
    classes, states = random.integers(len(kinds), size=count), np.empty(count, np.int64)
    for i, number in enumerate(classes):
        defect = defects[int(random.integers(len(defects)))]
        drawing = drawings.draw(kinds[number], defect, random, size, varied)
        pixels[i] = drawing.normal, drawing.anomalous
        covered[i] = drawing.mask.reshape(grid, patch, grid, patch).mean((1, 3))
        states[i] = STATES.index(defect) if defect in STATES else -1
    return Pictures(pixels, covered, classes, states)


def normalised(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """uint8 pictures [B, S, S, 3] as the backbone takes them, [B, 3, S, S]."""
    images = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (
        torch.tensor(values, device=device)[:, None, None] for values in (OPENAI_MEAN, OPENAI_STD)
    )
    return (images - mean) / std
