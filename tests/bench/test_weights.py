"""Finding weights: names, files and tags; what is missing is named with its remedy."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file
from zsad.bench import checkpoint, load_backbone, weights
from zsad.bench.backbone import OPENAI_MEAN
from zsad.bench.checkpoint import file_sha256
from zsad.bench.errors import UsageError, WeightsError
from zsad.bench.progress import Progress
from zsad.bench.running import parallel
from zsad.bench.running.dry_run import dry_run
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import run

SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 2,
    },
}
OPENAI_336 = "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALL))
    return path


@pytest.fixture
def tensors(config):
    return dict(load_backbone(pretrained="random", config=config).model.state_dict())


@pytest.fixture
def write(tmp_path):
    def write(tensors, name="small.safetensors"):
        path = tmp_path / name
        if path.suffix == ".safetensors":
            save_file({k: v.contiguous() for k, v in tensors.items()}, path)
        else:
            torch.save(tensors, path)
        return path

    return write


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, no caches, and a weights folder of its own."""
    folder = tmp_path / "weights"
    folder.mkdir()

    def refuse(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setenv("ZSAD_WEIGHTS", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(weights, "download_pretrained_from_hf", refuse)
    monkeypatch.setattr(weights, "download_pretrained_from_url", refuse)
    monkeypatch.setattr(weights, "_require_network", refuse)
    return folder


# -- from a file --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["small.safetensors", "small.pt"])
def test_a_checkpoint_file_gives_its_weights(config, tensors, write, name):
    changed = {k: v + 0.25 if v.is_floating_point() else v for k, v in tensors.items()}
    path = write(changed, name)
    backbone = load_backbone(pretrained=path, config=config)
    found = backbone.model.state_dict()
    assert all(torch.equal(found[key], value) for key, value in changed.items())
    assert backbone.weights_sha256 == file_sha256(path)
    assert backbone.name == "small"


def test_half_precision_checkpoints_become_float32(config, tensors, write):
    path = write({k: v.half() if v.is_floating_point() else v for k, v in tensors.items()})
    backbone = load_backbone(pretrained=path, config=config)
    assert {p.dtype for p in backbone.model.parameters()} == {torch.float32}
    expected = tensors["visual.proj"].half().float()
    assert torch.equal(backbone.visual.proj.detach(), expected)


@pytest.mark.parametrize("wrapping", ["state_dict", "module."])
def test_wrapped_checkpoints_are_unwrapped(config, tensors, write, wrapping):
    if wrapping == "module.":
        wrapped = {f"module.{key}": value for key, value in tensors.items()}
    else:
        wrapped = {"epoch": 3, "state_dict": tensors}
    backbone = load_backbone(pretrained=write(wrapped, "small.pt"), config=config)
    assert torch.equal(backbone.visual.proj.detach(), tensors["visual.proj"])


def test_a_config_is_named_after_its_file_even_beside_the_built_in_default(config):
    backbone = load_backbone("tiny", "random", config)
    assert backbone.name == config.stem


def test_only_backbones_that_can_be_used_are_listed():
    listed = {name for name, _ in weights.known_backbones()}
    assert {"tiny", "ViT-L-14-336", "ViT-B-16-plus-240"} <= listed
    assert not {"RN50", "ViT-B-16-SigLIP", "coca_ViT-B-32", "convnext_base", "EVA02-B-16"} & listed


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("vision_cfg", "timm_model_name"),
        ("text_cfg", "hf_model_name"),
        ("text_cfg", "hf_tokenizer_name"),
    ],
)
def test_a_config_that_names_a_model_of_the_hub_is_refused_before_anything_is_built(
    tmp_path, monkeypatch, part, key
):
    asked: list[str] = []
    for name in ("CLIP", "CustomTextCLIP"):  # the one door to timm's and transformers' hub calls
        monkeypatch.setattr(weights.open_clip, name, lambda **_: asked.append("build"))
    for name in ("download_pretrained_from_hf", "download_pretrained_from_url"):
        monkeypatch.setattr(weights, name, lambda *_, **__: asked.append("download"))
    settings = {**SMALL, part: {**SMALL[part], key: "org/model"}}
    path = tmp_path / "hub.json"
    path.write_text(json.dumps(settings))
    refusals = (
        lambda: weights.check_backbone("tiny", config=path),
        lambda: load_backbone(pretrained="random", config=path),
        lambda: weights.random_backbone(settings, "small"),
    )
    for refused in refusals:
        with pytest.raises(UsageError, match=rf"{part}\.{key} 'org/model'.*hub"):
            refused()
    assert asked == []


def test_a_named_backbone_of_another_library_is_refused_before_its_weights_are_fetched(
    monkeypatch,
):
    asked: list[str] = []
    monkeypatch.setattr(weights, "_fetch", lambda *names: asked.append(names))
    for refuse in (weights.check_backbone, load_backbone):
        with pytest.raises(UsageError, match=r"'ViT-B-16-SigLIP' has .*_name"):
            refuse("ViT-B-16-SigLIP:webli")
    assert asked == []


