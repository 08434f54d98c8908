"""One category, many methods: what one method does wrong is its own failure alone."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import ClassVar

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from zsad.bench import load_backbone, load_dataset
from zsad.bench.anomaly_maps import upsample
from zsad.bench.backbone import TokenSpec
from zsad.bench.errors import ContractError, message_of
from zsad.bench.method import Method, Options, Prediction, Track, build
from zsad.bench.metrics.device_accumulator import DeviceAccumulator
from zsad.bench.metrics.device_counts import DeviceCounts
from zsad.bench.progress import Progress
from zsad.bench.records.cell import Cell
from zsad.bench.records.stages import STAGES
from zsad.bench.running import evaluation
from zsad.bench.running.evaluation import score_category
from zsad.bench.running.measuring import Measurement
from zsad.bench.running.plan import Job, make_plan
from zsad.bench.running.plan_entries import DatasetPlan, MethodPlan
from zsad.bench.running.prepared_method import PreparedMethod


class Plain(Method):
    """Patch norms; reads everything that a query holds."""

    title = "Plain"
    needs_images = True

    @property
    def token_specs(self):
        return frozenset({TokenSpec(self.backbone.depth)})

    def predict(self, query):
        (tokens,) = query.features.tokens.values()
        patches = tokens.norm(dim=-1)
        bright = query.images.mean(dim=(1, 2, 3)) + len(query.class_names[0])
        scores = patches.amax(1) + query.features.class_token.norm(dim=-1) + bright
        return Prediction(scores, upsample(patches, query.features.grid, self.map_size))


def job_of(cell):
    folder = DatasetPlan("folder")
    return Job(cell, MethodPlan(cell.method, cell.variant), folder, folder, trained=False)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, draw_parts):
    """One category of two normal and two anomalous images with masks."""
    return load_dataset("folder", draw_parts(tmp_path_factory.mktemp("data"), "part"))


@pytest.fixture(scope="module")
def score(backbone, dataset, tmp_path_factory):
    """Scores four images with methods of these classes, side by side."""

    def scored(*classes, progress=None, **settings):
        settings = {"batch_size": 2, "gallery": 0, "map_size": 48, **settings}
        plan = make_plan(["clip"], out=tmp_path_factory.mktemp("run"), **settings)
        by_class = {}
        for cls in classes:
            cell = Cell(cls.__name__.lower(), "official", "folder", 111)
            method = build(cls, backbone)
            method.name = cell.method
            by_class[cls] = PreparedMethod(job_of(cell), method, map_size=plan.map_size)
        prepared_methods = list(by_class.values())
        samples = dataset.samples("test")
        parts = score_category(plan, dataset, samples, prepared_methods, progress or Progress())
        results = {cls: parts.get(c.cell) for cls, c in by_class.items()}
        return results, {cls: c.error for cls, c in by_class.items()}

    return scored


@pytest.fixture(scope="module")
def alone(score):
    """What `Plain` measures with no other method beside it."""
    results, _ = score(Plain)
    return results[Plain].result


# -- failures stay where they are ----------------------------------------------------------------


class Uncountable(Plain):
    def parameter_counts(self):
        raise RuntimeError("cannot count")


def test_an_error_while_metrics_are_computed_is_that_methods_alone(score, alone):
    results, errors = score(Plain, Uncountable)
    assert results[Plain].result == alone
    assert errors[Plain] is None
    assert "cannot count" in str(errors[Uncountable])


class Undeclared(Plain):
    @property
    def token_specs(self):
        raise RuntimeError("no idea")


class TooDeep(Plain):
    @property
    def token_specs(self):
        return frozenset({TokenSpec(99)})


class Keyless(Plain):
    def forward_key(self):
        raise RuntimeError("no key")


@pytest.mark.parametrize("cls", [Undeclared, Keyless])
def test_a_method_that_cannot_say_what_it_reads_fails_alone(score, alone, cls):
    results, errors = score(cls, Plain)
    assert results[Plain].result == alone
    assert errors[cls] is not None


# -- methods do not write into what others read --------------------------------------------------


class WritesTokens(Plain):
    def predict(self, query):
        answer = super().predict(query)
        (tokens,) = query.features.tokens.values()
        tokens.mul_(2)
        return answer


class WritesClassToken(Plain):
    def predict(self, query):
        answer = super().predict(query)
        query.features.class_token.zero_()
        return answer


class WritesImages(Plain):
    def predict(self, query):
        answer = super().predict(query)
        query.images[:] = 0
        return answer


class WritesNames(Plain):
    def predict(self, query):
        query.class_names[0] = "something else"
        return super().predict(query)


class WritesTokensUnseen(Plain):
    """Writes that no version counter counts."""

    def predict(self, query):
        answer = super().predict(query)
        (tokens,) = query.features.tokens.values()
        tokens.data.mul_(2)
        query.features.class_token.numpy()[:] = 0
        return answer


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (WritesTokens, r"features\.tokens.*TokenSpec"),
        (WritesClassToken, "class_token"),
        (WritesImages, "images"),
        (WritesNames, "item assignment"),
    ],
)
def test_a_method_that_writes_into_its_query_fails_and_the_next_reads_clean_data(
    score, alone, cls, names
):
    results, errors = score(cls, Plain)
    assert results[Plain].result == alone
    assert results[cls] is None
    with pytest.raises((ContractError, TypeError), match=names):
        raise errors[cls]


def test_writes_that_no_counter_sees_do_not_reach_another_method(score, alone):
    results, _ = score(WritesTokensUnseen, Plain, gallery=1)
    assert results[Plain].result == alone


class Buffered(Plain):
    """Answers in a buffer that the next batch overwrites."""

    def predict(self, query):
        answer = super().predict(query)
        if not hasattr(self, "kept"):
            self.kept = torch.empty_like(answer.scores), torch.empty_like(answer.maps)
        scores, maps = (buffer[: len(query)] for buffer in self.kept)
        return Prediction(scores.copy_(answer.scores), maps.copy_(answer.maps))


def test_a_returned_buffer_may_be_overwritten_by_the_next_batch(score, alone):
    results, _ = score(Buffered)
    assert results[Buffered].result == alone


# -- answers that are refused --------------------------------------------------------------------


class SomeMaps(Plain):
    """Maps for the first two images alone."""

    def predict(self, query):
        answer = super().predict(query)
        self.known = getattr(self, "known", set()) | set(query.images.sum(dim=(1, 2, 3)).tolist())
        return Prediction(answer.scores, answer.maps if len(self.known) <= 2 else None)


class Overflowing(Plain):
    def predict(self, query):
        answer = super().predict(query)
        return Prediction(answer.scores.double() * 1e300, answer.maps)


class Silent(Plain):
    def predict(self, query):
        return Prediction(None, None)


class Listing(Plain):
    def predict(self, query):
        return Prediction([0.0] * len(query), None)


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (SomeMaps, "maps for some batches and none for others"),
        (Overflowing, "scores too large for float32"),
        (Silent, "neither scores nor maps"),
        (Listing, "scores as list"),
    ],
)
def test_an_answer_that_is_none_is_refused_by_name(score, alone, cls, says):
    results, errors = score(cls, Plain)
    assert results[Plain].result == alone
    with pytest.raises(ContractError, match=f"method '{cls.__name__.lower()}' .*{says}"):
        raise errors[cls]


# -- answers that depend on the batch ------------------------------------------------------------


class MinMax(Plain):
    """Scores between the least and the greatest of the batch."""

    def predict(self, query):
        answer = super().predict(query)
        low, high = answer.scores.min(), answer.scores.max()
        return Prediction((answer.scores - low) / (high - low + 1e-6), answer.maps)


class Centred(Plain):
    """Maps without the batch's mean, computed from the images."""

    def predict(self, query):
        answer = super().predict(query)
        return Prediction(answer.scores, answer.maps - query.images.mean())


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize(("cls", "part"), [(MinMax, "scores"), (Centred, "maps")])
def test_a_transductive_method_fails_by_name_and_says_how_far_it_differs(
    score, cls, part, batch_size
):
    results, errors = score(cls, Plain, batch_size=batch_size)
    assert results[cls] is None
    assert results[Plain] is not None
    name = cls.__name__.lower()
    said = rf"'{name}' .*other images of the batch.*{part} differ by up to [\d.e-]+"
    with pytest.raises(ContractError, match=said):
        raise errors[cls]


