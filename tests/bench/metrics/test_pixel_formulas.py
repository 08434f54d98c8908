"""Rates, AUPIMO, recall of regions and F1 at a threshold, each against plain counting."""

from __future__ import annotations

import json
import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn import metrics as sk
from zsad.bench.metrics import PixelAccumulator, UndefinedMetric, formulas, pixel_formulas, pro
from zsad.bench.metrics.category_metrics import pixel_metrics
from zsad.bench.metrics.pixel_counts import count_maps
from zsad.bench.metrics.ranks import rank_labelled

HERE = Path(__file__).parent
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PIXEL_RANGE = (0.02, 0.6)  # of false positive rates, for maps of a few pixels


@st.composite
def scored_masks(draw, max_level=9):
    """Masks with a normal image and both classes, and maps with many ties [N, H, W]."""
    shape = draw(st.tuples(st.integers(2, 4), st.integers(2, 6), st.integers(2, 6)))
    masks = draw(hnp.arrays(bool, shape))
    masks[0], masks[1, 0, 0], masks[-1, -1, -1] = False, True, False
    levels = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, max_level)))
    return masks, levels.astype(np.float32)


def rates_by_counting(labels, scores):
    """False and true positive rates at every distinct score as a threshold, and above all."""
    thresholds = [*np.unique(scores), np.inf]
    reported = [scores >= threshold for threshold in thresholds]
    return [(r[labels == 0].mean(), r[labels == 1].mean()) for r in reported]


# --- rates ---


@quick
@given(scored_masks(), st.sampled_from([0.001, 0.01, 0.05, 0.25, 0.5]))
def test_the_true_positive_rate_is_the_greatest_within_the_false_positive_rate(case, fpr):
    labels, scores = (part.ravel() for part in case)
    expected = max(y for x, y in rates_by_counting(labels.astype(int), scores) if x <= fpr)
    assert formulas.tpr_at_fpr(rank_labelled(labels, scores), fpr) == expected


@quick
@given(scored_masks(), st.sampled_from([0.5, 0.95, 1.0]))
def test_the_false_positive_rate_is_the_least_that_finds_enough(case, tpr):
    labels, scores = (part.ravel() for part in case)
    expected = min(x for x, y in rates_by_counting(labels.astype(int), scores) if y >= tpr)
    assert formulas.fpr_at_tpr(rank_labelled(labels, scores), tpr) == expected


