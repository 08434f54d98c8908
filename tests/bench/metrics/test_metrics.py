"""The exact metrics against scikit-learn, a threshold-by-threshold PRO and recorded scores.

`recorded/metrics.npz` holds random masks and maps with the scores that the released `metrics.py` of
AnomalyCLIP gave for them.
"""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk
from zsad.bench.errors import ZsadError
from zsad.bench.metric_table import DEFAULT_METRICS, METRICS, of_level
from zsad.bench.metrics import (
    ImageMetrics,
    MetricInputError,
    PixelAccumulator,
    PixelMetrics,
    UndefinedMetric,
    auroc,
    average_precision,
    f1_max,
    image_metrics,
    pixel_formulas,
    pro,
    pro_official200,
    ranks,
    roc_curve_points,
)
from zsad.bench.metrics.mask_regions import regions_of
from zsad.bench.metrics.pixel_counts import count_maps

RECORDED = Path(__file__).with_name("recorded") / "metrics.npz"
VALUES = Path(__file__).with_name("recorded") / "metric_values.json"
PIXEL_FUNCTIONS = {
    "pixel_auroc": auroc,
    "pixel_ap": average_precision,
    "pixel_f1max": f1_max,
    "pixel_pro": pro,
    "pixel_pro_official200": pro_official200,
}
ARRAY_FUNCTIONS = list(PIXEL_FUNCTIONS.values())
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def recorded():
    with np.load(RECORDED) as arrays:
        return dict(arrays)


# --- what the tests hold the metrics to: slow and plain ---


def regions_by_flood_fill(mask):
    """The 8-connected regions of a mask, each a list of (row, column)."""
    todo = {(int(r), int(c)) for r, c in np.argwhere(mask)}
    regions = []
    while todo:
        region, queue = [], deque([todo.pop()])
        while queue:
            row, column = queue.popleft()
            region.append((row, column))
            for near in [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if near in todo:
                    todo.remove(near)
                    queue.append(near)
        regions.append(region)
    return regions


def pro_curve_by_thresholds(masks, maps):
    """Every threshold in turn: false positive rate and mean overlap of the regions."""
    regions = [
        (n, *zip(*r, strict=True)) for n, m in enumerate(masks) for r in regions_by_flood_fill(m)
    ]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        hit = maps >= threshold
        overlap = np.mean(
            [hit[n, list(rows), list(columns)].mean() for n, rows, columns in regions]
        )
        points.append((hit[~masks].mean(), overlap))
    return np.array(points).T


def area_until(fpr, rate, limit):
    area = 0.0
    for x0, x1, y0, y1 in zip(fpr[:-1], fpr[1:], rate[:-1], rate[1:], strict=True):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


def f1_max_by_curve(labels, scores):
    precision, recall, _ = sk.precision_recall_curve(labels, scores)
    found = precision + recall > 0
    return np.max(2 * precision[found] * recall[found] / (precision[found] + recall[found]))


def released_pro(masks, maps, steps=200, limit=0.3):
    """The released recipe written out, one threshold at a time."""
    regions = [
        (n, *zip(*r, strict=True)) for n, m in enumerate(masks) for r in regions_by_flood_fill(m)
    ]
    low, high = maps.min(), maps.max()
    points = []
    for threshold in np.arange(low, high, (high - low) / steps):
        hit = maps.astype(np.float64) > threshold
        overlap = np.mean(
            [hit[n, list(rows), list(columns)].mean() for n, rows, columns in regions]
        )
        points.append((hit[~masks].mean(), overlap))
    fpr, overlap = np.array(points).T
    fpr, overlap = fpr[fpr < limit], overlap[fpr < limit]
    return sk.auc((fpr - fpr.min()) / (fpr.max() - fpr.min()), overlap)


# --- strategies ---


@st.composite
def labelled_scores(draw, dtype=np.float64):
    """Labels of both classes and few distinct scores, so that ties are many."""
    n = draw(st.integers(2, 80))
    labels = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 1)))
    labels[0], labels[-1] = 0, 1
    levels = draw(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=12))
    ranks = draw(hnp.arrays(np.int64, n, elements=st.integers(0, len(levels) - 1)))
    return labels, np.array(levels, dtype=dtype)[ranks]