class Counting(Plain):
    def predict(self, query):
        self.batches = [*getattr(self, "batches", []), len(query)]
        return super().predict(query)


@pytest.mark.parametrize(
    ("batch_size", "batches"), [(2, [2, 1, 1, 2]), (1, [1, 1, 2, 1, 1]), (3, [3, 1, 2, 1])]
)
def test_the_first_batch_alone_is_scored_again(backbone, dataset, tmp_path, batch_size, batches):
    plan = make_plan(["clip"], out=tmp_path, batch_size=batch_size, gallery=0, map_size=48)
    method = build(Counting, backbone)
    prepared = PreparedMethod(
        job_of(Cell("counting", "official", "folder", 111)), method, map_size=48
    )
    samples = dataset.samples("test")
    score_category(plan, dataset, samples, [prepared], Progress())
    assert method.batches == batches
    score_category(plan, dataset, samples, [prepared], Progress())
    assert sum(method.batches) == sum(batches) + len(samples)


class NanInTheSecondBatch(Plain):
    batches = 0

    def predict(self, query):
        answer = super().predict(query)
        type(self).batches += len(query) == 2  # the first batch is scored again, image by image
        maps = answer.maps if self.batches < 2 else torch.full_like(answer.maps, torch.nan)
        return Prediction(answer.scores, maps)


