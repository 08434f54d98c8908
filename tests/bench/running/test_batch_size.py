"""As many images at once as memory holds; where it runs out, the rest goes on in smaller parts."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from zsad.bench import load_backbone, load_dataset, load_run
from zsad.bench.backbone import Backbone
from zsad.bench.data.loading import load_batches
from zsad.bench.errors import UsageError
from zsad.bench.metrics.device_accumulator import DeviceAccumulator
from zsad.bench.preprocess import Preprocess
from zsad.bench.records.record import read_records
from zsad.bench.running import batch_size, evaluation
from zsad.bench.running.answers import own_copy
from zsad.bench.running.batch_size import fitting, images_at_once
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import run
from zsad.methods import clip, coop, musc

HOST, GPU = torch.device("cpu"), torch.device("cuda:0")
FULL = "CUDA out of memory. Tried to allocate 2.00 GiB"


@pytest.mark.parametrize(
    ("memory", "cost", "images"), [(0, 5, 1), (39, 5, 4), (40, 5, 8), (10**9, 5, 64), (9, 0, 8)]
)
def test_the_greatest_power_of_two_that_memory_holds(memory, cost, images):
    assert fitting(memory, cost) == images


class Card:
    """A GPU on which each image of a forward takes 100 bytes, beside 1000 of the weights."""

    def __init__(self, patch, free):
        self.peak, self.encoded = 0, []
        patch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 10 * free))
        patch.setattr(torch.cuda, "memory_allocated", lambda _: 1000)
        patch.setattr(torch.cuda, "memory_reserved", lambda _: 1000)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda _: self.peak)
        patch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: setattr(self, "peak", 0))

    def encode(self, images):
        self.encoded.append(images)
        self.peak = 1000 + 100 * images


@pytest.mark.parametrize(("free", "images"), [(300, 1), (2000, 4), (8000, 16), (10**9, 64)])
def test_half_of_the_free_memory_of_a_gpu_is_for_its_batches(monkeypatch, free, images):
    card = Card(monkeypatch, free)
    assert images_at_once("auto", GPU, card.encode, kept=50) == images
    assert card.encoded == [1, batch_size.TRIED]


def test_nothing_is_measured_where_a_number_is_asked_for_or_a_cpu_encodes():
    assert images_at_once(5, GPU, pytest.fail, kept=0) == 5
    assert images_at_once("auto", HOST, pytest.fail, kept=0) == 8


def test_a_cut_batch_keeps_all_that_was_said_of_it():
    dataset = load_dataset("synthetic")
    samples = dataset.samples("test")[:5]
    (batch,) = load_batches(dataset, samples, Preprocess(32), 32, 5, label_regions=True)
    batch = dataclasses.replace(batch, regions_lost=3, warnings=("odd",))
    parts = [batch[:2], batch[2:][:1], batch[2:][1:]]
    assert [len(part) for part in parts] == [2, 1, 2]
    assert [name for part in parts for name in part.names] == batch.names
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert torch.equal(torch.cat([part.masks for part in parts]), batch.masks)
    assert sum((part.regions for part in parts), ()) == batch.regions
    assert sum(part.regions_lost for part in parts) <= 2 * batch.regions_lost


@pytest.fixture(scope="module")
def data(tmp_path_factory, draw_parts):
    """A category of two normal and two anomalous images with masks."""
    return [{"name": "folder", "root": str(draw_parts(tmp_path_factory.mktemp("data"), "part"))}]


def numbers(data, out, **settings):
    run(make_plan(["clip", "winclip"], data, out=out, gallery=0, map_size=48, **settings))
    return load_run(out).set_index(["method", "metric"]).value


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The numbers of four images at once."""
    return numbers(data, tmp_path_factory.mktemp("whole"), batch_size=4)


def exhausted(function, holds):
    """A function of an object and images, or a query, that memory fails for more than some."""

    def called(self, images, *rest):
        if len(images) > holds:
            raise torch.OutOfMemoryError(FULL)
        return function(self, images, *rest)

    return called