@st.composite
def ranked_masks(draw, max_level=9):
    """Masks with both classes and, per pixel, the number of its level on some scale [N, H, W]."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(2, 7), st.integers(2, 7)))
    masks = draw(hnp.arrays(bool, shape))
    masks[0, 0, 0], masks[-1, -1, -1] = True, False
    levels = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, max_level)))
    return masks, levels


# --- equality with scikit-learn ---


@quick
@given(labelled_scores())
def test_auroc_equals_scikit_learn_with_heavy_ties(case):
    assert auroc(*case) == pytest.approx(sk.roc_auc_score(*case), abs=1e-12)


@quick
@given(labelled_scores())
def test_average_precision_equals_scikit_learn_with_heavy_ties(case):
    expected = sk.average_precision_score(*case)
    assert average_precision(*case) == pytest.approx(expected, abs=1e-12)


@quick
@given(labelled_scores())
def test_f1_max_is_the_best_point_of_the_precision_recall_curve(case):
    assert f1_max(*case) == pytest.approx(f1_max_by_curve(*case), abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_pixels_of_any_dtype_equal_scikit_learn(dtype):
    rng = np.random.default_rng(3)
    masks = rng.random((3, 40, 50)) < 0.2
    maps = (rng.normal(size=masks.shape) * 40 + 30 * masks).astype(dtype)
    flat = masks.ravel(), maps.ravel()
    assert auroc(masks, maps) == pytest.approx(sk.roc_auc_score(*flat), abs=1e-12)
    assert average_precision(masks, maps) == pytest.approx(
        sk.average_precision_score(*flat), abs=1e-12
    )
    assert f1_max(masks, maps) == pytest.approx(f1_max_by_curve(*flat), abs=1e-12)


def test_scores_that_differ_in_float64_only_are_told_apart():
    labels, scores = [0, 1], [1.0, 1.0 + 1e-12]
    assert auroc(labels, scores) == 1.0
    assert auroc(labels, np.float32(scores)) == 0.5


def test_metrics_do_not_depend_on_how_many_rows_are_summed_at_a_time(monkeypatch):
    rng = np.random.default_rng(4)
    masks = rng.random((2, 15, 15)) < 0.3
    maps = np.round(rng.normal(size=masks.shape) + masks, 1)
    whole = [metric(masks, maps) for metric in ARRAY_FUNCTIONS]
    monkeypatch.setattr(ranks, "_ROWS_AT_A_TIME", 7)
    sliced = [metric(masks, maps) for metric in ARRAY_FUNCTIONS]
    assert sliced == pytest.approx(whole, abs=1e-12)


# --- PRO ---


@quick
@given(ranked_masks(), st.sampled_from([0.05, 0.3, 1 / 3, 0.5, 1.0]))
def test_pro_equals_the_sum_over_all_thresholds(case, limit):
    masks, levels = case
    expected = area_until(*pro_curve_by_thresholds(masks, levels), limit)
    assert pro(masks, levels, fpr_limit=limit) == pytest.approx(expected, abs=1e-9)


@quick
@given(ranked_masks(max_level=10_000))
def test_pro_equals_the_sum_over_all_thresholds_when_ties_are_rare(case):
    masks, levels = case
    expected = area_until(*pro_curve_by_thresholds(masks, levels), 0.3)
    assert pro(masks, levels) == pytest.approx(expected, abs=1e-9)


@quick
@given(
    ranked_masks(),
    st.sets(st.floats(-1e6, 1e6, width=32), min_size=10, max_size=10),
    st.sampled_from([np.float32, np.float64]),
)
def test_exact_metrics_are_invariant_under_monotone_transforms(case, scale, dtype):
    masks, levels = case
    maps = np.array(sorted(scale), dtype=dtype)[levels]  # one float per level, strictly rising
    for metric in (auroc, average_precision, f1_max, pro):
        assert metric(masks, maps) == metric(masks, levels)


def test_pro_weighs_every_region_alike():
    masks = np.zeros((1, 10, 10), bool)
    masks[0, :5, :5] = True  # 25 pixels, found
    masks[0, 9, 9] = True  # 1 pixel, missed
    maps = np.zeros((1, 10, 10))
    maps[0, :5, :5] = 1.0
    # Half of the regions at no false alarm, then a slope to the corner (1, 1).
    assert pro(masks, maps) == pytest.approx(0.5 + 0.5 * 0.3 / 2, abs=1e-12)


def test_pixels_that_touch_by_a_corner_are_one_region():
    corner = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 0]]])
    gap = np.array([[[1, 0, 0], [0, 0, 0], [0, 1, 1]]])
    found_first = np.array([[[9.0, 1, 1], [1, 0, 1], [1, 0, 0]]])
    assert pro(corner, found_first) == pytest.approx(0.5, abs=1e-12)
    masks = np.concatenate([corner, gap])  # sizes 2, 1 and 2
    maps = np.zeros(masks.shape)
    maps[0, 0, 0] = 1.0
    curve = pro_curve_by_thresholds(masks.astype(bool), maps)
    assert curve[1][1] == pytest.approx(1 / 6)
    assert pro(masks, maps) == pytest.approx(area_until(*curve, 0.3), abs=1e-12)


def test_regions_of_neighbouring_images_do_not_join():
    masks = np.zeros((2, 4, 4), bool)
    masks[0, :, 0] = True  # 4 pixels
    masks[1, 0, 0] = True  # 1 pixel, "after" one of the first image
    maps = np.zeros(masks.shape)
    maps[1, 0, 0] = 1.0
    assert pro(masks, maps, fpr_limit=1.0) == pytest.approx(0.75, abs=1e-12)


@pytest.mark.parametrize("limit", [0, -0.1, 1.01, float("nan")])
def test_pro_refuses_a_limit_outside_of_its_range(limit):
    with pytest.raises(MetricInputError, match="fpr_limit"):
        pro([[0, 1]], [[0.0, 1.0]], fpr_limit=limit)


# --- PRO of the released codes ---


@pytest.mark.parametrize("ties", ["", "_ties"])
def test_pro_official200_equals_the_recorded_scores(recorded, ties):
    masks, maps = recorded["masks"], recorded[f"maps{ties}"]
    cases = {
        "pixel_aupro": pro_official200(masks.astype(np.float32), maps),
        "pixel_aupro_intmask": pro_official200(masks.astype(np.int64), maps),
        "pixel_aupro_f64map": pro_official200(masks, maps.astype(np.float64)),
        "pixel_aupro_step50_fpr0.1": pixel_formulas.released_pro(
            count_maps(masks, maps), steps=50, fpr_limit=0.1
        ),
    }
    for name, value in cases.items():
        assert value == pytest.approx(recorded[f"{name}{ties}"].item(), abs=1e-12), name


def test_the_recorded_scores_tell_the_dtypes_of_thresholds_apart(recorded):
    difference = recorded["pixel_aupro"] - recorded["pixel_aupro_f64map"]
    assert abs(difference) > 1e-7


def test_pro_official200_of_some_images_equals_the_recorded_scores(recorded):
    masks, maps = recorded["masks"], recorded["maps"]
    third = recorded["pixel_aupro_img3"].item()
    pair = recorded["pixel_aupro_img0_5"].item()
    assert pro_official200(masks[3], maps[3]) == pytest.approx(third, abs=1e-12)
    assert pro_official200(masks[[0, 5]], maps[[0, 5]]) == pytest.approx(pair, abs=1e-12)


def test_pro_official200_is_undefined_where_the_recorded_score_is_nan(recorded):
    normal = recorded["labels"] == 0
    assert np.isnan(recorded["pixel_aupro_only_normal"])
    with pytest.raises(UndefinedMetric, match="no anomalous pixel"):
        pro_official200(recorded["masks"][normal], recorded["maps"][normal])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(5))
def test_pro_official200_equals_the_recipe_written_out(seed, dtype):
    rng = np.random.default_rng(seed)
    masks = rng.random((2, 12, 15)) < 0.15
    maps = np.round(rng.normal(size=masks.shape) + masks, seed % 3 + 1).astype(dtype)
    assert pro_official200(masks, maps) == pytest.approx(released_pro(masks, maps), abs=1e-12)


def test_pro_official200_tells_scores_from_thresholds_that_float32_cannot():
    rng = np.random.default_rng(2)
    step = np.float32(1) / 200
    on_thresholds = (np.arange(200) * np.float64(step)).astype(np.float32)
    maps = rng.choice(np.append(on_thresholds, np.float32(1)), size=(2, 40, 40))
    maps[0, 0, :2] = 0, 1
    masks = rng.random(maps.shape) < maps * 0.5
    assert pro_official200(masks, maps) == pytest.approx(released_pro(masks, maps), abs=1e-12)


def test_the_other_recorded_metrics_are_met(recorded):
    for ties in ("", "_ties"):
        pixels = recorded["masks"], recorded[f"maps{ties}"]
        images = recorded["labels"], recorded[f"scores{ties}"]
        for name, metric in [("auroc", auroc), ("ap", average_precision), ("f1max", f1_max)]:
            pixel, image = recorded[f"pixel_{name}{ties}"], recorded[f"image_{name}{ties}"]
            assert metric(*pixels) == pytest.approx(pixel.item(), abs=1e-12)
            assert metric(*images) == pytest.approx(image.item(), abs=1e-12)


# --- versions ---


def test_no_value_moves_without_another_version_of_its_metric(drawn_metrics):
    """The code of the metrics is part of no identity: a version is all that tells two apart.

    ZSAD_UPDATE_GOLDEN=1 writes the values of new versions and of new metrics.
    """
    golden = json.loads(VALUES.read_text(encoding="utf-8"))
    found = {
        name: {"version": METRICS[name].version, "value": value}
        for name, value in drawn_metrics.items()
    }
    assert found.keys() == METRICS.keys()
    if os.environ.get("ZSAD_UPDATE_GOLDEN"):
        kept = {n: v for n, v in golden.items() if v["version"] == METRICS[n].version}
        VALUES.write_text(json.dumps({**found, **kept}, indent=1) + "\n", encoding="utf-8")
        golden = {**found, **kept}
    assert golden.keys() == METRICS.keys()
    for name, now in found.items():
        assert golden[name]["version"] == now["version"]
        assert now["value"] == pytest.approx(golden[name]["value"], abs=1e-12), (
            f"{name} moved: raise its version in metric_table.py if that was meant"
        )


@pytest.fixture
def drawn_metrics(recorded):
    """All metrics of recorded scores, and of recorded maps beside normal images of one size."""
    names = dict.fromkeys(METRICS)
    at = {"image_f1_learned": 0.5, "pixel_f1_learned": 0.5, "pixel_segf1": 0.75}
    images = image_metrics(recorded["labels"], recorded["scores"], names, at)
    masks, maps = recorded["masks"].astype(bool), recorded["maps"]
    normal = np.sort(maps.ravel())[: maps.size // 2].reshape(-1, *maps.shape[1:])
    with PixelAccumulator() as pixels:
        pixels.update(masks, maps)
        for shift in range(20):
            pixels.update(np.zeros(normal.shape, bool), np.roll(normal, shift, axis=0))
        found = pixels.result(names, at)
    return {**images.defined(), **found.defined()}


# --- undefined metrics ---


@pytest.mark.parametrize("metric", ARRAY_FUNCTIONS)
@pytest.mark.parametrize(("flag", "missing"), [(0, "anomalous"), (1, "normal")])
def test_one_class_alone_is_undefined(metric, flag, missing):
    with pytest.raises(UndefinedMetric, match=f"no {missing}"):
        metric(np.full((2, 3, 4), flag), np.arange(24.0).reshape(2, 3, 4))


@pytest.mark.parametrize("metric", ARRAY_FUNCTIONS)
def test_nothing_is_undefined_too(metric):
    with pytest.raises(UndefinedMetric, match="there is no"):
        metric(np.zeros((0, 3, 4)), np.zeros((0, 3, 4)))


def test_a_constant_map_leaves_only_the_released_pro_undefined():
    masks = np.zeros((1, 4, 5))
    masks[0, 1, 1:3] = 1
    maps = np.full(masks.shape, 0.5, np.float32)
    with PixelAccumulator() as pixels:
        pixels.update(masks, maps)
        result = pixels.result()
    assert result.pixel_auroc == 0.5
    assert result.pixel_pro == pytest.approx(0.15, abs=1e-12)
    assert result.pixel_ap == pytest.approx(0.1, abs=1e-12)
    assert result.pixel_pro_official200 is None
    lacking = {"pixel_pro_official200", "pixel_aupimo", "pixel_recall_small", "pixel_recall_medium"}
    assert set(result.undefined) == lacking
    assert "no thresholds" in result.undefined["pixel_pro_official200"]


def test_the_released_pro_is_undefined_when_no_threshold_is_under_its_limit():
    masks = np.array([[[1, 0, 0]]])
    with pytest.raises(UndefinedMetric, match=r"under 0\.3"):
        pro_official200(masks, np.array([[[0.0, 1.0, 1.0]]]))


def test_the_released_pro_is_undefined_when_the_maps_span_more_than_their_dtype():
    largest = np.finfo(np.float32).max
    with pytest.raises(UndefinedMetric, match="span more than float32"):
        pro_official200([[1, 0, 0]], np.array([[largest, 0, -largest]], np.float32))


def test_results_name_what_is_absent_and_why():
    images = image_metrics([0, 0], [0.1, 0.2])
    reasons = dict.fromkeys(of_level("image", DEFAULT_METRICS), "there is no anomalous image")
    assert images == ImageMetrics(undefined=reasons)
    assert images.defined() == {}
    pixels = PixelAccumulator().result()
    assert pixels.defined() == {}
    assert pixels.undefined == dict.fromkeys(
        of_level("pixel", DEFAULT_METRICS), "there is no pixel"
    )


def test_an_undefined_metric_is_a_value_error_of_ours():
    assert issubclass(UndefinedMetric, ValueError)
    assert issubclass(UndefinedMetric, ZsadError)
    assert issubclass(MetricInputError, ValueError)
    assert issubclass(MetricInputError, ZsadError)


def test_image_metrics_equal_the_array_functions():
    labels, scores = [0, 1, 1, 0, 1], [0.2, 0.2, 0.9, 0.4, 0.3]
    assert image_metrics(labels, scores, ("image_auroc", "image_ap", "image_f1max")).defined() == {
        "image_auroc": auroc(labels, scores),
        "image_ap": average_precision(labels, scores),
        "image_f1max": f1_max(labels, scores),
    }


# --- bad input ---


@pytest.mark.parametrize("metric", [*ARRAY_FUNCTIONS, PixelAccumulator().update])
@pytest.mark.parametrize(
    ("value", "name"), [(np.nan, "1 NaN"), (np.inf, "1 infinite"), (-np.inf, "1 infinite")]
)
def test_scores_that_are_not_finite_are_refused_by_name(metric, value, name):
    masks, maps = np.zeros((3, 2, 2)), np.zeros((3, 2, 2), np.float32)
    masks[0, 0, 0] = 1
    maps[1, 1, 0] = value
    with pytest.raises(MetricInputError, match=rf"{name} values, first at index 1 \(1 of 3\)"):
        metric(masks, maps)


def test_image_scores_that_are_not_finite_are_refused_by_name():
    with pytest.raises(MetricInputError, match="1 NaN and 2 infinite values, first at index 1"):
        image_metrics([0, 1, 1, 0], [0.1, np.inf, np.nan, -np.inf])


def test_an_accumulator_counts_refused_images_over_all_updates_and_stays_as_it_was():
    rng = np.random.default_rng(0)
    masks, maps = rng.random((2, 4, 4)) < 0.5, rng.random((2, 4, 4))
    pixels = PixelAccumulator()
    pixels.update(masks, maps)
    before = pixels.result()
    bad = maps.copy()
    bad[1, 0, 0] = 1e39  # finite, but not in float32
    with pytest.raises(MetricInputError, match="1 infinite values, first at index 3"):
        pixels.update(masks, bad)
    assert pixels.result() == before


@pytest.mark.parametrize("metric", [*ARRAY_FUNCTIONS, PixelAccumulator().update])
def test_shapes_that_differ_are_refused_with_both_shapes(metric):
    with pytest.raises(MetricInputError, match=r"\(2, 3, 4\).*\(2, 4, 3\)"):
        metric(np.zeros((2, 3, 4)), np.zeros((2, 4, 3)))


@pytest.mark.parametrize("metric", [pro, pro_official200, PixelAccumulator().update])
@pytest.mark.parametrize("shape", [(4,), (1, 1, 2, 2)])
def test_masks_and_maps_must_be_images(metric, shape):
    with pytest.raises(MetricInputError, match=r"\[N, H, W\]"):
        metric(np.zeros(shape), np.zeros(shape))


@pytest.mark.parametrize("metric", [*ARRAY_FUNCTIONS, PixelAccumulator().update])
@pytest.mark.parametrize("value", [255, 0.5, -1, np.nan])
def test_masks_that_are_not_binary_are_refused(metric, value):
    with pytest.raises(MetricInputError, match="must be 0 or 1, found"):
        metric(np.array([[[0, value]]]), np.zeros((1, 1, 2)))


def test_a_budget_must_be_positive():
    with pytest.raises(MetricInputError, match="budget_bytes"):
        PixelAccumulator(budget_bytes=0)


# --- accumulator ---


def accumulated(batches, **options) -> PixelMetrics:
    with PixelAccumulator(**options) as pixels:
        for masks, maps in batches:
            pixels.update(masks, maps)
        return pixels.result()


def test_regions_that_are_known_change_nothing(recorded):
    masks, maps = recorded["masks"].astype(bool), recorded["maps_ties"]
    with PixelAccumulator() as pixels:
        pixels.update(masks, maps, [regions_of(mask) for mask in masks])
        assert pixels.result() == accumulated([(masks, maps)])
        with pytest.raises(MetricInputError, match="regions of 1 masks came with 12 masks"):
            pixels.update(masks, maps, [regions_of(masks[0])])


def batches_of(recorded, size, order=None):
    order = np.arange(12) if order is None else order
    for start in range(0, 12, size):
        chosen = order[start : start + size]
        yield recorded["masks"][chosen], recorded["maps_ties"][chosen]


def test_the_accumulator_equals_the_array_functions(recorded):
    for maps in (recorded["maps"], recorded["maps_ties"]):
        result = accumulated([(recorded["masks"], maps)])
        for name, function in PIXEL_FUNCTIONS.items():
            assert getattr(result, name) == function(recorded["masks"], maps), name
        assert not result.undefined.keys() & PIXEL_FUNCTIONS.keys()


@quick
@given(ranked_masks(max_level=4))
def test_the_accumulator_equals_the_array_functions_on_small_maps(case):
    masks, levels = case
    maps = levels.astype(np.float32)
    result = accumulated([(masks, maps)])
    for name, function in PIXEL_FUNCTIONS.items():
        if name in result.undefined:
            with pytest.raises(UndefinedMetric, match=result.undefined[name]):
                function(masks, maps)
        else:
            assert getattr(result, name) == function(masks, maps), name


@pytest.mark.parametrize("size", [1, 5, 12])
@pytest.mark.parametrize("shuffled", [False, True])
def test_the_result_depends_neither_on_batching_nor_on_order(recorded, size, shuffled):
    order = np.random.default_rng(size).permutation(12) if shuffled else np.arange(12)
    whole = accumulated(batches_of(recorded, 12))
    assert accumulated(batches_of(recorded, size, order)) == whole


def test_rounding_does_not_depend_on_the_order_of_images_with_tied_scores():
    rng = np.random.default_rng(6)
    masks = rng.random((20, 25, 25)) < 0.3
    maps = rng.integers(0, 2, masks.shape).astype(np.float32)
    orders = [rng.permutation(20) for _ in range(10)]
    results = [accumulated([(masks[order], maps[order])]) for order in orders]
    assert all(result == results[0] for result in results)


def test_the_result_is_the_same_spilled_or_in_memory(recorded, tmp_path):
    in_memory = accumulated(batches_of(recorded, 2))
    with PixelAccumulator(budget_bytes=1, spill_dir=tmp_path) as pixels:
        for masks, maps in batches_of(recorded, 2):
            pixels.update(masks, maps)
        assert len(list(pixels._normal._file.runs())) >= 2  # else this test would prove nothing
        assert pixels._normal._buffer.nbytes <= 1 << 18
        assert pixels.result() == in_memory
        assert pixels.roc_curve().fpr[-1] == 1.0
    assert list(tmp_path.iterdir()) == []


def test_an_image_larger_than_the_budget_is_spilled_in_pieces(tmp_path):
    rng = np.random.default_rng(5)
    masks = rng.random((1, 600, 600)) < 0.01
    maps = rng.random(masks.shape, dtype=np.float32)
    result = accumulated([(masks, maps)], budget_bytes=1, spill_dir=tmp_path)
    assert result == accumulated([(masks, maps)])


def test_anomalous_pixels_beyond_the_budget_are_spilled(tmp_path):
    rng = np.random.default_rng(6)
    masks = rng.random((4, 300, 300)) < 0.5
    maps = rng.normal(size=masks.shape).round(3).astype(np.float32)
    with PixelAccumulator(budget_bytes=1, spill_dir=tmp_path) as pixels:
        pixels.update(masks[:2], maps[:2])
        pixels.update(masks[2:], maps[2:])
        assert pixels._anomalous.spilled_bytes()
        assert pixels.result() == accumulated([(masks, maps)])


def test_a_spill_folder_that_is_not_there_is_named(tmp_path):
    pixels = PixelAccumulator(budget_bytes=1, spill_dir=tmp_path / "absent")
    with pytest.raises(ZsadError, match=r"absent.*spill_dir"):
        pixels.update(np.zeros((1, 300, 300)), np.zeros((1, 300, 300)))


def test_images_may_be_added_after_a_result(recorded, tmp_path):
    whole = accumulated(batches_of(recorded, 12))
    for budget in (1, 1 << 30):
        with PixelAccumulator(budget_bytes=budget, spill_dir=tmp_path) as pixels:
            for masks, maps in batches_of(recorded, 3):
                pixels.update(masks, maps)
                partial = pixels.result()
            assert partial == whole


def test_images_of_several_sizes_and_single_images_are_pooled():
    rng = np.random.default_rng(7)
    images = [(rng.random(size) < 0.3, rng.random(size)) for size in [(9, 5), (4, 11), (6, 6)]]
    with PixelAccumulator() as pixels:
        for mask, anomaly_map in images:
            pixels.update(mask, anomaly_map)
        result = pixels.result()
    labels = np.concatenate([mask.ravel() for mask, _ in images])
    scores = np.concatenate([m.ravel() for _, m in images]).astype(np.float32)
    assert result.pixel_auroc == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    padded = [np.zeros((2, 3, 11, 11))[i] for i in (0, 1)]
    keep = np.zeros((3, 11, 11), bool)
    for n, (mask, anomaly_map) in enumerate(images):
        keep[n, : mask.shape[0], : mask.shape[1]] = True
        padded[0][n][keep[n]], padded[1][n][keep[n]] = mask.ravel(), anomaly_map.ravel()
    fpr, overlap = pooled_curve(padded[0].astype(bool), padded[1].astype(np.float32), keep)
    assert result.pixel_pro == pytest.approx(area_until(fpr, overlap, 0.3), abs=1e-9)


def pooled_curve(masks, maps, keep):
    """As `pro_curve_by_thresholds`, with normal pixels counted only where `keep`."""
    regions = [
        (n, *zip(*r, strict=True)) for n, m in enumerate(masks) for r in regions_by_flood_fill(m)
    ]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps[keep])[::-1]:
        hit = maps >= threshold
        overlap = np.mean(
            [hit[n, list(rows), list(columns)].mean() for n, rows, columns in regions]
        )
        points.append((hit[keep & ~masks].mean(), overlap))
    return np.array(points).T


def test_release_forgets_everything(recorded):
    pixels = PixelAccumulator()
    pixels.update(recorded["masks"], recorded["maps"])
    pixels.release()
    assert pixels.result().defined() == {}
    pixels.update(recorded["masks"], recorded["maps_ties"])
    assert pixels.result() == accumulated(batches_of(recorded, 12))


# --- curves ---


@pytest.mark.parametrize("limit", [0.1, 1.0])
def test_curves_do_not_depend_on_how_many_rows_are_read_at_a_time(recorded, monkeypatch, limit):
    with PixelAccumulator() as pixels:
        pixels.update(recorded["masks"], recorded["maps_ties"])
        whole = pixels.roc_curve(40), pixels.pro_curve(40, fpr_limit=limit)
        monkeypatch.setattr(ranks, "_ROWS_AT_A_TIME", 3)
        sliced = pixels.roc_curve(40), pixels.pro_curve(40, fpr_limit=limit)
    for one, other in zip(whole, sliced, strict=True):
        assert one.fpr.size > 8  # corners from several slices
        np.testing.assert_allclose(other.fpr, one.fpr, atol=1e-12)
        np.testing.assert_allclose(other.detection_rate, one.detection_rate, atol=1e-12)


@quick
@given(labelled_scores())
def test_a_roc_curve_rises_from_corner_to_corner(case):
    curve = roc_curve_points(*case, max_points=50)
    assert (np.diff(curve.fpr) >= 0).all()
    assert (np.diff(curve.detection_rate) >= 0).all()
    assert (curve.fpr[0], curve.detection_rate[0]) == (0, 0)
    assert (curve.fpr[-1], curve.detection_rate[-1]) == (1, 1)


@quick
@given(labelled_scores(), st.integers(2, 30))
def test_thinned_points_lie_on_the_exact_curve(case, max_points):
    curve = roc_curve_points(*case, max_points=max_points)
    assert 2 <= curve.fpr.size <= max_points
    fpr, tpr, _ = sk.roc_curve(*case, drop_intermediate=False)
    for x, y in zip(curve.fpr, curve.detection_rate, strict=True):
        below, above = np.interp(x, fpr, tpr), tpr[np.searchsorted(fpr, x)]
        assert min(below, above) - 1e-12 <= y <= max(below, above) + 1e-12


def test_a_thinned_curve_keeps_the_area_nearly(recorded):
    with PixelAccumulator() as pixels:
        pixels.update(recorded["masks"], recorded["maps"])
        result = pixels.result()
        roc, overlap = pixels.roc_curve(), pixels.pro_curve()
    assert roc.fpr.size <= 200
    assert sk.auc(roc.fpr, roc.detection_rate) == pytest.approx(result.pixel_auroc, abs=2e-3)
    assert overlap.fpr[-1] == 0.3
    assert sk.auc(overlap.fpr, overlap.detection_rate) / 0.3 == pytest.approx(
        result.pixel_pro, abs=2e-3
    )


def test_the_pro_curve_ends_at_the_limit_by_interpolation():
    masks = np.array([[1, 0, 0, 0, 0]])
    maps = np.array([[0.5, 0.5, 0.5, 0.1, 0.1]])  # one slope, from (0, 0) to (0.5, 1)
    with PixelAccumulator() as pixels:
        pixels.update(masks, maps)
        curve = pixels.pro_curve(fpr_limit=0.3)
    np.testing.assert_allclose(curve.fpr, [0, 0.3])
    np.testing.assert_allclose(curve.detection_rate, [0, 0.6])


def test_curves_refuse_fewer_than_two_points_and_one_class():
    with pytest.raises(MetricInputError, match="max_points"):
        roc_curve_points([0, 1], [0.0, 1.0], max_points=1)
    with pytest.raises(UndefinedMetric, match="no anomalous"):
        roc_curve_points([0, 0], [0.0, 1.0])
    with pytest.raises(UndefinedMetric, match="no pixel"):
        PixelAccumulator().pro_curve()
