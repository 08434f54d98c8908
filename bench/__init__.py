"""The public face of zsad. Names are imported when they are first used, torch with them."""

from __future__ import annotations

import importlib
from typing import Any

PUBLIC = {
    "create": "factory",
    "load_dataset": "registry",
    "load_backbone": "weights",
    "predict_images": "predict",
    "run": "running.runner",
    "load_run": "records.frames",
    "per_image_frame": "records.frames",
    "scores_frame": "analysis.frames",
    "published_frame": "analysis.frames",
}
__all__ = [
    "create",
    "load_backbone",
    "load_dataset",
    "load_run",
    "per_image_frame",
    "predict_images",
    "published_frame",
    "run",
    "scores_frame",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("zsad")
    if name not in PUBLIC:
        raise AttributeError(f"module 'zsad.bench' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
