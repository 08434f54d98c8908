"""The built-in methods and sets keep the contract, and the kit catches those who do not."""

from __future__ import annotations

import dataclasses
import shutil
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional
from zsad.bench import load_backbone, load_dataset, registry
from zsad.bench.anomaly_maps import smooth, upsample
from zsad.bench.backbone import TokenSpec
from zsad.bench.conformance import DATASET_CHECKS, METHOD_CHECKS, check_dataset, check_method
from zsad.bench.dataset import Sample
from zsad.bench.errors import ContractError
from zsad.bench.method import (
    ExtraWork,
    Method,
    Options,
    Prediction,
    Schedule,
    Track,
    TrainableMethod,
)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("tiny")


@pytest.mark.parametrize("name", registry.names("method"))
@pytest.mark.parametrize("check", METHOD_CHECKS, ids=lambda check: check.__name__)
def test_built_in_methods_keep_the_contract(check, name, backbone, small_options):
    cls, options = registry.method_class(name), small_options(name)
    if options:
        variants = {v: dataclasses.replace(own, **options) for v, own in cls.variants.items()}
        cls = type(cls.__name__, (cls,), {"variants": variants})
    check(cls, backbone)


@pytest.mark.parametrize(
    "name", ["synthetic", "synthetic_aux", "synthetic_polyps", "synthetic_scans"]
)
@pytest.mark.parametrize("check", DATASET_CHECKS, ids=lambda check: check.__name__)
def test_built_in_sets_keep_the_contract(check, name):
    check(load_dataset(name))


class Sound(Method):
    """Patch norms; keeps the contract."""

    title = "Sound"

    @property
    def token_specs(self):
        return frozenset({TokenSpec(self.backbone.depth)})

    def answer(self, query):
        (tokens,) = query.features.tokens.values()
        patches = tokens.norm(dim=-1)
        maps = upsample(patches, query.features.grid, self.map_size)
        return patches.amax(dim=1), smooth(maps, self.smoothing_sigma)

    def predict(self, query):
        return Prediction(*self.answer(query))


class BatchStatistics(Sound):
    def predict(self, query):
        scores, maps = self.answer(query)
        return Prediction(scores - scores.mean(), maps)


class Undeclared(Sound):
    def predict(self, query):
        _ = query.features.tokens[TokenSpec(1)]
        return super().predict(query)


class PatchResolution(Sound):
    def predict(self, query):
        scores, maps = self.answer(query)
        return Prediction(scores, maps[:, ::8, ::8])


class NotANumber(Sound):
    def predict(self, query):
        scores, maps = self.answer(query)
        return Prediction(scores * float("nan"), maps)


class SecondForward(Sound):
    """It sends the images through the tower again and does not say so."""

    needs_images = True

    def predict(self, query):
        self.backbone.encode_image(query.images)
        return super().predict(query)


class SaysSo(SecondForward):
    """It declares what it does."""

    @classmethod
    def extra_work_of(cls, options):
        return ExtraWork(1)


class Tampering(Sound):
    def predict(self, query):
        (tokens,) = query.features.tokens.values()
        tokens += 1
        return super().predict(query)


class Moody(Sound):
    def predict(self, query):
        scores, maps = self.answer(query)
        return Prediction(scores + torch.rand(1), maps)


class BackboneChanger(Sound):
    def predict(self, query):
        self.backbone.visual.proj.data += 1e-3
        return super().predict(query)


class PartsWithoutTrack(Sound):
    """Scores that need the whole category, from a method that says zero-shot."""

    def predict(self, query):
        scores, maps = self.answer(query)
        return Prediction(None, maps, scores[:, None])


class Centred(Sound):
    """Scores relative to the mean norm of the category; keeps the contract of its track."""

    title = "Centred"
    track = Track.TRANSDUCTIVE

    def observe(self, images):
        norms = [self.norms(query.features) for query in images.batches(size=5)]
        self.mean = torch.cat(norms).mean()

    def norms(self, features):
        (tokens,) = features.tokens.values()
        return tokens.norm(dim=-1).mean(dim=1)

    def predict(self, query):
        _, maps = self.answer(query)
        return Prediction(self.norms(query.features) - self.mean, maps)


