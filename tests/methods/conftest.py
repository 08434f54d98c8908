"""What the tests of trained methods share: the pictures as a query, and two optimiser steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from zsad.bench.backbone import Backbone, TokenSpec, VisualFeatures
from zsad.bench.images import MaskRule, resize_mask
from zsad.bench.method import Query, TrainableMethod
from zsad.bench.weights import load_backbone

RECORDED_CLASSES = ("bottle", "bottle", "bottle")


@dataclass(frozen=True)
class Case:
    """A training batch."""

    query: Query
    labels: Tensor
    masks: Tensor


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    """The built-in backbone with random weights: its shapes matter here, not what it knows."""
    return load_backbone("tiny", pretrained="random")


@pytest.fixture(scope="session")
def recorded_case(golden_inputs) -> Callable[..., Case]:
    """The recorded pictures as one batch; each visual forward is made once."""
    kept: dict[tuple, tuple[VisualFeatures, Tensor]] = {}

    def make(method: TrainableMethod, class_names=RECORDED_CLASSES) -> Case:
        key = (*method.forward_key(), method.token_specs)
        if key not in kept:
            images = [method.preprocess(Image.fromarray(i)) for i in golden_inputs.images]
            prepared = torch.stack(images)
            features = method.backbone.encode_image(prepared, method.token_specs)
            kept[key] = features, prepared
        query = Query.of(method, kept[key][0], class_names, kept[key][1])
        masks = [resize_mask(m, method.map_size, MaskRule())[0] for m in golden_inputs.masks]
        truth = torch.from_numpy(np.stack(masks)).float()
        return Case(query, torch.tensor(golden_inputs.labels), truth)

    return make


@pytest.fixture(scope="session")
def random_case() -> Callable[..., Case]:
    """A batch of features drawn at random, in the shapes of a method's backbone."""

    def make(method: TrainableMethod, class_names=("bottle", "metal_nut", "bottle")) -> Case:
        generator = torch.Generator().manual_seed(5)
        count, backbone = len(class_names), method.backbone
        side = method.image_size // backbone.patch_size

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        specs: list[TokenSpec] = sorted(method.token_specs, key=str)
        features = VisualFeatures(
            draw(count, backbone.embed_dim),
            draw(count, backbone.embed_dim),
            {spec: draw(count, side * side, backbone.width) for spec in specs},
            (side, side),
        )
        labels = torch.tensor([i % 2 for i in range(count)])
        masks = torch.zeros(count, method.map_size, method.map_size)
        masks[1::2, 10:40, 20:60] = 1
        images = draw(count, 3, method.image_size, method.image_size)
        return Case(Query.of(method, features, class_names, images), labels, masks)

    return make


@pytest.fixture(scope="session")
def two_steps() -> Callable[..., list[dict[str, float]]]:
    """Two steps of Adam; gradients and parameters are held to the recorded ones.

    Returns the loss terms of both steps.
    """

    def run(
        method: TrainableMethod, case: Case, recorded: Mapping[str, NDArray]
    ) -> list[dict[str, float]]:
        optimizer = torch.optim.Adam(method.parameters(), lr=1e-3, betas=(0.5, 0.999))
        terms = []
        for step in (1, 2):
            optimizer.zero_grad()
            losses = method.loss(case.query, case.labels, case.masks)
            losses["total"].backward()
            terms.append({name: value.item() for name, value in losses.items()})
            gradients = {name: p.grad for name, p in method.named_parameters()}
            _compare(gradients, recorded, f"train_grad_step{step}", 1e-3)
            optimizer.step()
            _compare(
                dict(method.named_parameters()), recorded, f"train_param_after_step{step}", 1e-4
            )
        return terms

    return run


@pytest.fixture(scope="session")
def hold_to() -> Callable[..., None]:
    """Holds named gradients or parameters to recorded norms and first values."""
    return _compare


def _compare(
    tensors: Mapping[str, Tensor], recorded: Mapping[str, NDArray], what: str, tolerance: float
) -> None:
    rows = {str(name): row for row, name in enumerate(recorded["train_param_names"])}
    assert set(tensors) <= set(rows)
    for name, tensor in tensors.items():
        row, values = rows[name], tensor.detach()
        norm = recorded[f"{what}_norm"][row]
        assert values.double().norm().item() == pytest.approx(norm, rel=tolerance), (what, name)
        expected = recorded[f"{what}_first8"][row][: values.numel()]
        np.testing.assert_allclose(
            values.flatten()[:8], expected, rtol=0, atol=tolerance * np.abs(expected).max()
        )
        if f"{what}_zero_frac" in recorded:
            zeros = (values == 0).double().mean().item()
            assert zeros == pytest.approx(recorded[f"{what}_zero_frac"][row], abs=1e-9), name
