"""PatchCore and RD4AD through anomalib: what they learn from, answer, and lack."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench import create, predict_images, run
from zsad.bench.analysis.tables import make_table
from zsad.bench.errors import UsageError, WeightsError
from zsad.bench.predict import encode_pictures
from zsad.bench.records.record import read_records
from zsad.bench.registry import method_class
from zsad.bench.running.dry_run import dry_run
from zsad.bench.running.plan import make_plan
from zsad.bench.track import Track

FULL_SHOT = ("patchcore", "rd4ad")
INTERIOR = slice(20, -20)  # pixels that no border rule of the smoothing reaches


@pytest.fixture(scope="module")
def pictures():
    """Seven noisy pictures of one ground; the last has a bright patch."""
    numbers = np.random.default_rng(5)
    ground = np.asarray(
        Image.fromarray(numbers.integers(60, 140, (6, 6, 3)).astype(np.uint8)).resize((96, 96))
    )
    noise = numbers.normal(0, 4, (7, 96, 96, 3))
    found = np.clip(ground + noise, 0, 255).astype(np.uint8)
    found[6, 30:60, 40:70] = 250
    return list(found)


@pytest.mark.parametrize("name", FULL_SHOT)
def test_a_class_says_what_it_is_without_anomalib(name):
    code = (
        "import sys\n"
        "sys.modules['anomalib'] = None\n"
        "from zsad.bench.registry import method_class\n"
        f"cls = method_class({name!r})\n"
        "assert cls.track == 'full-shot' and not cls.in_benchmark\n"
        "heavy = [m for m in ('lightning', 'timm', 'kornia') if m in sys.modules]\n"
        "print(cls.title, heavy)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout == f"{method_class(name).title} []\n", answer.stderr


@pytest.mark.parametrize("name", FULL_SHOT)
def test_without_anomalib_the_extra_is_named_and_all_known_goes_on(name, tiny, monkeypatch, caplog):
    monkeypatch.setattr("zsad.bench.packages.find_spec", lambda module: None)
    with pytest.raises(UsageError, match=r"needs anomalib.*pip install 'zsad\[full-shot\]'"):
        create(name, tiny)
    missing = dry_run(make_plan([name], limit=1)).missing
    assert any("zsad[full-shot]" in thing.line for thing in missing)
    known = {method.name for method in make_plan(["all-known"]).methods}
    assert not known & set(FULL_SHOT)
    assert f"method '{name}' needs anomalib" in caplog.text


def test_anomalib_is_imported_when_a_method_is_created(tiny, small_options):
    code = (
        "import sys\n"
        "from zsad.bench import create, load_backbone\n"
        "backbone = load_backbone('tiny', pretrained='random')\n"
        "before = 'anomalib' in sys.modules\n"
        f"create('patchcore', backbone, **{small_options('patchcore')!r})\n"
        "print(before, 'anomalib' in sys.modules)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout == "False True\n", answer.stderr


def test_weights_that_cannot_be_downloaded_are_named_with_the_fix(tiny, small_options, monkeypatch):
    def offline(*arguments, **settings):
        raise ConnectionError("no route to the hub")

    own = {**small_options("patchcore"), "pre_trained": True}
    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(WeightsError, match=r"resnet18.*no route.*pre_trained=false"):
        create("patchcore", tiny, **own)


@pytest.mark.parametrize("name", FULL_SHOT)
def test_no_weights_of_clip_are_asked_for(name):
    assert dry_run(make_plan([name], backbone="published", limit=1)).missing == []


def test_published_numbers_are_of_weights_learned_on_imagenet():
    for name in FULL_SHOT:
        chosen = method_class(name).variants["anomalib"]
        assert (chosen.network, chosen.pre_trained) == ("wide_resnet50_2", True)


@pytest.mark.parametrize("name", FULL_SHOT)
def test_the_odd_picture_is_found_where_it_is_odd(name, tiny, small_options, pictures):
    learned = {"epochs": 15, "batch_size": 4} if name == "rd4ad" else {}
    method = create(name, tiny, **{**small_options(name), **learned})
    found = predict_images(method, pictures[4:], "tile", references=pictures[:4])
    assert found.scores.argmax() == 2
    row, column = divmod(int(found.maps[2].argmax()), method.map_size)
    assert 30 <= row * 96 / method.map_size < 60
    assert 40 <= column * 96 / method.map_size < 70


@pytest.mark.parametrize("name", FULL_SHOT)
def test_the_seed_draws_and_the_last_category_leaves_nothing(name, tiny, small_options, pictures):
    def answer(seed, *categories):
        method = create(name, tiny, seed=seed, **small_options(name))
        for references in categories:
            found = predict_images(method, pictures[4:], "tile", references=references)
        return found.scores

    own, other = pictures[:4], pictures[2:6]
    once = answer(1, own)
    assert torch.equal(once, answer(1, own))
    assert torch.equal(once, answer(1, other, own))
    assert not torch.equal(once, answer(2, own))


def test_patchcore_answers_as_anomalib_does_by_itself(tiny, small_options, pictures):
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel

    method = create("patchcore", tiny, **{**small_options("patchcore"), "image_size": 96})
    found = predict_images(method, pictures[4:], "tile", references=pictures[:4])
    theirs = PatchcoreModel(("layer2", "layer3"), "resnet18", pre_trained=False).eval()
    theirs.load_state_dict(
        {**theirs.state_dict(), **method.network.state_dict()}  # theirs smooth, ours does not
    )
    query = encode_pictures(method, [Image.fromarray(p) for p in pictures[4:]], ["tile"] * 3)
    with torch.no_grad():
        answer = theirs(query.images)
    torch.testing.assert_close(found.scores, answer.pred_score, rtol=1e-4, atol=1e-5)
    smoothing = method.smoothing_sigma
    assert smoothing == pytest.approx(4 * 96 / 256)
    from zsad.bench.anomaly_maps import smooth

    raw = method.network(query.images).anomaly_map[:, 0]
    ours = smooth(raw, 4.0)[:, INTERIOR, INTERIOR]
    torch.testing.assert_close(
        ours, answer.anomaly_map[:, 0, INTERIOR, INTERIOR], rtol=1e-4, atol=1e-5
    )


def test_equal_patches_are_no_distance_apart_whatever_the_batch():
    from zsad.methods.patchcore import distances

    features = 30 + torch.randn(64, 384, generator=torch.Generator().manual_seed(0))
    whole = distances(features, features)
    assert whole.diagonal().max() < 1e-4
    torch.testing.assert_close(distances(features[:7], features), whole[:7], rtol=0, atol=1e-4)


def test_a_size_that_the_network_cannot_halve_is_refused(tiny, small_options):
    own = {**small_options("patchcore"), "image_size": 100}
    with pytest.raises(UsageError, match="multiple of 32, not 100"):
        create("patchcore", tiny, **own)


def test_a_run_shows_them_all_normal_images_in_a_table_of_their_own(tmp_path, small_options):
    methods = [{"name": name, "options": dict(small_options(name))} for name in FULL_SHOT]
    plan = make_plan(
        ["clip", *methods], ["synthetic-parts"], limit=2, seeds=[1, 2], out=tmp_path, gallery=0
    )
    records = read_records(run(plan))
    own = [record for record in records if record.track is Track.FULL_SHOT]
    assert {(r.cell.method, r.cell.seed) for r in own} == {
        (n, s) for n in FULL_SHOT for s in (1, 2)
    }
    assert {record.status for record in records} == {"ok"}
    for record in own:
        assert record.protocol["references"] == 16
        assert record.protocol["backbone"] == "resnet18:random"
    table = make_table(records, "pixel")
    assert [other.track for other in table.other_tracks] == [Track.FULL_SHOT]


@pytest.mark.data
@pytest.mark.skipif("ZSAD_DATA" not in os.environ, reason="needs ZSAD_DATA")
def test_patchcore_runs_on_real_images(tmp_path, small_options):
    method = {"name": "patchcore", "options": {**small_options("patchcore"), "image_size": 128}}
    dataset = {"name": "mvtec-ad", "options": {"categories": ["screw"]}}
    root = os.environ["ZSAD_DATA"]
    plan = make_plan([method], [dataset], data_root=root, limit=2, out=tmp_path, gallery=0)
    (record,) = read_records(run(plan))
    assert record.status == "ok"
    assert {"image_auroc", "pixel_auroc", "pixel_pro"} <= record.by_category["screw"].metrics.keys()
    assert record.protocol["references"] == 1
