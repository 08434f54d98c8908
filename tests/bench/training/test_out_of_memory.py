"""A training goes on where memory runs out, in smaller parts, and ends in the same weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from zsad.bench.backbone import Backbone, BackboneSpec, TokenSpec
from zsad.bench.checkpoint import read_header
from zsad.bench.conformance import learns_in_parts
from zsad.bench.errors import ContractError, ZsadError
from zsad.bench.method import Options, Prediction, Schedule, TrainableMethod, build
from zsad.bench.training.feature_cache import FeatureCache
from zsad.bench.training.trainer import fit, train_method

COUNT, BATCH = 10, 4
FULL = "CUDA out of memory. Tried to allocate 2.00 GiB"


@dataclass(frozen=True)
class ProbeOptions(Options):
    batch_size: int = BATCH
    augments: bool = False


class Probe(TrainableMethod):
    """A linear layer on patches, and a scale that every image shares."""

    title = "Probe"
    backbone_spec = BackboneSpec(image_size=32)
    mean_over_images = True
    variants: ClassVar = {"official": ProbeOptions()}
    holds = COUNT
    where = "loss"

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        self.name = "probe"
        self.scale = nn.Parameter(torch.ones(()))
        self.head = nn.Parameter(torch.linspace(-0.1, 0.1, backbone.width))
        self.specs = (TokenSpec(backbone.depth),)
        self.parts = []

    @property
    def schedule(self):
        chosen = self.options
        return Schedule(2, chosen.batch_size, 0.01, "sgd", augments=chosen.augments)

    def predict(self, query):
        (tokens,) = query.features.tokens.values()
        logits = self.scale * (tokens @ self.head)
        return Prediction(
            logits.amax(1), logits.sigmoid().reshape(len(query), *query.features.grid)
        )

    def loss(self, query, labels, masks):
        self._run_out(len(query), "loss")
        (tokens,) = query.features.tokens.values()
        shared = self.scale * 1.0
        scores = (shared * (tokens @ self.head)).amax(1)
        if self.where == "backward" and len(query) > self.holds:  # after the gradient of the head
            shared.register_hook(lambda _: self._run_out(len(query), "backward"))
        self.parts.append(len(query))
        total = F.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype))
        return {"image": total, "total": total + 0.1 * self.scale.square()}

    def _run_out(self, images, where):
        if images > self.holds and where == self.where:
            raise torch.OutOfMemoryError(FULL)


class Summed(Probe):
    """Its loss grows with the images of a batch, so that parts of it give another one."""

    mean_over_images = False

    def loss(self, query, labels, masks):
        terms = super().loss(query, labels, masks)
        return {**terms, "total": terms["total"] * len(query)}


class Dishonest(Summed):
    mean_over_images = True


class SummedInParts(Probe):
    """The same loss, whose parts know of how large a batch they are."""

    def loss(self, query, labels, masks):
        terms = super().loss(query, labels, masks)
        return {**terms, "total": terms["total"] * query.batch_size}


@pytest.fixture
def arrays():
    """Noise; every second image has a bright square, the same in all of them."""
    images = np.random.default_rng(0).integers(0, 120, (COUNT, 32, 32, 3), dtype=np.uint8)
    masks = np.zeros((COUNT, 32, 32), dtype=bool)
    masks[1::2, 4:12, 8:20] = True
    images[masks] = 250
    return images, masks, [0, 1] * (COUNT // 2)


def learned(cls, backbone, arrays, **attributes):
    """A method that has learned with these attributes, and the history of it."""
    method = build(cls, backbone)
    for name, value in attributes.items():
        setattr(method, name, value)
    history = fit(method, *arrays, "c", epochs=2, batch_size=None)
    return method, history


@pytest.mark.parametrize("where", ["loss", "backward"])
@pytest.mark.parametrize("kind", [Probe, SummedInParts])
def test_a_batch_that_memory_does_not_hold_is_learned_from_in_parts(
    backbone, arrays, kind, where, caplog
):
    whole, told = learned(kind, backbone, arrays)
    parts, found = learned(kind, backbone, arrays, holds=1, where=where)
    assert set(whole.parts) == {4, 2}
    assert set(parts.parts[-COUNT:]) == {1}, "in the second epoch nothing is tried in vain"
    for name, tensor in whole.learned_state().items():
        assert torch.allclose(parts.learned_state()[name], tensor, rtol=1e-5, atol=1e-7), name
    for step, other in zip(told, found, strict=True):
        assert other == pytest.approx(step, rel=1e-5)
    assert "with 4 images at once while method 'probe' learned: going on with 2" in caplog.text


def test_a_loss_that_is_no_mean_says_which_options_to_lower(backbone, arrays):
    reason = (
        r"ran out with 4 images at once while method 'probe' learned .*not a mean over images.*"
        r"lower --option probe.image_size or --option probe.batch_size"
    )
    with pytest.raises(ZsadError, match=reason):
        learned(Summed, backbone, arrays, holds=3)


def test_an_image_that_memory_does_not_hold_says_so(backbone, arrays):
    with pytest.raises(ZsadError, match=r"with one image at once .*lower --option probe"):
        learned(Probe, backbone, arrays, holds=0)


def test_the_kit_holds_a_method_to_its_mean(backbone):
    learns_in_parts(Probe, backbone)
    learns_in_parts(SummedInParts, backbone)
    with pytest.raises(ContractError, match=r"mean_over_images, but term 'total' is .* parts"):
        learns_in_parts(Dishonest, backbone)


def exhausted(encode, holds):
    def called(self, images, *rest, **named):
        if len(images) > holds:
            raise torch.OutOfMemoryError(FULL)
        return encode(self, images, *rest, **named)

    return called


@pytest.mark.parametrize("augments", [False, True], ids=["cached", "encoded each time"])
def test_training_images_are_encoded_in_parts(backbone, drawn, tmp_path, monkeypatch, augments):
    def trained(name):
        method = build(Probe, backbone, augments=augments)
        return train_method(
            method, drawn, tmp_path / name, cache=FeatureCache(tmp_path / f"{name}-cache")
        )

    whole = trained("a")
    monkeypatch.setattr(Backbone, "encode_image", exhausted(Backbone.encode_image, 1))
    parts = trained("b")
    for name, tensor in whole.method.learned_state().items():
        assert torch.allclose(parts.method.learned_state()[name], tensor, atol=1e-6), name
    assert "remarks" not in read_header(whole.path)
    (remark,) = read_header(parts.path)["remarks"]
    assert "images at once while training images were encoded: the run went on with 1" in remark
    assert "--batch-size" not in remark


def test_what_remembers_says_which_option_to_lower(backbone, arrays, monkeypatch):
    class Remembering(Probe):
        def remember(self, query, labels, masks):
            raise torch.OutOfMemoryError(FULL)

    with pytest.raises(ZsadError, match=r"8 images .*remembered .*--option probe.image_size"):
        learned(Remembering, backbone, arrays)