def test_an_answer_that_no_metric_takes_is_its_methods_failure_wherever_it_is_measured(
    score, alone
):
    results, errors = score(NanInTheSecondBatch, Plain)
    assert results[Plain].result == alone
    assert results[NanInTheSecondBatch] is None
    assert "NaN or infinite maps" in message_of(errors[NanInTheSecondBatch])


def test_a_category_measured_on_a_device_has_the_same_record(score, alone, monkeypatch):
    def on_device(device, count, methods):
        return [DeviceAccumulator(device, 1) for _ in range(count)]

    monkeypatch.setattr("zsad.bench.running.evaluation.accumulators", on_device)
    results, _ = score(Plain)
    assert results[Plain].result == alone


def test_a_record_says_that_a_device_did_not_hold_the_pixels(score, alone, monkeypatch):
    def on_device(device, count, methods):
        return [DeviceAccumulator(device, 1) for _ in range(count)]

    rank = DeviceCounts._ranked

    def full(counts):
        if not counts.left:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return rank(counts)

    monkeypatch.setattr("zsad.bench.running.evaluation.accumulators", on_device)
    monkeypatch.setattr(DeviceCounts, "_ranked", full)
    results, _ = score(Plain)
    assert results[Plain].result == alone
    assert any("did not hold the pixels" in warning for warning in results[Plain].warnings)


def test_a_profile_states_the_seconds_of_all_stages(score):
    results, _ = score(Plain, profile=True)
    timing = results[Plain].timing
    for stage in STAGES:
        assert timing[f"seconds_{stage}"] >= 0
    assert timing["seconds_metrics"] > 0
    results, _ = score(Plain)
    stated = {stage for stage in STAGES if f"seconds_{stage}" in results[Plain].timing}
    assert stated == {"forward", "predict"}