class Stretched(Sound):
    """Scores from 0 to 1 over the category, made of parts."""

    title = "Stretched"
    track = Track.TRANSDUCTIVE

    def conclude(self, parts):
        low, high = parts[:, 0].amin(), parts[:, 0].amax()
        return (parts[:, 0] - low) / (high - low)

    def predict(self, query):
        scores, maps = self.answer(query)
        return Prediction(None, maps, scores[:, None])


class FirstOfTheCategory(Centred):
    """Compares with whatever image came first."""

    def observe(self, images):
        self.mean = self.norms(images[0:1].features)


class OfItsBatch(Centred):
    def predict(self, query):
        _, maps = self.answer(query)
        norms = self.norms(query.features)
        return Prediction(norms - norms.mean(), maps)


class RankedInTurn(Stretched):
    def conclude(self, parts):
        return torch.arange(len(parts)) / len(parts)


@dataclasses.dataclass(frozen=True)
class Shots(Options):
    """How many normal images it is shown."""

    shots: int = 2


class Remembering(Centred):
    """The distance to the mean of normal images; keeps the contract of the few-shot track."""

    title = "Remembering"
    track = Track.FEW_SHOT
    variants: ClassVar = {"official": Shots()}


class FirstReference(Remembering):
    def observe(self, images):
        self.mean = self.norms(images[0:1].features)


@pytest.mark.parametrize("cls", [Centred, Stretched, Remembering])
def test_a_sound_method_of_another_track_passes(cls, backbone):
    check_method(cls, backbone)


@pytest.mark.parametrize(
    ("cls", "caught_by"),
    [
        (BatchStatistics, "ignores_the_batch"),
        (PartsWithoutTrack, "keeps_to_its_track"),
        (FirstOfTheCategory, "ignores_the_order"),
        (OfItsBatch, "ignores_the_batch"),
        (RankedInTurn, "ignores_the_order"),
        (FirstReference, "keeps_to_its_track"),
        (Undeclared, "reads_what_it_declares"),
        (PatchResolution, "answers_in_shape"),
        (NotANumber, "answers_in_shape"),
        (Tampering, "leaves_its_input_alone"),
        (SecondForward, "states_its_forwards"),
        (Moody, "is_deterministic"),
    ],
)
def test_a_fault_is_caught_by_the_check_that_is_meant_for_it(cls, caught_by, backbone):
    with pytest.raises(ContractError, match=caught_by):
        check_method(cls, backbone)


def test_a_method_that_changes_the_backbone_is_caught():
    with pytest.raises(ContractError, match="leaves_the_backbone_alone"):
        check_method(BackboneChanger, load_backbone("tiny"))


class SinglePrecisionOnly(Sound, TrainableMethod):
    """Its loss fails where a run of a small backbone trains it: in double precision."""

    schedule = Schedule(epochs=1)

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        self.bias = nn.Parameter(torch.zeros(1))

    def loss(self, query, labels, masks):
        target = torch.ones(len(labels), dtype=torch.float32)
        answer = self.bias.expand(len(labels)).sigmoid()
        return {"total": functional.binary_cross_entropy(answer, target)}


def test_a_method_that_cannot_learn_in_the_precision_of_a_run_is_caught(backbone):
    assert backbone.training_precision == "fp64"
    with pytest.raises(ContractError, match="learns"):
        check_method(SinglePrecisionOnly, backbone)


@pytest.mark.parametrize("cls", [Sound, SaysSo])
def test_a_sound_method_passes(cls, backbone):
    check_method(cls, backbone)


def test_a_dataset_that_lies_is_caught():
    honest = load_dataset("synthetic_aux")

    class Lying(type(honest)):
        def samples(self, split="test"):
            samples: list[Sample] = super().samples(split)
            return [dataclasses.replace(s, label=0) for s in samples]

    with pytest.raises(ContractError, match=r"labels_are_binary[\s\S]*normal_images_have_no_mask"):
        check_dataset(Lying.open())


def test_a_training_image_that_is_a_copy_of_a_test_image_is_caught(tmp_path):
    honest = load_dataset("synthetic")

    class Copied(type(honest)):
        def samples(self, split="test"):
            samples: list[Sample] = super().samples(split)
            if split == "train":
                copy = tmp_path / "copy.png"
                shutil.copy(super().samples("test")[0].image_path, copy)
                samples[3] = dataclasses.replace(samples[3], image_path=copy)
            return samples

    with pytest.raises(ContractError, match="shows_no_test_image"):
        check_dataset(Copied.open())
