"""Recorded cases: the answers of released implementations, and what they were asked.

Fixtures: `golden_24l` and `golden_b16` are backbones with weights drawn by name, `golden_inputs`
the pictures, `recorded(name)` the arrays of tests/golden/NAME.npz, `fill_by_name(module)` gives a
learner its weights.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from zsad.bench.backbone import Backbone
from zsad.bench.registry import method_class
from zsad.bench.weights import random_backbone

GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class GoldenInputs:
    """Three pictures of 500 x 600 px, the first and the last with a rectangular defect."""

    images: list[NDArray[np.uint8]]  # each [H, W, 3]
    masks: NDArray[np.bool_]  # [3, H, W]
    labels: list[int]


@pytest.fixture(scope="session", autouse=True)
def hashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Hashes of files are remembered for this session only."""
    folder = tmp_path_factory.mktemp("hashes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZSAD_HASHES", str(folder))
        yield folder


def _named_weights() -> ModuleType:
    name = "zsad_test_named_weights"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, GOLDEN / "named_weights.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def _golden_backbone(name: str) -> Backbone:
    settings = json.loads((GOLDEN / f"{name}.json").read_text())
    backbone = random_backbone(settings, name)
    _named_weights().fill(backbone.model)
    backbone.weights_sha256 = _named_weights().digest(backbone.model)
    return backbone


@pytest.fixture(scope="session")
def golden_24l() -> Backbone:
    """24 visual blocks of small width with ViT-L/14-336's grid, and its full-width text tower."""
    return _golden_backbone("golden-24L")


@pytest.fixture(scope="session")
def golden_b16() -> Backbone:
    """A small ViT-B-16-plus-240."""
    return _golden_backbone("golden-ViT-B-16-plus-240")


@pytest.fixture(scope="session")
def golden_inputs() -> GoldenInputs:
    paths = sorted(GOLDEN.glob("image-*.webp"))
    images = [np.array(Image.open(path).convert("RGB")) for path in paths]
    masks = np.zeros((3, *images[0].shape[:2]), dtype=bool)
    for mask, (top, left, bottom, right) in zip(masks, RECTANGLES, strict=True):
        mask[top:bottom, left:right] = True
    return GoldenInputs(images, masks, [int(mask.any()) for mask in masks])


RECTANGLES = ((140, 90, 250, 230), (0, 0, 0, 0), (300, 380, 430, 520))


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], Mapping[str, NDArray]]:
    """Recorded arrays by file name: `recorded("winclip")["image_score"]`."""

    def read(name: str) -> Mapping[str, NDArray]:
        with np.load(GOLDEN / f"{name}.npz") as file:
            return {key: file[key] for key in file.files}

    return read


@pytest.fixture(scope="session")
def fill_by_name() -> Callable:
    """Gives a module, or a state dict, weights that depend on names and shapes only."""
    return _named_weights().fill


@pytest.fixture
def trees() -> ModuleType:
    """The builders of tests/datasets/trees.py."""
    name = "zsad_test_trees"
    if name not in sys.modules:
        path = Path(__file__).parent / "datasets" / "trees.py"
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def small_options() -> Callable[[str], Mapping[str, Any]]:
    """Options with which a method can be built here; of a method that downloads no weights none.

    The others get a small network without weights. Skips where a package is not installed.
    """
    small = {"network": "resnet18", "pre_trained": False, "image_size": 64, "epochs": 1}

    def options_of(name: str) -> Mapping[str, Any]:
        cls = method_class(name)
        if cls.package is not None and cls.package.is_missing:
            pytest.skip(f"needs {cls.package.advice}")
        known = {field.name for field in dataclasses.fields(cls.variants[cls.default_variant])}
        if "pre_trained" not in known:
            return {}
        return {option: value for option, value in small.items() if option in known}

    return options_of
