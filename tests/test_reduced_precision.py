"""Other precisions of the visual forward move the built-in numbers by a bounded amount.

`benchmarks/precision.py` prints what moves for all methods.
"""

from __future__ import annotations

import pytest
import torch
from zsad.bench import load_run
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import run

QUICK = ("clip", "clip-ac")
# Points that the mean of a dataset may move, over all metrics.
ALLOWED = {"fp16": 0.1, "bf16": 0.5, "tf32": 0.05}
STEP = 0.15  # of image F1, where one image in the whole set crosses a threshold
METRICS = (
    *("image_auroc", "image_ap", "image_f1max"),
    *("pixel_auroc", "pixel_ap", "pixel_f1max", "pixel_pro", "pixel_pro_official200"),
)
KEYS = ["method", "dataset", "category", "metric"]


def scored(methods, out, precision="fp32", device="cpu"):
    """Every metric of every category, in points."""
    run(make_plan(methods, ["synthetic"], out=out, gallery=0, precision=precision, device=device))
    return load_run(out).set_index(KEYS).value * 100


def moves(found, exact):
    """How far the means of the dataset moved, by method and metric of the paper's tables."""
    assert len(found) == len(exact) > 0
    chosen = exact.index.get_level_values("metric").isin(METRICS)
    exact, found = exact[chosen], found.reindex(exact[chosen].index)
    assert (found - exact).abs().max() > 0  # another precision was at work
    return (found - exact).groupby(["method", "metric"]).mean().abs()


def assert_bounded(moved, precision):
    steps = moved.index.get_level_values("metric") == "image_f1max"
    assert moved[~steps].max() <= ALLOWED[precision]
    assert moved[steps].max() <= max(ALLOWED[precision], STEP)


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    return scored(QUICK, tmp_path_factory.mktemp("exact"))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precisions_move_no_mean_far(exact, tmp_path, precision):
    assert_bounded(moves(scored(QUICK, tmp_path, precision), exact), precision)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", sorted(ALLOWED))
def test_precisions_of_a_gpu_move_no_mean_far(tmp_path, precision):
    single = scored(QUICK, tmp_path / "fp32", device="cuda")
    found = scored(QUICK, tmp_path / precision, precision, "cuda")
    assert_bounded(moves(found, single), precision)
