"""Thresholds are learned from other images than those that are scored, or a reason says why not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from zsad.bench import create, load_backbone, load_dataset, run
from zsad.bench.errors import ContractError
from zsad.bench.records.maps import read_maps
from zsad.bench.records.record import read_records
from zsad.bench.records.run_folder import maps_path
from zsad.bench.running import thresholds
from zsad.bench.running.dry_run import dry_run
from zsad.bench.running.plan import make_plan
from zsad.bench.training.references import normal_references

LEARNED = ("image_f1_learned", "pixel_f1_learned", "pixel_segf1")
FEW = {"limit": 2, "auxiliary_limit": 2, "gallery": 0, "save_maps": True}
ON_AUXILIARY = "greatest F1 on Synthetic-aux, the auxiliary dataset"


def run_of(out, dataset="synthetic", **settings):
    """The record of CLIP on a few images of a dataset."""
    plan = make_plan(["clip"], [dataset], out=out, **{**FEW, "metrics": LEARNED, **settings})
    run(plan)
    (record,) = read_records(out)
    assert record.error is None
    return record


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    """A run on the built-in set, and its record."""
    out = tmp_path_factory.mktemp("target")
    return out, run_of(out)


def answers_of(out, record):
    """Labels and scores of all images of a record, and its masks and maps."""
    kept = [read_maps(maps_path(out, record.cell, r.category)) for r in record.categories]
    images = [r.images for r in record.categories]
    return (
        np.concatenate([i.labels for i in images]),
        np.concatenate([i.scores for i in images]),
        np.concatenate([masks.ravel() for _, masks in kept]),
        np.concatenate([maps.ravel() for maps, _ in kept]),
    )


def best_f1(labels, scores, most=60):
    """The greatest F1 at some of the scores as thresholds, and the greatest threshold of it."""
    tried = np.unique(np.quantile(scores, np.linspace(0, 1, most), method="nearest"))
    return max((f1_by_counting(labels, scores, threshold), threshold) for threshold in tried)


def f1_by_counting(labels, scores, threshold):
    reported = scores >= threshold
    return 2 * np.sum(reported & (labels == 1)) / (np.sum(reported) + np.sum(labels == 1))


def test_the_threshold_is_the_best_one_on_the_auxiliary_dataset(target, tmp_path):
    _, record = target
    auxiliary = run_of(tmp_path, "synthetic-aux", metrics=())
    labels, scores, masks, maps = answers_of(tmp_path, auxiliary)
    first = record.categories[0].thresholds
    assert {first[name].source for name in LEARNED[:2]} == {ON_AUXILIARY}
    assert first["image_f1_learned"].value == best_f1(labels, scores, len(scores))[1]
    best = f1_by_counting(masks, maps, first["pixel_f1_learned"].value)
    assert best >= best_f1(masks, maps)[0] > 0
    for result in record.categories:  # one for the whole auxiliary dataset
        assert result.thresholds["image_f1_learned"] == first["image_f1_learned"]


def test_f1_scores_are_those_at_the_thresholds(target):
    out, record = target
    for result in record.categories:
        maps, masks = read_maps(maps_path(out, record.cell, result.category))
        at = {name: threshold.value for name, threshold in result.thresholds.items()}
        images = np.asarray(result.images.scores) >= at["image_f1_learned"]
        flat = masks.ravel(), maps.astype(np.float64).ravel()
        expected = {
            "image_f1_learned": f1_score(result.images.labels, images),
            "pixel_f1_learned": f1_score(flat[0], flat[1] >= at["pixel_f1_learned"]),
            "pixel_segf1": f1_score(flat[0], flat[1] >= at["pixel_segf1"]),
        }
        assert dict(result.metrics) == pytest.approx(expected, abs=1e-12)


def test_segf1_takes_normal_training_images_of_the_category(target):
    _, record = target
    method = create("clip", load_backbone("tiny"))
    dataset = load_dataset("synthetic")
    result = record.categories[0]
    shown = normal_references(dataset, result.category, None, 0)[:2]
    images = [dataset.read(sample).image for sample in shown]
    maps = maps_by(method, images, result.class_name)
    threshold = result.thresholds["pixel_segf1"]
    assert threshold.value == pytest.approx(maps.mean() + 3 * maps.std(), abs=1e-5)
    assert "normal training images" in threshold.source


def maps_by(method, images, class_name):
    from zsad.bench.query import Query

    batch = torch.stack([method.preprocess(image) for image in images])
    query = Query.encoded(method, batch, [class_name] * len(images))
    with torch.no_grad():
        return method.predict(query).maps.double().numpy()


def test_nothing_further_is_scored_unless_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(thresholds, "answered", lambda *_: pytest.fail("scored further images"))
    record = run_of(tmp_path, metrics=())
    found = {name for r in record.categories for name in (*r.metrics, *r.undefined)}
    assert "image_tpr_at_1e2" in found
    assert not found & {*LEARNED}
    assert not (tmp_path / "thresholds").exists()


def test_what_was_learned_on_the_auxiliary_dataset_is_kept(target, tmp_path, monkeypatch):
    out, record = target
    (tmp_path / "thresholds").mkdir()
    for file in (out / "thresholds").iterdir():
        (tmp_path / "thresholds" / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(
        thresholds.ThresholdLearning, "_learned_on_normal", lambda _, __, all_: dict.fromkeys(
            [one.cell for one in all_], "not asked for"
        )
    )  # fmt: skip
    monkeypatch.setattr(thresholds, "answered", lambda *_: pytest.fail("scored again"))
    again = run_of(tmp_path)
    for old, new in zip(record.categories, again.categories, strict=True):
        assert new.thresholds["image_f1_learned"] == old.thresholds["image_f1_learned"]
        assert new.undefined["pixel_segf1"] == "no threshold: not asked for"


def test_thresholds_of_other_conditions_are_learned_again(target, tmp_path):
    out, record = target
    (tmp_path / "thresholds").mkdir()
    for file in (out / "thresholds").iterdir():
        other = file.read_text().replace('"backbone": "tiny"', '"backbone": "huge"')
        other = other.replace('"value": ', '"value": 9')
        (tmp_path / "thresholds" / file.name).write_text(other)
    again = run_of(tmp_path)
    assert again.categories[0].thresholds == record.categories[0].thresholds


def test_normal_training_images_stand_in_for_an_auxiliary_dataset_with_tested_images(tmp_path):
    record = run_of(tmp_path, auxiliary="synthetic", metrics=["image_f1_learned"])
    threshold = record.categories[0].thresholds["image_f1_learned"]
    assert threshold.source == (
        "mean + 3 standard deviations of the category's normal training images"
    )


def test_without_other_images_the_reason_is_told(tmp_path, draw_parts, monkeypatch):
    monkeypatch.delenv("ZSAD_DATA", raising=False)
    folder = {"name": "folder", "root": str(draw_parts(tmp_path / "data", "part"))}
    record = run_of(tmp_path / "run", folder)
    (result,) = record.categories
    assert not result.thresholds
    why = result.undefined["image_f1_learned"]
    assert "auxiliary dataset mvtec-ad is not here" in why
    assert "no normal training images" in why
    assert "auxiliary" not in result.undefined["pixel_segf1"]


def test_a_method_that_fails_on_further_images_is_scored_all_the_same(tmp_path, monkeypatch):
    def broken(plan, dataset, samples, prepared_methods, pixels, progress):
        for prepared in prepared_methods:
            prepared.error = ContractError("no answer today")
        return {}

    monkeypatch.setattr(thresholds, "answered", broken)
    record = run_of(tmp_path, metrics=["all", "pixel_segf1"])
    (result, *_) = record.categories
    assert "image_auroc" in result.metrics
    assert "scoring Synthetic failed: no answer today" in result.undefined["pixel_segf1"]


def test_a_plan_tells_which_metrics_score_further_images(tmp_path):
    plan = make_plan(["clip"], out=tmp_path, metrics=["all", "pixel_segf1"])
    view = dry_run(plan)
    assert view.scoring_further == ["pixel_segf1"]
    assert "metrics pixel-segf1 score the auxiliary dataset or normal training" in view.to_text()
    assert "score the auxiliary" not in dry_run(make_plan(["clip"], out=tmp_path)).to_text()


def test_a_mean_and_a_deviation_are_those_of_all_parts(monkeypatch):
    monkeypatch.setattr(thresholds, "_AT_A_TIME", 7)
    rng = np.random.default_rng(0)
    parts = [rng.normal(3, 2, size).astype(np.float32) for size in (20, 1, 33)]
    every = np.concatenate(parts).astype(np.float64)
    assert thresholds.above(parts) == pytest.approx(every.mean() + 3 * every.std(), abs=1e-12)


def test_maps_are_taken_from_any_device():
    maps = torch.rand(2, 4, 4)
    masks = np.zeros((2, 4, 4), bool)
    with thresholds._OnHost() as pixels:
        pixels.update(masks, maps)
        pixels.update(masks, maps.numpy())
        assert pixels.counts().ranks.n_normal == 64
