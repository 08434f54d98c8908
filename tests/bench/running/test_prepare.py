"""Methods of a plan are made ready: each learns in the right precision, and while others learn."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench import load_backbone, load_dataset, registry
from zsad.bench.checkpoint import read_header, read_payload
from zsad.bench.conformance import check_method
from zsad.bench.progress import Progress
from zsad.bench.records.record import read_records
from zsad.bench.records.run_folder import lock
from zsad.bench.running.cells import start_run
from zsad.bench.running.identity import Identities
from zsad.bench.running.open_datasets import OpenDatasets
from zsad.bench.running.plan import Plan, make_plan
from zsad.bench.running.prepare import checkpoint_path, prepare, split_of
from zsad.bench.running.runner import run
from zsad.bench.training.trainer import auxiliary_samples, train


@pytest.fixture(autouse=True, scope="module")
def features(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZSAD_FEATURES", str(tmp_path_factory.mktemp("features")))
        yield


def start(plan: Plan) -> None:
    start_run(plan, plan.jobs(), OpenDatasets(plan.limit), Progress())


def plan_for(out: Path, *methods: str, **settings) -> Plan:
    chosen = [{"name": name, "options": {"epochs": 1}} for name in methods]
    plan = make_plan(chosen, out=out, **settings)
    start(plan)
    return plan


def prepared(plan: Plan):
    prepared_methods = prepare(
        plan, load_dataset("synthetic"), plan.jobs(), OpenDatasets(plan.limit), Progress()
    )
    assert [c.error for c in prepared_methods] == [None] * len(prepared_methods)
    return prepared_methods


def test_a_small_backbone_is_learned_from_in_double_and_scored_in_single_precision(tmp_path):
    plan = plan_for(tmp_path, "anomalyclip")
    (evaluated,) = prepared(plan)
    path = checkpoint_path(plan, evaluated.job)
    assert read_header(path)["precision"] == evaluated.protocol["training_precision"] == "fp64"
    assert evaluated.ready.backbone.precision == evaluated.protocol["precision"] == "fp32"
    learned = read_payload(path)
    for name, parameter in evaluated.ready.named_parameters():
        assert learned[name].dtype == torch.float64
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, learned[name].float())


@pytest.mark.parametrize(
    ("precision", "learned_in"), [("fp32", "fp32"), ("bf16", "fp32"), ("fp64", "fp64")]
)
def test_wide_backbones_never_learn_in_less_than_single_precision(
    tmp_path, monkeypatch, precision, learned_in
):
    monkeypatch.setattr("zsad.bench.backbone.SMALL", 1)
    (evaluated,) = prepared(plan_for(tmp_path, "coop", precision=precision))
    assert evaluated.protocol["precision"] == precision
    assert evaluated.protocol["training_precision"] == learned_in
    assert ("reduced" in evaluated.protocol) == (precision == "bf16")


def test_a_method_that_another_process_learns_does_not_hold_up_the_next(tmp_path):
    plan = plan_for(tmp_path, "anomalyclip", "coop")
    first, second = (checkpoint_path(plan, job) for job in plan.jobs())
    with lock(tmp_path, first.stem):
        worker = threading.Thread(target=prepared, args=(plan,))
        worker.start()
        deadline = time.monotonic() + 120
        while not second.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert second.exists()
        assert not first.exists()
    worker.join(timeout=120)
    assert first.exists()


def draw_mvtec(root: Path) -> None:
    """One class with a normal training image, and a normal and an anomalous test image."""
    random = np.random.default_rng(0)
    mask = np.zeros((48, 48), dtype=np.uint8)
    mask[8:24, 8:24] = 255
    pictures = {
        name: random.integers(0, 255, (48, 48, 3), dtype=np.uint8)
        for name in ("train/good/000", "test/good/000", "test/cut/000")
    }
    for name, pixels in {**pictures, "ground_truth/cut/000_mask": mask}.items():
        path = root / "mvtec" / "bottle" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


@pytest.mark.parametrize(("options", "epochs"), [({}, 3), ({"epochs": 15}, 15)])
def test_a_run_trains_by_the_configuration_of_the_auxiliary_dataset(tmp_path, options, epochs):
    draw_mvtec(tmp_path)
    method = {"name": "april_gan", "options": options}
    plan = make_plan([method], out=tmp_path / "run", auxiliary="mvtec-ad", data_root=tmp_path)
    start(plan)
    (evaluated,) = prepared(plan)
    stated = evaluated.protocol
    assert stated["auxiliary"] == "mvtec_ad"
    assert stated["epochs"] == stated["options"]["epochs"] == epochs
    assert stated["options"]["mosaic_rate"] == 0.2
    header = read_header(checkpoint_path(plan, evaluated.job))
    assert (header["epochs"], header["options"]["mosaic_rate"]) == (epochs, "0.2")


def test_train_takes_the_configuration_of_the_auxiliary_dataset(tmp_path):
    draw_mvtec(tmp_path)
    dataset, out = load_dataset("mvtec_ad", tmp_path), tmp_path / "learned.safetensors"
    training = train("april_gan", dataset, load_backbone("tiny"), out)
    assert training.provenance["epochs"] == 3
    assert training.method.options.mosaic_rate == 0.2


def test_datasets_with_another_auxiliary_dataset_have_other_learned_weights(tmp_path):
    plan = make_plan(["april_gan"], ["mvtec-ad", "visa", "elpv"], out=tmp_path)
    on_visa, *on_mvtec = (checkpoint_path(plan, job) for job in plan.jobs())
    assert "on-visa" in on_visa.name
    assert len(set(on_mvtec)) == 1 and "on-mvtec_ad" in on_mvtec[0].name


@pytest.mark.parametrize(
    ("method", "asked", "split", "images"),
    [
        ("faprompt", None, "all", 3),
        ("faprompt", "test", "test", 2),
        ("faprompt@official", None, "test", 2),
        ("faprompt@official", "all", "all", 3),
        ("coop", None, "test", 2),
        ("coop", "all", "all", 3),
    ],
)
def test_the_split_that_is_trained_on_is_the_methods_own_or_the_one_asked_for(
    tmp_path, method, asked, split, images
):
    draw_mvtec(tmp_path)
    name, _, variant = method.partition("@")
    table = {"name": name, "variant": variant or None, "options": {"epochs": 1}}
    how = {"auxiliary": "mvtec_ad", "auxiliary_split": asked, "data_root": tmp_path}
    plan = make_plan([table], out=tmp_path / "run", **how)
    start(plan)
    (evaluated,) = prepared(plan)
    assert evaluated.protocol["auxiliary_split"] == split
    assert evaluated.protocol["options"].get("split", split) == split
    path = checkpoint_path(plan, evaluated.job)
    assert f"on-mvtec_ad-{split}" in path.name
    header = read_header(path)["auxiliary"]
    assert (header["split"], header["images"]) == (split, images)


def test_both_splits_of_the_built_in_auxiliary_set_are_the_same_images():
    plan = make_plan(["faprompt", "coop"])
    samples = load_dataset("synthetic_aux").samples
    assert [split_of(plan, job) for job in plan.jobs()] == ["all", "test"]
    assert [*samples("train"), *samples("test")] == samples("test")


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """docs/add-a-method.md's trainable example as a file of methods/."""
    import zsad.methods

    text = (Path(__file__).parents[3] / "docs" / "add-a-method.md").read_text("utf-8")
    (code,) = (b for b in re.findall(r"```python\n(.*?)```", text, re.S) if "PatchAdapter(T" in b)
    folder = tmp_path / "methods"
    folder.mkdir()
    (folder / "patch_adapter.py").write_text(code)
    monkeypatch.setattr(zsad.methods, "__path__", [*zsad.methods.__path__, str(folder)])
    registry.entries.cache_clear()
    yield registry.method_class("patch_adapter")
    registry.entries.cache_clear()
    del sys.modules["zsad.methods.patch_adapter"]


