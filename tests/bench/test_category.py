"""What a method observes is what was encoded, kept within a budget, and answers follow from it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import torch
from zsad.bench import load_backbone, predict_images
from zsad.bench.backbone import TokenSpec
from zsad.bench.category import KeptImages, Observed, observe
from zsad.bench.errors import ContractError, Stopped, UsageError
from zsad.bench.method import Method, Options, Prediction, Query, Track, build
from zsad.bench.scratch import Scratch


class Sum(Method):
    """Scores are the class tokens' sums, less those of all that was observed."""

    title = "Sum"
    track = Track.TRANSDUCTIVE
    needs_keys = True

    @property
    def token_specs(self):
        return frozenset({TokenSpec(2)})

    def observe(self, images):
        self.seen = images
        self.total = images.class_token.sum()

    def predict(self, query):
        return Prediction(query.features.class_token.sum(dim=1) - self.total, None)


class Share(Method):
    """Each image's share of the category's brightness, made of parts."""

    title = "Share"
    track = Track.TRANSDUCTIVE
    needs_images = True

    def conclude(self, parts):
        return parts[:, 0] / parts[:, 0].sum()

    def predict(self, query):
        bright = query.images.mean(dim=(1, 2, 3)) + 5
        return Prediction(None, None, bright[:, None])


@dataclasses.dataclass(frozen=True)
class Shots(Options):
    shots: int = 2


class Nearest(Method):
    title = "Nearest"
    track = Track.FEW_SHOT
    variants: ClassVar = {"official": Shots()}

    def observe(self, images):
        self.normal = images.class_token

    def predict(self, query):
        return Prediction(torch.cdist(query.features.class_token, self.normal).amin(1), None)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def pictures():
    return list(np.random.default_rng(0).integers(0, 255, (5, 40, 40, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def batches(backbone, pictures):
    method = build(Sum, backbone)
    images = torch.randn(5, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    words = ["tile", "tile", "tile", "nut", "nut"]
    whole = Query.encoded(method, images, words, ["medical"] * 5, ["round", None, None, "", "x"])
    return method, whole, [whole[:2], whole[2:3], whole[3:]]


@pytest.mark.parametrize("budget", [0, 1 << 30], ids=["on disk", "in memory"])
def test_kept_images_are_read_as_they_came(batches, budget):
    method, whole, parts = batches
    scratch = Scratch(budget)
    kept = KeptImages(7, scratch)
    for part in parts:
        kept.add(part)
    assert (scratch.spilled > 0) == (budget == 0)
    assert len(kept) == 5
    assert [batch.places for batch in kept.batches()] == [(0, 1), (2,), (3, 4)]
    seen = Observed(method, kept.all())
    middle = seen[1:4]
    assert middle.places == (1, 2, 3)
    for name in ("class_names", "domains", "descriptions", "keys"):
        assert getattr(middle, name) == getattr(whole, name)[1:4]
    (spec,) = method.token_specs
    assert torch.equal(middle.features.tokens[spec], whole.features.tokens[spec][1:4])
    assert torch.equal(seen.tokens(spec, slice(3, 5)), whole.features.tokens[spec][3:])
    assert [len(batch) for batch in seen.batches(2)] == [2, 2, 1]
    seen.tokens(spec).zero_()
    assert torch.equal(seen.tokens(spec), whole.features.tokens[spec]), "a copy was changed"


def test_reading_stops_when_it_is_asked_to(batches):
    method, whole, _ = batches
    kept = KeptImages(5)
    kept.add(whole)

    def stop():
        raise Stopped("enough")

    with pytest.raises(Stopped):
        observe(method, kept, stop)
    with pytest.raises(ContractError, match="no images"):
        observe(method, KeptImages(5))


class Reading(Sum):
    """Reads what it observes in batches, of which memory holds so many images."""

    holds = 8

    def observe(self, images):
        super().observe(images)
        self.read = []
        for batch in images.batches():
            if len(batch) > self.holds:
                raise torch.OutOfMemoryError("CUDA out of memory")
            self.read.append(len(batch))


@pytest.mark.parametrize(("holds", "read"), [(5, [5]), (4, [4, 1]), (1, [1] * 5)])
def test_a_method_observes_again_in_smaller_batches_where_memory_runs_out(
    batches, backbone, holds, read
):
    method, kept = build(Reading, backbone), KeptImages(5)
    method.holds = holds
    kept.add(batches[1])
    remarks = observe(method, kept)
    assert method.read == read
    assert bool(remarks) == (holds < 5)
    assert all(f"observed: the run went on with {holds}" in text for text in remarks)


def test_the_images_of_a_call_are_the_category(backbone, pictures):
    method = build(Sum, backbone)
    five = predict_images(method, pictures, "tile", batch_size=2).scores
    assert len(method.seen) == 5
    assert torch.allclose(five.sum(), -4 * method.total, atol=1e-3)
    alone = torch.cat([predict_images(method, [p], "tile").scores for p in pictures])
    assert torch.allclose(alone, torch.zeros(5), atol=1e-5)


def test_scores_are_concluded_from_the_parts_of_all_images(backbone, pictures):
    method = build(Share, backbone)
    scores = predict_images(method, pictures, "tile", batch_size=2).scores
    assert scores.shape == (5,)
    assert float(scores.sum()) == pytest.approx(1)
    assert torch.allclose(predict_images(method, pictures[:1], "tile").scores, torch.ones(1))


def test_references_are_asked_for_where_they_are_needed_and_only_there(backbone, pictures):
    method = build(Nearest, backbone)
    scores = predict_images(method, pictures, "tile", references=pictures[3:]).scores
    assert torch.allclose(scores[3:], torch.zeros(2), atol=1e-2)
    assert (scores[:3] > 0.1).all()
    with pytest.raises(UsageError, match="few-shot track: give it normal images"):
        predict_images(method, pictures, "tile")
    with pytest.raises(UsageError, match="transductive track and takes no normal images"):
        predict_images(build(Share, backbone), pictures, "tile", references=pictures)


def test_scores_and_parts_together_are_refused(backbone, pictures):
    class Both(Share):
        title = "Both"

        def predict(self, query):
            parts = super().predict(query).parts
            return Prediction(parts[:, 0], None, parts)

    with pytest.raises(ContractError, match="scores and parts"):
        predict_images(build(Both, backbone), pictures, "tile")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"observe": Sum.observe}, "observe, which the zero-shot track has no use for"),
        ({"conclude": Share.conclude}, "conclude, which the zero-shot track has no use for"),
        ({"track": Track.FEW_SHOT}, "few-shot track and observes nothing"),
        ({"track": Track.FEW_SHOT, "observe": Sum.observe}, "add an option shots"),
    ],
)
def test_hooks_that_do_not_fit_the_track_are_refused_with_the_class(members, message):
    predict = {"title": "Odd", "predict": Sum.predict}
    with pytest.raises(ContractError, match=message):
        type("Odd", (Method,), {**predict, **members})