def test_random_weights_are_the_same_every_time(config):
    first, second = (load_backbone(pretrained="random", config=config) for _ in range(2))
    assert torch.equal(first.visual.proj, second.visual.proj)
    assert first.weights_sha256 == second.weights_sha256


def test_a_missing_tensor_is_named(config, tensors, write):
    del tensors["visual.proj"]
    with pytest.raises(WeightsError, match=r"small\.safetensors.*visual\.proj"):
        load_backbone(pretrained=write(tensors), config=config)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(config, tensors, write):
    tensors["visual.proj"] = torch.zeros(32, 8)
    with pytest.raises(WeightsError, match=r"visual\.proj.*\(32, 8\).*\(32, 16\)"):
        load_backbone(pretrained=write(tensors), config=config)


def test_a_tensor_of_another_model_is_named(config, tensors, write):
    tensors["visual.trunk.norm.weight"] = torch.zeros(2)
    with pytest.raises(WeightsError, match=r"visual\.trunk\.norm\.weight"):
        load_backbone(pretrained=write(tensors), config=config)


def test_a_file_that_is_no_checkpoint_is_refused(config, tmp_path):
    path = tmp_path / "notes.pt"
    path.write_text("not weights")
    with pytest.raises(WeightsError, match=r"notes\.pt"):
        load_backbone(pretrained=path, config=config)


# -- activation and normalisation ---------------------------------------------------------------


def test_openai_weights_run_quick_gelu_even_from_a_file(config, tensors, write, monkeypatch):
    path = write(tensors)
    assert load_backbone(pretrained=path, config=config).own_activation == "gelu"
    monkeypatch.setattr(weights, "archive_hashes", lambda: {file_sha256(path)})
    assert load_backbone(pretrained=path, config=config).own_activation == "quick_gelu"


def test_a_tags_own_activation_and_normalisation_are_taken(
    offline, config, tensors, write, monkeypatch
):
    settings = {"url": "https://host/small.pt", "quick_gelu": True, "mean": (0.5, 0.4, 0.3)}
    monkeypatch.setattr(weights, "get_pretrained_cfg", lambda *_: {**settings, "std": (1, 1, 1)})
    monkeypatch.setattr(weights.open_clip, "get_model_config", lambda _: SMALL)
    write(tensors, "small.pt").rename(offline / "small.pt")
    backbone = load_backbone("ViT-small", "some_tag")
    assert backbone.own_activation == "quick_gelu"
    assert (backbone.mean, backbone.std) == ((0.5, 0.4, 0.3), (1, 1, 1))
    assert backbone.name == "ViT-small:some_tag"


def test_files_are_normalised_as_clip_is(config, tensors, write):
    assert load_backbone(pretrained=write(tensors), config=config).mean == OPENAI_MEAN


# -- tags ---------------------------------------------------------------------------------------


def test_absent_weights_name_the_file_its_sha256_and_its_place(offline):
    with pytest.raises(WeightsError) as caught:
        load_backbone("ViT-L-14-336-quickgelu", "openai")
    message = str(caught.value)
    assert str(offline / "ViT-L-14-336px.pt") in message
    assert OPENAI_336 in message
    assert "--backbone ViT-L-14-336-quickgelu:FILE" in message
    assert "\n" not in message


def test_absent_weights_of_a_tag_with_a_short_sum_name_it(offline):
    with pytest.raises(
        WeightsError, match=r"vit_b_16_plus_240-laion400m_e31-8fb26589\.pt.*8fb26589"
    ):
        load_backbone("ViT-B-16-plus-240", "laion400m_e31")


def test_name_and_tag_may_be_one_word(offline):
    with pytest.raises(WeightsError, match="e32-699c4b84"):
        load_backbone("ViT-B-16-plus-240:laion400m_e32")


def test_a_placed_file_with_another_sum_is_refused(offline):
    (offline / "ViT-L-14-336px.pt").write_bytes(b"something else")
    with pytest.raises(WeightsError, match=f"another file.*{OPENAI_336}"):
        load_backbone("ViT-L-14-336-quickgelu", "openai")


