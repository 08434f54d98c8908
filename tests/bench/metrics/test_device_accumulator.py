"""The accumulator of a device counts what that of the host counts, wherever its pixels lie."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from zsad.bench.metric_table import METRICS
from zsad.bench.metrics import MetricInputError, PixelAccumulator, device_runs
from zsad.bench.metrics.device_accumulator import DeviceAccumulator
from zsad.bench.metrics.device_runs import merged
from zsad.bench.metrics.mask_regions import regions_of
from zsad.bench.metrics.thinned_curve import Curve
from zsad.bench.simulated_device import simulated_device

SIDE = 40
THRESHOLDS = {"pixel_f1_learned": 0.25}
HOST, SIMULATED, CUDA = "cpu", "simulated", "cuda"
GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
DEVICES = [HOST, SIMULATED, pytest.param(CUDA, marks=GPU)]
SPILLS = {"nothing": (1 << 24, 1 << 24), "to the host": (1, 1 << 24), "to a file": (1, 0)}


@contextmanager
def a_device(name):
    """CPU tensors, tensors that say that they lie elsewhere, or those of a GPU."""
    if name == SIMULATED:
        with simulated_device() as device:
            yield device
    else:
        yield torch.device(name)


def images(kind, count=12, seed=0):
    """Masks and float32 maps; every third image is normal."""
    rng = np.random.default_rng(seed)
    masks = rng.random((count, SIDE, SIDE)) < 0.02
    masks[:, 5:15, 20:34] |= rng.random((count, 10, 14)) < 0.7
    masks[::3] = False
    maps = rng.normal(size=masks.shape).astype(np.float32) + masks
    if kind == "ties":
        maps = np.round(4 * maps) / np.float32(4)
    if kind == "both zeros":
        maps = np.where(rng.random(maps.shape) < 0.5, np.float32(-0.0), np.float32(0)) + 0 * maps
    return masks, maps


def filled(pixels, masks, maps, size, place=lambda maps: maps):
    for start in range(0, len(masks), size):
        some = slice(start, start + size)
        known = [regions_of(mask) for mask in masks[some]] if start else None
        pixels.update(masks[some], place(maps[some]), known)
    return pixels


def measured(pixels):
    """All that is asked of an accumulator."""
    return {
        "metrics": pixels.result(METRICS, THRESHOLDS),
        "ranks": vars(pixels.counts().ranks),
        "roc": vars(pixels.roc_curve(30)),
        "pro": [pixels.pro_curve(30), pixels.pro_curve(30, fpr_limit=1.0)],
    }


def assert_equal(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_equal(one[name], other[name])
    elif isinstance(one, list):
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    elif isinstance(one, Curve):  # of overlaps, which the device sums in another way
        for rates in ("fpr", "detection_rate"):
            assert getattr(one, rates) == pytest.approx(getattr(other, rates), abs=1e-12)
    elif hasattr(one, "of_regions"):
        assert_equal(vars(one), vars(other))
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
    else:
        assert one == other


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("spilled", SPILLS)
@pytest.mark.parametrize("kind", ["rare ties", "ties", "both zeros"])
def test_every_metric_equals_that_of_the_host(device, spilled, kind, tmp_path):
    masks, maps = images(kind)
    expected = measured(filled(PixelAccumulator(), masks, maps, 12))
    with a_device(device) as where:
        pixels = DeviceAccumulator(where, *SPILLS[spilled], tmp_path)
        filled(pixels, masks, maps, 5, lambda maps: torch.from_numpy(maps).to(where))
        found = measured(pixels)
        pixels.release()
    assert_equal(found, expected)
    assert len(found["metrics"].defined()) > 10


PLACES = {  # where memory runs out
    "split": (torch, "ones_like"),
    "sort": (torch.Tensor, "sort"),
    "merge": (device_runs, "merged"),
    "look up": (torch, "searchsorted"),
    "count": (torch.Tensor, "__ge__"),
    "thin": (torch.Tensor, "flip"),
    "sum up": (torch.Tensor, "cumsum"),
}


@pytest.mark.parametrize("later", [0, 1], ids=["at first", "later"])
@pytest.mark.parametrize("place", PLACES)
def test_pixels_go_to_the_host_where_memory_runs_out(place, later, tmp_path, monkeypatch):
    masks, maps = images("rare ties", 60)
    expected = measured(filled(PixelAccumulator(), masks, maps, 12))
    owner, name = PLACES[place]
    work, calls = getattr(owner, name), []

    def exhausted(tensor, *rest, **named):
        if tensor.device.type != "cpu":
            calls.append(name)
            if len(calls) > later:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return work(tensor, *rest, **named)

    with simulated_device() as where:
        pixels = DeviceAccumulator(where, 1 << 20, 1 << 24, tmp_path)
        monkeypatch.setattr(owner, name, exhausted)
        filled(pixels, masks, maps, 5, lambda maps: torch.from_numpy(maps).to(where))
        found = measured(pixels)
        told = pixels.remarks()
        pixels.release()
    assert_equal(found, expected)
    assert later < len(calls) < later + 4, "what has left the device does not try again"
    assert told == [
        f"memory of {where} did not hold the pixels of all maps: they were sorted and counted on "
        "the host"
    ]


def test_other_errors_of_a_device_are_not_tried_again(monkeypatch):
    def broken(*arguments, **named):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    masks, maps = images("ties")
    pixels = DeviceAccumulator(torch.device("cpu"))
    monkeypatch.setattr(torch, "ones_like", broken)
    with pytest.raises(RuntimeError, match="illegal"):
        pixels.update(masks, torch.from_numpy(maps))
    assert pixels.remarks() == []


def test_an_accumulator_gives_results_in_between_and_goes_on():
    masks, maps = images("rare ties")
    pixels = DeviceAccumulator(torch.device("cpu"), 1)
    filled(pixels, masks[:6], torch.from_numpy(maps[:6]), 3)
    between = measured(pixels)
    filled(pixels, masks[6:], torch.from_numpy(maps[6:]), 4)
    assert_equal(between, measured(filled(PixelAccumulator(), masks[:6], maps[:6], 6)))
    assert_equal(measured(pixels), measured(filled(PixelAccumulator(), masks, maps, 12)))
    pixels.release()
    assert pixels.result().undefined["pixel_auroc"] == "there is no pixel"


@pytest.mark.parametrize("flag", [0, 1])
def test_one_class_alone_is_undefined_for_the_same_reason(flag):
    masks, maps = np.full((2, 8, 8), bool(flag)), np.random.default_rng(0).random((2, 8, 8))
    host, device = PixelAccumulator(), DeviceAccumulator(torch.device("cpu"))
    host.update(masks, maps)
    device.update(masks, torch.from_numpy(maps))
    assert device.result() == host.result()


@pytest.mark.parametrize(
    ("masks", "maps"),
    [
        (np.zeros((2, 3, 4)), torch.zeros(2, 4, 3)),
        (np.full((1, 2, 2), 3), torch.zeros(1, 2, 2)),
        (np.zeros((1, 2, 2), bool), torch.tensor([[[0, 1], [torch.nan, 0]]])),
        (np.zeros((1, 2, 2), bool), torch.tensor([[[0, 1], [1e39, 0]]], dtype=torch.float64)),
        (np.zeros((4,), bool), torch.zeros(4)),
    ],
)
def test_what_the_host_refuses_is_refused_in_the_same_words_and_changes_nothing(masks, maps):
    good = images("ties", 3)
    device = DeviceAccumulator(torch.device("cpu"))
    device.update(good[0], torch.from_numpy(good[1]))
    host = PixelAccumulator()
    host.update(*good)
    before = device.result()
    with pytest.raises(MetricInputError) as expected:
        host.update(masks, maps)
    with pytest.raises(MetricInputError) as found:
        device.update(masks, maps)
    assert str(found.value) == str(expected.value)
    assert device.result() == before


def test_runs_leave_the_device_beyond_the_budget_and_come_back_whole(tmp_path):
    masks, maps = images("rare ties", 60)
    pixels = DeviceAccumulator(torch.device("cpu"), 1 << 18, 1 << 15, tmp_path)
    filled(pixels, masks, torch.from_numpy(maps), 7)
    runs = pixels._normal
    on_device = [len(run) // runs._piece for run in runs._on_device]
    assert on_device == [4, 4]  # merged two by two, up to four pieces
    assert 4 * sum(map(len, runs._on_device)) <= 1 << 16
    assert len(runs._file) > 0
    assert_equal(measured(pixels), measured(filled(PixelAccumulator(), masks, maps, 60)))


@pytest.mark.parametrize("lengths", [(0, 3), (7, 0), (5, 5), (100, 1)])
def test_runs_are_merged_in_their_order(lengths):
    rng = np.random.default_rng(0)
    one, other = (torch.tensor(np.sort(rng.integers(0, 9, n))).float() for n in lengths)
    assert torch.equal(merged(one, other, 3), torch.cat([one, other]).sort().values)


def test_a_budget_must_be_positive():
    with pytest.raises(MetricInputError, match="budget_bytes"):
        DeviceAccumulator(torch.device("cpu"), 0)