@pytest.mark.parametrize("n", [100, 300, 2900, 10_000])
def test_a_share_of_exactly_the_false_positive_rate_is_within_it(n):
    scores = np.arange(n + 1.0)
    labels = np.zeros(n + 1)
    labels[n - n // 100] = 1  # exactly 1 % of the normal scores are greater
    ranks = rank_labelled(labels, scores)
    assert formulas.tpr_at_fpr(ranks, 0.01) == 1.0
    assert formulas.tpr_at_fpr(ranks, 0.0099) == 0.0
    assert formulas.fpr_at_tpr(ranks, 0.95) == 0.01


# --- AUPIMO ---


def aupimo_by_thresholds(masks, maps, fpr_range):
    """Each stretch of false positive rates between two of its steps, and each image, in turn."""
    normal = [m.ravel() for mask, m in zip(masks, maps, strict=True) if not mask.any()]
    thresholds = [*np.unique(maps), np.inf]
    shared = [np.mean([(m >= threshold).mean() for m in normal]) for threshold in thresholds]
    low, high = fpr_range
    n = sum(m.size for m in normal)
    edges = [low, *(k / n for k in range(1, n) if low < k / n < high), high]
    scores = []
    for mask, m in zip(masks, maps, strict=True):
        if mask.any():
            area = 0.0
            for start, end in pairwise(edges):
                rate = np.sqrt(start * end)
                lowest = next(t for t, x in zip(thresholds, shared, strict=True) if x <= rate)
                area += (m[mask] >= lowest).mean() * np.log(end / start)
            scores.append(area / np.log(high / low))
    return np.mean(scores)


@quick
@given(scored_masks())
def test_aupimo_equals_the_sum_over_all_thresholds(case):
    found = pixel_formulas.aupimo(count_maps(*case).ranks, PIXEL_RANGE)
    assert found == pytest.approx(aupimo_by_thresholds(*case, PIXEL_RANGE), abs=1e-9)


@quick
@given(scored_masks(max_level=10_000))
def test_aupimo_equals_the_sum_over_all_thresholds_when_ties_are_rare(case):
    found = pixel_formulas.aupimo(count_maps(*case).ranks, PIXEL_RANGE)
    assert found == pytest.approx(aupimo_by_thresholds(*case, PIXEL_RANGE), abs=1e-9)


def aupimo_at_thresholds(masks, maps, count, fpr_range=(1e-5, 1e-4)):
    """The recipe of anomalib, image by image: equal steps, trapezoids over logarithms."""
    normal = [np.sort(m, axis=None) for mask, m in zip(masks, maps, strict=True) if not mask.any()]
    low, high = min(m[0] for m in normal), max(m[-1] for m in normal)
    steps = torch.linspace(float(low), float(high), count).numpy()
    shared = np.mean([1 - np.searchsorted(m, steps) / m.size for m in normal], axis=0)
    last, first = (int(np.argmin(np.abs(shared - bound))) for bound in fpr_range)
    chosen = slice(first, last + 1)
    logs = np.log(shared[chosen][::-1])
    scores = []
    for mask, m in zip(masks, maps, strict=True):
        if mask.any():
            found = np.sort(m[mask])
            rate = 1 - np.searchsorted(found, steps[chosen])[::-1] / found.size
            scores.append(np.trapezoid(rate, logs) / np.log(fpr_range[1] / fpr_range[0]))
    return np.array(scores)


@pytest.fixture(scope="module")
def drawn():
    return runpy.run_path(str(HERE / "aupimo_maps.py"))["drawn_maps"]()


def test_aupimo_at_anomalibs_thresholds_equals_what_it_gave(drawn):
    recorded = json.loads((HERE / "recorded" / "aupimo.json").read_text(encoding="utf-8"))
    found = aupimo_at_thresholds(*drawn, recorded["thresholds"])
    np.testing.assert_allclose(found, recorded["scores"], rtol=0, atol=1e-6)


def test_the_exact_aupimo_is_close_to_anomalibs(drawn):
    recorded = json.loads((HERE / "recorded" / "aupimo.json").read_text(encoding="utf-8"))
    masks, maps = drawn
    normal = ~masks.any(axis=(1, 2))
    for image, expected in zip(np.flatnonzero(~normal), recorded["scores"], strict=True):
        chosen = [*np.flatnonzero(normal), image]
        found = pixel_formulas.aupimo(count_maps(masks[chosen], maps[chosen]).ranks)
        assert found == pytest.approx(expected, abs=1e-3)
    with PixelAccumulator() as pixels:
        pixels.update(masks, maps)
        mean = pixels.result(["pixel_aupimo"]).pixel_aupimo
    assert mean == pytest.approx(np.mean(recorded["scores"]), abs=1e-3)


def test_aupimo_weighs_every_image_alike():
    masks = np.zeros((3, 100, 100), bool)
    masks[1, :50] = True  # 5,000 pixels, found
    masks[2, 0, 0] = True  # 1 pixel, missed
    maps = np.where(masks, [[[0]], [[2]], [[-1]]], np.random.default_rng(0).random(masks.shape))
    assert pixel_formulas.aupimo(count_maps(masks, maps).ranks) == pytest.approx(0.5, abs=1e-12)


def test_aupimo_says_what_it_lacks():
    mask, anomaly_map = np.zeros((90, 100), bool), np.random.default_rng(1).random((90, 100))
    mask[0, 0] = True
    with PixelAccumulator() as pixels:
        pixels.update(mask, anomaly_map)
        assert "no image without" in pixels.result().undefined["pixel_aupimo"]
        pixels.update(~mask & mask, anomaly_map)
        assert "less than one of the 9000" in pixels.result().undefined["pixel_aupimo"]
        pixels.update(np.zeros((80, 100)), anomaly_map[:80])
        assert "several sizes" in pixels.result().undefined["pixel_aupimo"]


# --- recall of regions ---


def recall_by_counting(masks, maps, low, high):
    """Mean share found of the regions with a share of their image in [low, high)."""
    flat = masks.ravel().astype(int), maps.ravel()
    within = [t for t in np.unique(maps) if (flat[1][flat[0] == 0] >= t).mean() <= 0.01]
    threshold = min(within, default=np.inf)
    shares = []
    for mask, m in zip(masks, maps, strict=True):
        regions, count = ndimage.label(mask, np.ones((3, 3)))
        each = [regions == number for number in range(1, count + 1)]
        shares += [
            (m[region] >= threshold).mean()
            for region in each
            if low <= region.sum() / mask.size < high
        ]
    return np.mean(shares) if shares else None


@pytest.mark.parametrize("seed", range(4))
def test_recall_of_regions_equals_counting_region_by_region(seed):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(6, 60, 60)), (0, 1 + seed, 1 + seed))
    masks = smooth > np.quantile(smooth, 0.93)
    masks[0] = False
    maps = np.round(masks + rng.normal(size=masks.shape), 2).astype(np.float32)
    found = pixel_metrics(count_maps(masks, maps))
    for size, span in {
        "small": (0, 1 / 300),
        "medium": (1 / 300, 0.03),
        "large": (0.03, 2),
    }.items():
        expected = recall_by_counting(masks, maps, *span)
        assert found.defined().get(f"pixel_recall_{size}") == pytest.approx(expected, abs=1e-12)
    assert found.pixel_recall_small is not None