@pytest.fixture
def archive(tmp_path, config, monkeypatch):
    """OpenAI's ViT-B-16.pt in small: traced, with sizes beside the weights, where CLIP keeps it."""
    model = load_backbone(pretrained="random", config=config).model.eval()
    for name, value in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 49408)):
        vars(model).pop(name, None)
        model.register_buffer(name, torch.tensor(value))
    model.attn_mask = model._buffers.pop("attn_mask")  # a constant of the archive
    example = (torch.zeros(1, 3, 32, 32), torch.zeros(1, 77, dtype=torch.long))
    path = tmp_path / "home" / ".cache" / "clip" / "ViT-B-16.pt"
    path.parent.mkdir(parents=True)
    torch.jit.trace(model, example, check_trace=False).save(path)
    monkeypatch.setattr(checkpoint, "archive_hashes", lambda: {file_sha256(path)})
    monkeypatch.setattr(weights, "archive_hashes", lambda: {file_sha256(path)})
    return path, model.state_dict()


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit:FutureWarning")
def test_an_archive_of_openai_in_the_cache_of_clip_is_read(offline, archive, monkeypatch):
    path, state = archive
    known = dataclasses.replace(weights.origin("ViT-B-16", "openai"), sha256=file_sha256(path))
    monkeypatch.setattr(weights, "origin", lambda *_: known)
    monkeypatch.setattr(weights.open_clip, "get_model_config", lambda _: SMALL)
    backbone = load_backbone("ViT-B-16", "openai")
    assert backbone.own_activation == "quick_gelu"
    own = backbone.model.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in own)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit:FutureWarning")
def test_an_archive_that_nobody_knows_is_not_read(archive, config, monkeypatch):
    monkeypatch.setattr(checkpoint, "archive_hashes", lambda: frozenset())
    with pytest.raises(WeightsError, match="cannot be read as plain tensors"):
        load_backbone(pretrained=archive[0], config=config)


def test_the_archives_of_all_models_of_openai_are_known():
    known = checkpoint.archive_hashes()
    assert OPENAI_336 in known
    for name in ("ViT-B-32", "ViT-B-16", "ViT-L-14"):
        assert weights.origin(name, "openai").sha256 in known


def test_another_file_in_the_cache_of_clip_does_not_hide_the_hub_s_copy(
    offline, tmp_path, monkeypatch
):
    path = tmp_path / "home" / ".cache" / "clip" / "ViT-B-16.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a download")
    with pytest.raises(WeightsError, match=r"ViT-B-16\.pt is another file"):
        weights.find_weights("ViT-B-16", "openai")
    monkeypatch.setattr(weights, "try_to_load_from_cache", lambda *_: "/hub/model.bin")
    assert str(weights.find_weights("ViT-B-16", "openai")) == "/hub/model.bin"


def test_a_hub_repository_of_another_tag_is_not_trusted():
    e31 = weights.origin("ViT-B-16-plus-240", "laion400m_e31")
    e32 = weights.origin("ViT-B-16-plus-240", "laion400m_e32")
    assert e31.file.name != e32.file.name
    assert e32.hub == "" or e32.hub.endswith("laion400m_e32")


# -- names that do not exist --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        ({"name": "ViT-L-14-363"}, "ViT-L-14-336"),
        ({"name": "tini"}, "tiny"),
        ({"name": "ViT-L-14-336", "pretrained": "opnai"}, "openai"),
        ({"precision": "fp61"}, "fp16"),
    ],
)
def test_unknown_names_bring_the_nearest(arguments, near):
    with pytest.raises(UsageError, match=f"did you mean.*{near}"):
        load_backbone(**arguments)


def test_a_device_that_is_not_there_is_refused(config):
    with pytest.raises(UsageError, match="cuda:99"):
        load_backbone(pretrained="random", config=config, device="cuda:99")


def test_a_checkpoint_path_that_does_not_exist_is_named(offline):
    with pytest.raises(WeightsError, match=r"absent/model\.pt"):
        load_backbone("ViT-L-14-336", "absent/model.pt")


def test_a_config_needs_weights(config):
    with pytest.raises(UsageError, match="small.*pretrained"):
        load_backbone(config=config)


def test_a_config_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"absent\.json"):
        load_backbone(pretrained="random", config=tmp_path / "absent.json")


def test_a_tower_without_class_token_is_refused(tmp_path):
    vision = {**SMALL["vision_cfg"], "pool_type": "avg"}
    path = tmp_path / "pooled.json"
    path.write_text(json.dumps({**SMALL, "vision_cfg": vision}))
    with pytest.raises(UsageError, match="class token"):
        load_backbone(pretrained="random", config=path)


def test_a_cuda_device_that_is_not_there_is_refused_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    weights.check_device("cpu")
    weights.check_device("cuda")
    with pytest.raises(UsageError, match="'cuda:1' is not there.*1 CUDA device"):
        weights.check_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    plan = make_plan(["clip"], device="cuda", out=tmp_path / "run", limit=1)
    starts = [
        lambda: run(plan),
        lambda: parallel.run(plan, Progress(), jobs=2),
        lambda: load_backbone("tiny", device="cuda"),
    ]
    for start in starts:
        with pytest.raises(UsageError, match="'cuda' is not there.*--device cpu"):
            start()
    assert not (tmp_path / "run").exists()
    assert any("'cuda' is not there" in one.line for one in dry_run(plan).missing)
