"""From frozen features to learned weights. Names are imported when they are first used."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["Training", "TrainingConfig", "fit", "train", "train_method"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'zsad.bench.training' has no attribute '{name}'")
    return getattr(importlib.import_module(".trainer", __name__), name)
