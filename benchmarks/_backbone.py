"""The backbone of the timings: ViT-L/14's depth and grid, with a visual tower of width 128."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from zsad.bench.backbone import Backbone
from zsad.bench.weights import load_backbone

# 24 + 12 blocks, 37 x 37 patches at 518 px and the text tower of ViT-L/14, so that a CPU can run
# it; only the visual width is 128 instead of 1024.
ARCHITECTURE = {
    "embed_dim": 768,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 336,
        "layers": 24,
        "width": 128,
        "head_width": 64,
        "patch_size": 14,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 768,
        "heads": 12,
        "layers": 12,
    },
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that choose a backbone."""
    parser.add_argument("--backbone", help="open_clip model name (default: the one built here)")
    parser.add_argument("--config", help="open_clip model-config json instead of a name")
    parser.add_argument("--pretrained", default="random", help="tag, checkpoint file, or random")
    parser.add_argument("--device", default="cpu")


def backbone_of(arguments: argparse.Namespace) -> Backbone:
    """The backbone that was asked for."""
    where = {
        "pretrained": arguments.pretrained,
        "device": arguments.device,
        "precision": getattr(arguments, "precision", "fp32"),
    }
    if arguments.backbone or arguments.config:
        return load_backbone(arguments.backbone, config=arguments.config, **where)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "width-128-24L.json"
        path.write_text(json.dumps(ARCHITECTURE))
        return load_backbone(config=path, **where)


def images_with_squares(count: int, side: int = 518) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Noise [N, S, S, 3] uint8, masks [N, S, S] bool, labels 0 and 1 by turns."""
    rng = np.random.default_rng(0)
    images = rng.integers(40, 160, (count, side, side, 3), dtype=np.uint8)
    masks = np.zeros((count, side, side), dtype=bool)
    masks[1::2, side // 4 : side // 2, side // 4 : side // 2] = True
    images[masks] = 250
    return images, masks, [number % 2 for number in range(count)]
