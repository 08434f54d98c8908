"""What single prompts say is kept on request, and drawn; it changes no result."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from zsad.bench import create, load_backbone, load_run, run
from zsad.bench.analysis.merge import merge_runs
from zsad.bench.records.prompt_scores import read_prompt_scores
from zsad.bench.records.record import read_records
from zsad.bench.records.run_folder import prompt_scores_path
from zsad.bench.report.figures import draw
from zsad.bench.report.scene import Choice
from zsad.bench.training.trainer import fit

IMAGES = 3  # of each label


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A folder of a user's own images."""
    numbers = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("parts")
    for folder in ("normal", "anomalous"):
        (root / folder).mkdir()
        for n in range(IMAGES):
            pixels = numbers.integers(0, 256, (50, 70, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{n}.png")
    return root


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Checkpoints of FAPrompt with three prompts, and of AnomalyCLIP, after one step each."""
    from zsad.bench.checkpoint import write_tensors

    folder = tmp_path_factory.mktemp("learned")
    backbone = load_backbone("tiny", pretrained="random")
    image = np.zeros((64, 64, 3), np.uint8)
    masks = [np.eye(64, dtype=bool), np.zeros((64, 64), bool)]
    for name, options in (("faprompt", {"n_prompts": 3}), ("anomalyclip", {})):
        method = create(name, backbone, **options)
        fit(method, [image, image], masks, [1, 0], ["thing", "thing"])
        write_tensors(folder / f"{name}.safetensors", method.learned_state(), {})
    return folder


def plan(parts, learned, out, **settings):
    faprompt = {"name": "faprompt", "options": {"n_prompts": 3}}
    methods = [faprompt, {"name": "anomalyclip"}]
    for method in methods:
        method["checkpoint"] = str(learned / f"{method['name']}.safetensors")
    return {
        "methods": [*methods, "clip"],
        "datasets": [{"name": "folder", "root": str(parts)}],
        "out": str(out),
        "backbone": "tiny:random",
        "batch_size": 4,
        "gallery": 0,
        **settings,
    }


@pytest.fixture(scope="module")
def kept(parts, learned, tmp_path_factory):
    """A run that keeps prompt-wise scores."""
    return run(plan(parts, learned, tmp_path_factory.mktemp("kept"), save_prompt_scores=True))


def test_each_prompt_has_a_probability_for_each_patch(kept):
    found = {}
    for record in read_records(kept):
        assert record.error is None, record.error
        (category,) = record.categories
        path = prompt_scores_path(kept, record.cell, category.category)
        if path.exists():
            found[record.cell.method] = read_prompt_scores(path)
            assert found[record.cell.method].labels.tolist() == list(category.images.labels)
    assert {name: scores.scores.shape[:2] for name, scores in found.items()} == {
        "faprompt": (2 * IMAGES, 3),
        "anomalyclip": (2 * IMAGES, 1),
    }  # CLIP has no abnormal prompts of its own
    for scores in found.values():
        assert scores.scores.min() >= 0
        assert scores.scores.max() <= 1
    assert np.abs(np.diff(found["faprompt"].scores, axis=1)).max() > 0


def test_tsne_is_drawn_from_a_real_run(kept, tmp_path):
    out = draw(kept, "tsne", tmp_path / "prompts.png", Choice(methods=("faprompt",)))
    with Image.open(out) as picture:
        assert min(picture.size) > 200


def test_keeping_them_changes_no_result(kept, parts, learned, tmp_path):
    plain = run(plan(parts, learned, tmp_path / "plain"))
    columns = ["method", "metric", "value"]
    assert load_run(plain)[columns].equals(load_run(kept)[columns])
    assert not (plain / "prompt_scores").exists()


def test_they_follow_the_record_when_runs_are_merged(kept, tmp_path):
    merge_runs([kept], tmp_path / "all")
    files = sorted(p.relative_to(kept) for p in (kept / "prompt_scores").rglob("*.npz"))
    assert len(files) == 2
    assert all((tmp_path / "all" / file).is_file() for file in files)