def test_the_documented_trainable_method_is_trained_and_scored_by_a_run(documented, tmp_path):
    draw_mvtec(tmp_path)
    plan = make_plan(
        ["patch-adapter"],
        ["synthetic"],
        out=tmp_path / "run",
        auxiliary="mvtec_ad",
        data_root=tmp_path,
        limit=1,
    )
    (record,) = read_records(run(plan))
    assert record.error is None
    assert record.protocol["training_precision"] == "fp64"
    assert record.protocol["epochs"] == 3


def test_the_documented_trainable_method_passes_the_kit(documented):
    check_method(documented)


def test_methods_learn_from_the_first_images_of_each_category_and_label(tmp_path):
    plan = plan_for(tmp_path, "coop", auxiliary_limit=2, limit=1)
    (evaluated,) = prepared(plan)
    auxiliary = load_dataset("synthetic-aux")
    few = auxiliary_samples(auxiliary, "test", 2)
    assert Counter((s.category, s.label) for s in few) == {
        (name, label): 2 for name in auxiliary.categories for label in (0, 1)
    }
    header = read_header(checkpoint_path(plan, evaluated.job))
    assert header["auxiliary"]["images"] == len(few)
    assert header["auxiliary"]["fingerprint"] == auxiliary.fingerprint_of(few)
    assert evaluated.protocol["auxiliary_limit"] == 2
    assert evaluated.auxiliary.completeness.limit == 2


def test_a_limit_of_what_is_learned_from_is_part_of_an_identity_only_if_it_is_set(tmp_path):
    few, whole = (plan_for(tmp_path / str(n), "coop", auxiliary_limit=n) for n in (1, None))
    dataset = load_dataset("synthetic")
    found = [Identities(p, OpenDatasets()).of_job(p.jobs()[0], dataset) for p in (few, whole)]
    assert found[0].keys() - found[1].keys() == {"auxiliary limit"}
    assert [n for n in found[1] if found[0][n] != found[1][n]] == ["auxiliary"]
    assert checkpoint_path(few, few.jobs()[0]).name != checkpoint_path(whole, whole.jobs()[0]).name
    assert "auxiliary limit" not in Identities(few, OpenDatasets()).of_job(
        make_plan(["clip"], auxiliary_limit=1).jobs()[0], dataset
    )