def test_a_region_belongs_to_a_size_by_its_share_of_the_image():
    masks = np.zeros((3, 30, 100), bool)
    masks[0, 0, :9], masks[1, 0, :10], masks[2, 0, :90] = True, True, True
    result = pixel_metrics(count_maps(masks, masks.astype(float) + np.arange(3)[:, None, None]))
    recalls = [result.pixel_recall_small, result.pixel_recall_medium, result.pixel_recall_large]
    assert recalls == [0.0, 0.0, 1.0]
    for n, size in enumerate(("small", "medium", "large")):
        kept = [i for i in range(3) if i != n]
        rest = pixel_metrics(count_maps(masks[kept], masks[kept].astype(float)))
        assert rest.undefined[f"pixel_recall_{size}"] == f"there is no {size} region"


# --- F1 at a threshold ---


@quick
@given(scored_masks(), st.floats(-1, 10) | st.integers(-1, 10).map(float))
def test_f1_at_a_threshold_equals_counting(case, threshold):
    masks, maps = case
    expected = sk.f1_score(masks.ravel(), maps.astype(np.float64).ravel() >= threshold)
    assert pixel_formulas.f1_at(count_maps(*case), threshold) == pytest.approx(expected, abs=1e-12)


def test_f1_at_a_threshold_that_float32_cannot_hold():
    maps = np.array([[0.1, 0.1, 0.3, 0.0]], np.float32)  # the float32 of 0.1 is greater than 0.1
    masks = np.array([[1, 0, 1, 0]])
    assert pixel_formulas.f1_at(count_maps(masks, maps), 0.1) == pytest.approx(0.8)
    assert pixel_formulas.f1_at(count_maps(masks, maps), 0.10000001) == pytest.approx(2 / 3)


@quick
@given(scored_masks())
def test_the_best_threshold_is_the_greatest_with_the_greatest_f1(case):
    pixels = count_maps(*case)
    best = formulas.f1_max_threshold(pixels.ranks)
    assert pixel_formulas.f1_at(pixels, best) == formulas.f1_max(pixels.ranks)
    for greater in np.unique(case[1]):
        if greater > best:
            assert pixel_formulas.f1_at(pixels, greater) < formulas.f1_max(pixels.ranks)


def test_pro_is_recorded_at_both_limits():
    rng = np.random.default_rng(2)
    masks = rng.random((3, 20, 20)) < 0.2
    maps = rng.random(masks.shape) + 0.3 * masks
    result = pixel_metrics(count_maps(masks, maps))
    assert result.pixel_pro == pro(masks, maps, 0.3)
    assert result.pixel_pro_05 == pro(masks, maps, 0.05) != result.pixel_pro


@pytest.mark.parametrize("flag", [0, 1])
def test_one_class_alone_leaves_all_of_them_undefined(flag):
    counts = count_maps(np.full((2, 3, 4), flag), np.arange(24.0).reshape(2, 3, 4))
    for metric in (
        lambda: formulas.tpr_at_fpr(counts.ranks, 0.01),
        lambda: formulas.fpr_at_tpr(counts.ranks, 0.95),
        lambda: formulas.f1_max_threshold(counts.ranks),
        lambda: pixel_formulas.aupimo(counts.ranks),
        lambda: pixel_formulas.region_recall(counts, "small"),
        lambda: pixel_formulas.f1_at(counts, 0.5),
    ):
        with pytest.raises(UndefinedMetric, match="there is no"):
            metric()
