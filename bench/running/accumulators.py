"""What is gathered about a category while its images are scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from ..method import Prediction, Query
from ..metrics import PixelAccumulator
from .prepared_method import PreparedMethod


@dataclass
class Accumulators:
    """What is gathered about one prepared method while its category runs."""

    prepared: PreparedMethod
    pixels: PixelAccumulator
    scores: list[Tensor] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)
    prompts: list[Tensor] = field(default_factory=list)
    single: tuple[Query, Prediction] | None = None  # a first batch of one image, to be examined
    has_maps: bool = False
    seconds_forward: float = 0.0
    seconds_predict: float = 0.0


@dataclass
class Targets:
    """Labels and names of a category's images, in order."""

    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    masks: list[np.ndarray[Any, Any]] = field(default_factory=list)
    regions_lost: int = 0
    warnings: list[str] = field(default_factory=list)