class LargeWork(TorchDispatchMode):
    """Notes the operations that read as many numbers as torch shares out among its threads."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        sizes = [a.numel() for a in args if isinstance(a, torch.Tensor)]
        if max(sizes, default=0) > 32768 and not func.is_view:
            self.seen.add(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("threads", [1, 2])
def test_answers_are_measured_beside_torch_where_it_leaves_a_core(
    score, alone, monkeypatch, threads
):
    monkeypatch.setattr(evaluation.joblib, "cpu_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    measure, seen = Measurement.add, set()

    def watched(*args):
        seen.add(threading.current_thread())
        measure(*args)

    monkeypatch.setattr(Measurement, "add", watched)
    results, _ = score(Plain)
    assert results[Plain].result == alone
    assert (threading.current_thread() in seen) == (threads == 2)


def test_what_measures_on_the_host_leaves_the_cores_of_torch_to_the_forward(score, monkeypatch):
    work = LargeWork()
    measure = Measurement.add

    def watched(*args):
        with work:
            measure(*args)

    monkeypatch.setattr(Measurement, "add", watched)
    results, _ = score(Plain, gallery=2, map_size=256)
    assert results[Plain].result.metrics
    assert work.seen == set()


# -- exits and interrupts ------------------------------------------------------------------------


class Exiting(Plain):
    def predict(self, query):
        sys.exit(0)


class Interrupting(Plain):
    def predict(self, query):
        raise KeyboardInterrupt


class Nameless(Exception):
    def __str__(self):
        raise RuntimeError("this has no text")


class Unprintable(Plain):
    def predict(self, query):
        raise Nameless


@pytest.mark.parametrize("cls", [Exiting, Interrupting, Unprintable])
def test_exits_interrupts_and_unprintable_errors_of_a_method_are_its_failure(score, alone, cls):
    results, errors = score(cls, Plain)
    assert results[Plain].result == alone
    assert isinstance(errors[cls], Exception)
    assert message_of(errors[cls])


class Signalling(Plain):
    def predict(self, query):
        os.kill(os.getpid(), signal.SIGINT)
        return super().predict(query)


def test_a_signal_stops_whatever_method_is_at_work(score):
    from zsad.bench.running.runner import _interrupts_seen

    progress = Progress()
    with pytest.raises(KeyboardInterrupt), _interrupts_seen(progress):
        score(Signalling, progress=progress)


# -- other tracks --------------------------------------------------------------------------------


class Observing(Plain):
    """Scores relative to the mean of the category, from features that are kept."""

    title = "Observing"
    track = Track.TRANSDUCTIVE
    needs_keys = True

    def observe(self, images):
        self.norms = images.class_token.norm(dim=-1)
        self.keys = images.keys
        self.domains = {d for query in images.batches(3) for d in query.domains}

    def predict(self, query):
        answer = super().predict(query)
        own = query.features.class_token.norm(dim=-1)
        assert torch.allclose(own, self.norms[list(query.places)])
        assert query.keys == tuple(self.keys[place] for place in query.places)
        assert query.domains == ("custom",) * len(query)
        return Prediction(own - self.norms.mean(), answer.maps)


class Concluding(Plain):
    title = "Concluding"
    track = Track.TRANSDUCTIVE

    def conclude(self, parts):
        low, high = parts.amin(dim=0), parts.amax(dim=0)
        return ((parts - low) / (high - low)).sum(dim=1)

    def predict(self, query):
        answer = super().predict(query)
        return Prediction(None, answer.maps, answer.scores[:, None].expand(-1, 2))


class Pretending(Concluding):
    """Makes its scores of the category and is run in the zero-shot track all the same."""

    @classmethod
    def track_of(cls, options):
        return Track.ZERO_SHOT if options.smoothing_sigma is None else Track.TRANSDUCTIVE

    variants: ClassVar = {"official": Options(), "other": Options(smoothing_sigma=1.0)}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_methods_of_the_transductive_track_are_shown_the_category_whatever_the_batch(
    score, alone, batch_size, backbone
):
    before = backbone.counter.images
    results, errors = score(Plain, Observing, Concluding, batch_size=batch_size, gallery=1)
    assert backbone.counter.images - before == 4, "each image is encoded once"
    assert errors == {Plain: None, Observing: None, Concluding: None}
    assert results[Plain].result.images == alone.images
    observing, concluding = (results[cls].result for cls in (Observing, Concluding))
    assert sum(observing.images.scores) == pytest.approx(0, abs=1e-4)
    assert (min(concluding.images.scores), max(concluding.images.scores)) == (0, 2)
    assert concluding.metrics == pytest.approx(alone.metrics)
    assert observing.metrics["pixel_auroc"] == pytest.approx(alone.metrics["pixel_auroc"])


def test_parts_of_a_method_that_says_zero_shot_are_refused_by_name(score, alone):
    results, errors = score(Pretending, Plain)
    assert results[Plain].result == alone
    assert "its track is zero-shot" in str(errors[Pretending])


class Forgetful(Observing):
    def observe(self, images):
        raise RuntimeError("cannot look")


def test_a_method_that_fails_while_it_observes_fails_alone(score, alone):
    results, errors = score(Forgetful, Plain, Observing)
    assert "cannot look" in str(errors[Forgetful])
    assert results[Plain].result == alone
    assert errors[Observing] is None