def test_a_run_goes_on_where_memory_runs_out_in_the_forward(data, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(Backbone, "encode_image", exhausted(Backbone.encode_image, 2))
    found = numbers(data, tmp_path, batch_size=4)
    assert (found - whole).abs().max() < 1e-6
    for record in read_records(tmp_path):
        assert any("did not hold 4 images at once" in text for text in record.warnings)
        assert record.timing["batch_size"] == 2


def test_a_run_goes_on_where_memory_runs_out_in_a_method(data, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(clip.Clip, "predict", exhausted(clip.Clip.predict, 1))
    found = numbers(data, tmp_path, batch_size=4)
    assert (found - whole).abs().max() < 1e-6
    stated = {
        record.cell.method: record.timing.get("batch_size") for record in read_records(tmp_path)
    }
    assert stated == {"clip": 1, "winclip": None}  # the other method is not held up


def test_copies_that_memory_does_not_hold_are_made_in_parts(data, whole, tmp_path, monkeypatch):
    def copy(tensor, device):
        if len(tensor) > 3:
            raise torch.OutOfMemoryError(FULL)
        return own_copy(tensor, device)

    monkeypatch.setattr(evaluation, "own_copy", copy)
    found = numbers(data, tmp_path, batch_size=4)
    assert (found - whole).abs().max() < 1e-6
    assert {record.timing["batch_size"] for record in read_records(tmp_path)} == {2}


def test_a_record_says_how_its_method_observed(data, tmp_path, monkeypatch):
    def observe(self, images):
        if max(map(len, images.batches())) > 1:
            raise torch.OutOfMemoryError(FULL)
        observed(self, images)

    observed = musc.MuSc.observe
    monkeypatch.setattr(musc.MuSc, "observe", observe)
    run(make_plan(["musc"], data, out=tmp_path, gallery=0, map_size=48))
    (record,) = read_records(tmp_path)
    assert record.status == "ok"
    assert any("while method 'musc' observed: the run" in text for text in record.warnings)


def test_a_record_says_that_its_pixels_left_the_device(data, whole, tmp_path, monkeypatch):
    def accumulators(device, count, methods):
        return [DeviceAccumulator(device) for _ in range(count)]

    def split(self, *images):
        if not self.left:
            raise torch.OutOfMemoryError(FULL)
        return work(self, *images)

    work = DeviceAccumulator._split
    monkeypatch.setattr(DeviceAccumulator, "_split", split)
    monkeypatch.setattr(evaluation, "accumulators", accumulators)
    assert (numbers(data, tmp_path, batch_size=4) - whole).abs().max() < 1e-12
    for record in read_records(tmp_path):
        assert any("sorted and counted on the host" in text for text in record.warnings)


def test_images_that_only_give_thresholds_are_scored_in_parts(data, tmp_path, monkeypatch):
    monkeypatch.setattr(clip.Clip, "predict", exhausted(clip.Clip.predict, 1))
    settings = {"auxiliary": "synthetic-aux", "auxiliary_limit": 2, "metrics": ["image_f1_learned"]}
    run(make_plan(["clip"], data, out=tmp_path, gallery=0, map_size=48, **settings))
    (record,) = read_records(tmp_path)
    assert "the auxiliary dataset" in record.categories[0].thresholds["image_f1_learned"].source


def test_a_record_says_how_its_method_was_trained(data, tmp_path, monkeypatch):
    monkeypatch.setenv("ZSAD_FEATURES", str(tmp_path / "features"))
    monkeypatch.setattr(coop.CoOp, "loss", exhausted(coop.CoOp.loss, 3))
    monkeypatch.setattr(Backbone, "encode_image", exhausted(Backbone.encode_image, 4))
    methods = [{"name": "coop", "options": {"epochs": 1}}]
    settings = {"auxiliary": "synthetic-aux", "auxiliary_limit": 1, "map_size": 48, "gallery": 0}
    for out in ("a", "b"):  # the second finds the features of the first
        run(make_plan(methods, data, out=tmp_path / out, **settings))
    records = [*read_records(tmp_path / "a"), *read_records(tmp_path / "b")]
    for record, encoded in zip(records, (True, False), strict=True):
        told = "\n".join(record.warnings)
        assert "did not hold 8 images at once while method 'coop' learned" in told
        assert "the run went on with 2" in told
        assert ("8 images at once while training images were encoded" in told) == encoded


def test_auto_on_a_cpu_is_eight(data, whole, tmp_path):
    found = numbers(data, tmp_path, batch_size="auto")
    assert (found - whole).abs().max() < 1e-6
    assert all("batch_size" not in record.timing for record in read_records(tmp_path))


@pytest.mark.parametrize("wrong", [0, -1, 2.0, "8", "all", True])
def test_a_batch_size_is_a_number_or_auto(wrong):
    with pytest.raises(UsageError, match="'batch-size' should be .* or should be 'auto', not"):
        make_plan(["clip"], batch_size=wrong)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_asked_for_its_memory(data, whole, tmp_path):
    found = numbers(data, tmp_path, batch_size="auto", device="cuda")
    assert (found - whole).abs().max() < 1e-3
    assert {record.timing["batch_size"] for record in read_records(tmp_path)} == {64}
    encode = load_backbone("tiny", device="cuda").encode_image
    size = load_backbone("tiny").native_size
    took = batch_size._cost_of_image(
        torch.device("cuda"), lambda n: encode(torch.zeros(n, 3, size, size, device="cuda"))
    )
    assert took >= 3 * size * size * 4
