"""What the feature cache will take is told before anything is loaded, and is what a run writes."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from zsad.bench import create, load_backbone, load_dataset, registry
from zsad.bench.method import TrainableMethod
from zsad.bench.running import cache_forecast as module
from zsad.bench.running.cache_forecast import cache_forecast
from zsad.bench.running.dry_run import dry_run
from zsad.bench.running.open_datasets import OpenDatasets
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import run
from zsad.bench.training.feature_cache import FeatureCache
from zsad.bench.training.sharded_array import CHECKSUM_BYTES
from zsad.bench.training.trainer import auxiliary_samples
from zsad.bench.weights import RANDOM, outline_backbone

HEADER = 128  # bytes of a small .npy file before its numbers
GRID, WIDTH, JOINT = 37 * 37, 1024, 768  # of ViT-L/14 at 518 px
MVTEC = 1725  # images of its test split
SHORT = {"epochs": 1}
FEW = {"limit": 1, "auxiliary_limit": 1, "gallery": 0}
TRAINABLE = [
    (name, variant)
    for name in registry.names("method")
    if issubclass(cls := registry.method_class(name), TrainableMethod)
    for variant in cls.variants
]


@pytest.fixture
def features(tmp_path, monkeypatch):
    folder = tmp_path / "features"
    monkeypatch.setenv("ZSAD_FEATURES", str(folder))
    return folder


def forecast_of(plan):
    return cache_forecast(plan, plan.jobs(), OpenDatasets(plan.limit))


def test_a_run_writes_what_was_forecast_and_a_second_one_finds_it(tmp_path, features):
    methods = [{"name": name, "options": SHORT} for name in ("coop", "april_gan")]
    plan = make_plan(methods, out=tmp_path / "a", **FEW)
    before = forecast_of(plan)
    assert not features.exists(), "a forecast writes nothing"
    assert before.missing == sum(need.nbytes for need in before.needs) > 0
    assert {name for need in before.needs for name in need.methods} == {"coop", "april_gan"}
    run(plan)
    written = [p for p in features.rglob("*.npy") if not p.parts[-3].startswith("masks-")]
    payload = sum(path.stat().st_size - HEADER - CHECKSUM_BYTES for path in written)
    assert payload == before.missing
    assert forecast_of(plan).needs == [], "what is trained needs no features"
    again = forecast_of(dataclasses.replace(plan, out=str(tmp_path / "b")))
    assert again.missing == 0
    assert [need.nbytes for need in again.needs] == [need.nbytes for need in before.needs]
    half = dataclasses.replace(plan, out=str(tmp_path / "c"), feature_precision="fp16")
    assert 4 * forecast_of(half).missing == before.missing, "of double precision"


@pytest.mark.parametrize(("precision", "size"), [("full", 4), ("fp16", 2)])
def test_images_and_weights_that_are_not_here_are_counted_as_released(
    tmp_path, features, precision, size
):
    plan = make_plan(
        ["anomalyclip"],
        ["visa"],
        out=tmp_path,
        data_root=tmp_path,
        backbone="ViT-L-14-336-quickgelu",
        feature_precision=precision,
    )
    (need,) = forecast_of(plan).needs
    specs = len(create("anomalyclip", load_backbone()).token_specs)
    assert (need.dataset, need.images, need.image_size) == ("mvtec_ad", MVTEC, 518)
    assert need.nbytes == MVTEC * (specs * GRID * WIDTH + 2 * JOINT) * size


@pytest.mark.parametrize("limit", [None, 1, 5])
@pytest.mark.parametrize("split", ["test", "all"])
@pytest.mark.parametrize("name", ["synthetic_aux", "synthetic+synthetic_aux"])
def test_images_of_a_limit_are_counted_by_category_and_label(name, split, limit):
    there = auxiliary_samples(load_dataset(name), split, limit)
    assert module._released(name, split, limit) == len(there)


def test_a_plan_counts_the_images_of_its_limit_where_none_are_here(tmp_path, features):
    plan = make_plan(["coop"], ["visa"], out=tmp_path, data_root=tmp_path, auxiliary_limit=2)
    (need,) = forecast_of(plan).needs
    whole = forecast_of(dataclasses.replace(plan, auxiliary_limit=None)).needs[0]
    assert (need.dataset, need.images, whole.images) == ("mvtec_ad", 2 * 2 * 15, MVTEC)
    assert need.nbytes * MVTEC == whole.nbytes * need.images
    assert f"for {2 * 2 * 15} images of mvtec-ad" in dry_run(plan).to_text()


def test_images_whose_release_is_not_counted_are_not_guessed(tmp_path, features):
    plan = make_plan(["coop"], ["visa"], out=tmp_path, data_root=tmp_path, auxiliary="bmad-chest")
    found = forecast_of(plan)
    assert found.needs == []
    assert "bmad-chest is not here" in found.unknown["coop"]
    assert any("feature cache of coop is not known" in line for line in found.lines())


def test_the_plan_warns_of_features_that_have_no_room(tmp_path, features, monkeypatch):
    monkeypatch.setattr(FeatureCache, "free", lambda cache: 1000)
    plan = make_plan(["coop"], out=tmp_path / "run", **FEW)
    view = dry_run(plan)
    text = view.to_text()
    assert "feature cache in all" in text
    assert "do not fit the cache and will be computed again" in text
    assert "--feature-precision fp16" in text
    found = json.loads(view.to_json())["feature_cache"]
    assert not found["fits"]
    assert found["bytes"] == found["bytes_to_write"] == found["entries"][0]["bytes"]
    assert view.ready, "the run does without"


def test_room_is_given_in_the_order_of_the_run(tmp_path):
    cache = FeatureCache(tmp_path, budget=100)
    need = module.CacheNeed("visa", "tiny", 96, "float64", 1, ("coop",), 60)
    state = module.CacheState(tmp_path, (), free=1000, budget=100)
    needs = [need, dataclasses.replace(need, nbytes=50), dataclasses.replace(need, nbytes=40)]
    assert [n.fits for n in module._with_room(needs, cache, state)] == [True, False, True]


def test_a_plan_that_trains_nothing_says_nothing_of_the_cache(tmp_path, features):
    view = dry_run(make_plan(["clip"], out=tmp_path / "run", limit=1))
    assert json.loads(view.to_json())["feature_cache"] is None
    assert "feature cache" not in view.to_text()


def test_a_method_that_no_outline_can_carry_is_named(tmp_path, features, monkeypatch):
    def fails(plan, job):
        raise RuntimeError("a value is asked for")

    monkeypatch.setattr(module, "outlined", fails)
    found = forecast_of(make_plan(["coop"], out=tmp_path, **FEW))
    assert found.unknown == {"coop": "a value is asked for"}


@pytest.fixture(scope="module")
def outline():
    return outline_backbone()


@pytest.mark.parametrize(("name", "variant"), TRAINABLE)
def test_every_trainable_method_says_on_an_outline_what_it_reads(outline, name, variant):
    method = create(name, outline, variant)
    assert all(parameter.device.type == "meta" for parameter in method.parameters())
    outline.check_specs(method.token_specs)
    assert method.stages() is not None


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16"])
@pytest.mark.parametrize("pretrained", [None, RANDOM])
def test_an_outline_has_the_keys_of_its_backbone(precision, pretrained):
    real = load_backbone(pretrained=pretrained, precision=precision)
    outline = outline_backbone(pretrained=pretrained, precision=precision)
    keys = [create("aa_clip", backbone).forward_key() for backbone in (real, outline)]
    assert keys[0] == keys[1]
    assert (outline.name, outline.dtype) == (real.name, real.dtype)
    assert outline.model.visual.proj.device == torch.device("meta")
