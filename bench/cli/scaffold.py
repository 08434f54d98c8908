"""`zsad new`: a method or a dataset to start from, which passes the conformance checks at once."""

from __future__ import annotations

import importlib
import keyword
import os
import re
import tomllib
import unicodedata
from pathlib import Path
from typing import Literal

from .. import registry
from ..errors import UsageError
from ..files import write_text
from ..names import display_name, registry_name

Kind = Literal["method", "dataset"]

METHOD = '''"""{title}: say in a sentence what the idea is, and name the paper."""

from __future__ import annotations

import torch
{gap}from {bench}.anomaly_maps import smooth, state_probabilities, upsample
from {bench}.backbone import TokenSpec
from {bench}.method import Method, Prediction, Query
from {bench}.prompts import encode_states

TEMPERATURE = 0.07
NORMAL = "a photo of a flawless {{}}."
ABNORMAL = "a photo of a damaged {{}}."


class {cls}(Method):
    """The greatest patch probability is the anomaly score."""

    title = "{title}"
    sigma = 4.0

    @property
    def token_specs(self) -> frozenset[TokenSpec]:
        """The patch tokens of the last block."""
        return frozenset({{TokenSpec(self.backbone.depth)}})

    def predict(self, query: Query) -> Prediction:
        """Score a batch: compare every patch with a normal and an abnormal prompt."""
        text = torch.stack([self._text(name) for name in query.class_names])  # [B, 2, D]
        tokens = query.features.tokens[TokenSpec(self.backbone.depth)]
        patches = state_probabilities(self.backbone.project(tokens), text, TEMPERATURE)[..., 1]
        maps = smooth(upsample(patches, query.features.grid, self.map_size), self.smoothing_sigma)
        return Prediction(patches.amax(dim=1), maps)

    def _text(self, name: str) -> torch.Tensor:
        """Text features [2, D] of a class name, (normal, abnormal)."""
        return encode_states(self.backbone, [NORMAL.format(name)], [ABNORMAL.format(name)], True)
'''

TRAINABLE = '''"""{title}: say in a sentence what the idea is, and name the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F
{gap}from {bench}.anomaly_maps import smooth, state_probabilities, upsample
from {bench}.backbone import Backbone, TokenSpec
from {bench}.method import Options, Prediction, Query, Schedule, TrainableMethod
from {bench}.prompts import encode_states

NORMAL = "a photo of a flawless {{}}."
ABNORMAL = "a photo of a damaged {{}}."


@dataclass(frozen=True)
class AdapterOptions(Options):
    """What can be asked of the method.

    Attributes:
        temperature: of the softmax over the two states.
        epochs, batch_size, lr: of the training.
    """

    temperature: float = 0.07
    epochs: int = 3
    batch_size: int = 8
    lr: float = 1e-3


class {cls}(TrainableMethod):
    """A learned residual moves the patch tokens towards the right prompt."""

    title = "{title}"
    variants: ClassVar[Mapping[str, Options]] = {{"official": AdapterOptions()}}
    options: AdapterOptions

    def __init__(self, backbone: Backbone, options: AdapterOptions | None = None) -> None:
        super().__init__(backbone, options)
        self.adapter = nn.Linear(backbone.embed_dim, backbone.embed_dim)
        self.text = encode_states(backbone, [self.prompts[0]], [self.prompts[1]], True)  # [2, D]

    @property
    def prompts(self) -> list[str]:
        """The normal and the abnormal prompt."""
        return [NORMAL.format("object"), ABNORMAL.format("object")]

    @property
    def token_specs(self) -> frozenset[TokenSpec]:
        """The patch tokens of the last block."""
        return frozenset({{TokenSpec(self.backbone.depth)}})

    @property
    def schedule(self) -> Schedule:
        """How the adapter is fitted."""
        asked = self.options
        return Schedule(asked.epochs, asked.batch_size, asked.lr)

    def loss(self, query: Query, labels: Tensor, masks: Tensor) -> dict[str, Tensor]:
        """Pixel-wise binary cross entropy."""
        pixel = F.binary_cross_entropy(self._maps(query), masks)
        return {{"pixel": pixel, "total": pixel}}

    def predict(self, query: Query) -> Prediction:
        """Score a batch: the greatest value of an image's map is its score."""
        maps = smooth(self._maps(query), self.smoothing_sigma)
        return Prediction(maps.amax(dim=(1, 2)), maps)

    def _maps(self, query: Query) -> Tensor:
        """Abnormal probabilities [B, S, S] at the map size."""
        patches = self.backbone.project(query.features.tokens[TokenSpec(self.backbone.depth)])
        moved = patches + self.adapter(patches)
        probabilities = state_probabilities(moved, self.text, self.options.temperature)
        return upsample(probabilities[..., 1], query.features.grid, self.map_size)
'''

DATASET = '''"""{title}: where it comes from, and what is special about its files."""

from __future__ import annotations

from {bench}.errors import DataError
from {bench}.sample import Dataset, Sample, Source, Split


class {cls}(Dataset):
    """Normal images in good/, anomalous ones in bad/, masks of equal stem in masks/."""

    name = "{name}"
    title = "{title}"
    domain = "custom"
    has_masks = True
    folders = (name,)
    source = Source(tree=f"{{name}}/good/*.png  {{name}}/bad/*.png  {{name}}/masks/<same name>.png")

    def samples(self, split: Split = "test") -> list[Sample]:
        """All images are test images; there is no train split."""
        if split == "train":
            return []
        masks = {{path.stem: path for path in (self.root / "masks").glob("*.png")}}
        found = []
        for folder, label in (("good", 0), ("bad", 1)):
            for path in sorted((self.root / folder).glob("*.png")):
                mask = masks.get(path.stem) if label else None
                if label and mask is None:
                    raise DataError(f"{{path}} has no mask: expected masks/{{path.stem}}.png")
                found.append(Sample(path, label, self.name, "object", mask, folder))
        if not found:
            raise DataError(f"{{self.root}} has no images: expected {{self.source.tree}}")
        return found
'''

METHOD_TEST = '''"""{title} keeps the contract."""

import pytest
from {bench}.conformance import METHOD_CHECKS
from {bench}.weights import load_backbone
{gap}from {module} import {cls}


@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
def test_{name}_keeps_the_contract(check):
    check({cls}, load_backbone("tiny"))
'''

DATASET_TEST = '''"""{title} keeps the contract."""

import numpy as np
import pytest
from PIL import Image
from {bench}.conformance import DATASET_CHECKS
{gap}from {module} import {cls}


@pytest.fixture
def root(tmp_path):
    for folder in ("good", "bad", "masks"):
        (tmp_path / folder).mkdir()
        for number in range(2):
            picture = np.zeros((32, 32, 1 if folder == "masks" else 3), dtype=np.uint8)
            picture[8:16, 8:16] = 255
            Image.fromarray(picture.squeeze()).save(tmp_path / folder / f"{{number}}.png")
    return tmp_path


@pytest.mark.parametrize("check", DATASET_CHECKS, ids=lambda check: check.__name__)
def test_{name}_keeps_the_contract(check, root):
    check({cls}(root))
'''

PACKAGE = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "zsad-{dashed}"
version = "0.1.0"
description = "{title} for zsad"
requires-python = ">=3.11"
dependencies = ["zsad"]

[project.entry-points."{namespace}.{folder}"]
{name} = "{module}:{cls}"

[tool.setuptools]
py-modules = ["{module}"]
"""


def write(
    kind: Kind,
    name: str,
    package: Path | None = None,
    out: Path | None = None,
    trainable: bool = False,
) -> list[Path]:
    """Write a new method or dataset.

    Args:
        kind: "method" or "dataset".
        name: registry name in lower case; hyphens become underscores.
        package: writes a pip package here that registers by an entry point. Without it and `out`
            the file goes into the checkout's folder, where it is registered by being there.
        out: writes the module alone into this folder, for a package that exists already.
        trainable: the method learns from an auxiliary dataset.

    Returns:
        The files that were written.

    Raises:
        UsageError: the name is taken or cannot be used, a file exists already, or neither
            `package` nor `out` is given outside a checkout.
    """
    stem = _stem(kind, name)
    if package is not None and out is not None:
        raise UsageError("give --package or --out, not both")
    if trainable and kind != "method":
        raise UsageError("--trainable is for methods: a dataset learns nothing")
    folder = registry.FOLDER_OF[kind]
    source, test = (METHOD, METHOD_TEST) if kind == "method" else (DATASET, DATASET_TEST)
    if trainable:
        source = TRAINABLE
    module = f"zsad_{stem}" if package is not None else f"{registry.NAMESPACE}.{folder}.{stem}"
    words = {
        "name": stem,
        "dashed": display_name(stem),
        "title": stem.replace("_", " ").capitalize(),
        "cls": "".join(part.capitalize() for part in stem.split("_")),
        "module": module,
        "namespace": registry.NAMESPACE,
        "folder": folder,
        "bench": f"{registry.NAMESPACE}.bench",
        "gap": "",
    }
    if package is not None:
        files = {
            package / "pyproject.toml": PACKAGE.format(**words),
            package / f"{module}.py": source.format(**words),
            package / "tests" / f"test_{stem}.py": test.format(**{**words, "gap": "\n"}),
        }
    elif out is not None:
        files = {out / f"{stem}.py": source.format(**words)}
    else:
        here = _folder(folder)
        text = source.format(**{**words, "bench": "..bench", "gap": "\n"})
        files = {here / f"{stem}.py": text}
        tests = here.parent / "tests" / folder
        if tests.is_dir():
            files[tests / f"test_{stem}.py"] = test.format(**words)
    return _write_new(files)


def _stem(kind: Kind, name: str) -> str:
    """The module name of a registry name that is free and spelled as the registry spells it."""
    stem = registry_name(name)
    if stem in registry.names(kind):
        raise UsageError(f"there is a {kind} '{stem}' already: choose another name")
    if re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) and not keyword.iskeyword(name):
        return stem
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    fit = re.sub(r"[^a-z0-9]+", "-", plain).strip("-").lstrip("0123456789-")
    if keyword.iskeyword(fit):
        fit = f"{fit}-{kind}"
    hint = f"take '{fit}'" if fit else "take lower-case letters, digits and hyphens"
    raise UsageError(f"'{name}' is not a usable name: {hint}")


def _folder(name: str) -> Path:
    """The folder of the checkout that holds methods or datasets.

    A checkout is where the project's own pyproject.toml lies beside that folder.
    """
    package = importlib.import_module(f"{registry.NAMESPACE}.{name}")
    places = [Path(place) for place in package.__path__ if Path(place).is_dir()]
    for place in places:
        if _is_checkout(place.parent) and os.access(place, os.W_OK):
            return place
    raise UsageError(
        f"{registry.NAMESPACE} does not run from a checkout that can be written to: give "
        "--package FOLDER for a package of your own, or --out FOLDER for the file alone"
    )


def _is_checkout(folder: Path) -> bool:
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    named = project.get("project")
    return isinstance(named, dict) and named.get("name") == registry.NAMESPACE


def _write_new(files: dict[Path, str]) -> list[Path]:
    for path in files:
        if path.exists():
            raise UsageError(f"{path} exists already: choose another name")
    for path, text in files.items():
        write_text(path, text)
    return list(files)
