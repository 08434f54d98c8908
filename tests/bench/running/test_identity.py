"""What a second start of a run takes over, and what it does again and why."""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import os
import shutil
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench import load_backbone, load_run, registry
from zsad.bench.analysis.compare import compare_runs
from zsad.bench.analysis.matrix import arrange
from zsad.bench.analysis.resampling import Settings
from zsad.bench.analysis.tables import make_table
from zsad.bench.checkpoint import write_tensors
from zsad.bench.code_hash import bench_code, class_code, imported_modules, source_hash
from zsad.bench.errors import Stopped, UsageError
from zsad.bench.progress import Progress
from zsad.bench.records.category_record import CategoryRecord
from zsad.bench.records.record import RecordError, read_records
from zsad.bench.records.run_folder import supersede
from zsad.bench.running import identity, runner
from zsad.bench.running.dry_run import dry_run
from zsad.bench.running.identity import difference
from zsad.bench.running.open_datasets import OpenDatasets
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import run

PLUGIN = '''
"""Methods of a test."""
import torch
from dataclasses import dataclass
from torch import nn
from zsad.bench.backbone import TokenSpec
from zsad.bench.method import Method, Options, Prediction, Schedule, TrainableMethod
from zsad_kept_helper import sign


class Kept(Method):
    title = "Kept"

    def predict(self, query):
        return Prediction(sign() * query.features.class_token.sum(-1), None)


class Learner(TrainableMethod):
    title = "Learner"

    def __init__(self, backbone, options=None):
        super().__init__(backbone, options)
        self.weight = nn.Parameter(torch.zeros(backbone.embed_dim))

    @property
    def schedule(self):
        return Schedule(epochs=1, batch_size=64, lr=0.1)

    def scores(self, query):
        return query.features.class_token.to(self.weight.dtype) @ self.weight

    def loss(self, query, labels, masks):
        scores = self.scores(query)
        return {"total": sign() * nn.functional.mse_loss(scores, labels.to(scores.dtype))}

    def predict(self, query):
        return Prediction(self.scores(query), None)
'''
HELPER = """
def sign():
    return {sign}  {comment}
"""


class Site:
    """An installed distribution of two modules, whose source can be edited."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "zsad_kept.py").write_text(textwrap.dedent(PLUGIN))
        info = folder / "zsad_kept-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zsad-kept\nVersion: 1.5\n")
        (info / "RECORD").write_text("zsad_kept.py,,\nzsad_kept_helper.py,,\n")
        (info / "entry_points.txt").write_text(
            "[zsad.methods]\nkept = zsad_kept:Kept\nlearner = zsad_kept:Learner\n"
        )
        self.edit()

    def edit(self, sign: int = 1, comment: str = "") -> None:
        """Write the helper again, as a user's editor would, and start as a new process would."""
        (self.folder / "zsad_kept_helper.py").write_text(HELPER.format(sign=sign, comment=comment))
        for name in ("zsad_kept", "zsad_kept_helper"):
            sys.modules.pop(name, None)
        shutil.rmtree(self.folder / "__pycache__", ignore_errors=True)
        importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    registry.entries.cache_clear()
    yield Site(folder)
    registry.entries.cache_clear()
    for name in ("zsad_kept", "zsad_kept_helper"):
        sys.modules.pop(name, None)


@pytest.fixture
def data(tmp_path) -> Path:
    """Two categories of one normal and one anomalous image."""
    root = tmp_path / "data"
    random_numbers = np.random.default_rng(0)
    for category in ("alpha", "beta"):
        for folder in ("normal", "anomalous"):
            (root / category / folder).mkdir(parents=True)
            pixels = random_numbers.integers(0, 256, (32, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / category / folder / "0.bmp")
    return root


@pytest.fixture
def again(data, tmp_path, caplog):
    """Start the run (again); the answer is what it says it does again."""

    def start(*methods: str, root: Path = data, options=None, **settings) -> str:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            run(plan_for(tmp_path / "run", root, *methods, options=options, **settings))
        return "\n".join(m for m in caplog.messages if "is done again" in m)

    return start


def plan_for(out, root, *methods, options=None, **settings):
    datasets = [{"name": "folder", "root": str(root), "options": options or {}}]
    settings = {"gallery": 0, "batch_size": 2, **settings}
    return make_plan(methods or ("kept",), datasets, out=out, **settings)


def scores(out: Path) -> list[list[float]]:
    (record,) = read_records(out)
    assert record.status == "ok", record.error
    return [result.images.scores for result in record.categories]


def replace_image(root: Path, category: str = "beta") -> None:
    """Another picture of the same name, size in bytes, and time."""
    path = root / category / "normal" / "0.bmp"
    stat = path.stat()
    Image.fromarray(np.full((32, 32, 3), 77, np.uint8)).save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size


def add_image(root: Path) -> None:
    shutil.copy(root / "alpha" / "normal" / "0.bmp", root / "alpha" / "normal" / "1.bmp")


# -- data ---------------------------------------------------------------------------------------


def test_a_second_start_does_nothing_also_where_the_data_were_moved(site, data, tmp_path, again):
    again()
    (path,) = (tmp_path / "run" / "cells").iterdir()
    before = path.read_bytes()
    shutil.copytree(data, tmp_path / "elsewhere")
    assert again() == again(root=tmp_path / "elsewhere") == again(device="cpu", batch_size=3) == ""
    assert path.read_bytes() == before
    assert not (tmp_path / "run" / "superseded").exists()


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (replace_image, {}, "images of beta"),
        (add_image, {}, "images of alpha"),
        (lambda root: None, {"class_name": "screw"}, "dataset options"),
    ],
)
def test_a_cell_of_other_images_is_done_again_and_the_old_record_is_kept(
    site, data, tmp_path, again, change, options, says
):
    again()
    old = read_records(tmp_path / "run")[0]
    change(data)
    assert says in again(options=options)
    run(plan_for(tmp_path / "fresh", data, options=options))
    assert scores(tmp_path / "run") == scores(tmp_path / "fresh")
    (kept,) = (tmp_path / "run" / "superseded" / "cells").iterdir()
    assert json.loads(kept.read_text())["identity"] == old.identity
    assert again(options=options) == ""


def test_a_category_finished_before_a_stop_is_done_again_if_its_images_changed(
    site, data, tmp_path, caplog
):
    progress = Progress()
    plan = plan_for(tmp_path / "run", data, batch_size=2)
    scored = runner.score_category

    def counting(*arguments, **how):
        parts = scored(*arguments, **how)
        progress.stop.set()
        return parts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "score_category", counting)
        with pytest.raises(Stopped):
            run(plan, progress)
    assert [p.stem for p in (tmp_path / "run" / "parts").rglob("*.json")] == ["alpha"]
    replace_image(data, "alpha")
    with caplog.at_level(logging.WARNING):
        run(plan)
    assert "other images of alpha" in caplog.text
    run(plan_for(tmp_path / "fresh", data))
    assert scores(tmp_path / "run") == scores(tmp_path / "fresh")


def test_a_cell_that_another_process_finishes_meanwhile_is_left_to_it(
    site, data, tmp_path, monkeypatch
):
    run(plan_for(tmp_path / "whole", data))
    plan, cells = plan_for(tmp_path / "run", data), tmp_path / "run" / "cells"
    progress, scored = Progress(), runner.score_category

    def stopping(*arguments, **how):
        parts = scored(*arguments, **how)
        progress.stop.set()
        return parts

    read = CategoryRecord.read

    def finishing(path):
        shutil.copytree(tmp_path / "whole" / "cells", cells, dirs_exist_ok=True)
        path.unlink()
        return read(path)

    monkeypatch.setattr(runner, "score_category", stopping)
    with pytest.raises(Stopped):
        run(plan, progress)
    monkeypatch.setattr(CategoryRecord, "read", finishing)
    monkeypatch.delattr(runner, "score_category")  # nothing is left to be scored
    run(plan)
    assert scores(tmp_path / "run") == scores(tmp_path / "whole")
    assert not (tmp_path / "run" / "superseded").exists()


def test_data_that_are_not_there_leave_finished_records_as_they_are(site, data, tmp_path, again):
    again()
    before = scores(tmp_path / "run")
    data.rename(tmp_path / "unmounted")
    assert again() == ""
    assert scores(tmp_path / "run") == before


def test_a_file_that_changes_while_it_is_scored_fails_its_cell(site, data, tmp_path, monkeypatch):
    scored = runner.score_category

    def changing(*arguments, **how):
        parts = scored(*arguments, **how)
        replace_image(data)
        return parts

    monkeypatch.setattr(runner, "score_category", changing)
    run(plan_for(tmp_path / "run", data))
    (record,) = read_records(tmp_path / "run")
    assert "changed while" in record.error.message
    monkeypatch.setattr(runner, "score_category", scored)
    run(plan_for(tmp_path / "run", data))
    assert len(scores(tmp_path / "run")) == 2


# -- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("changed_versions", lambda: {"pixel_pro": 2}, "from 1 to 1, pixel_pro 2"),
        ("environment", lambda: {"zsad": "99.0"}, "made by other code"),
    ],
)
def test_other_metrics_and_another_zsad_do_cells_again(
    site, tmp_path, again, monkeypatch, name, value, says
):
    again()
    monkeypatch.setattr(identity, name, value)
    assert says in again()
    assert again() == ""


def test_other_weights_of_the_same_name_do_cells_again(site, tmp_path, again):
    from zsad.bench.backbone_spec import BUILT_IN_WEIGHTS

    weights = tmp_path / "weights.safetensors"
    shutil.copy(BUILT_IN_WEIGHTS, weights)
    again(pretrained=str(weights))
    from safetensors.torch import load_file, save_file

    save_file({k: v * 1.1 for k, v in load_file(weights).items()}, weights)
    assert "other weights" in again(pretrained=str(weights))


def test_what_a_run_refuses_to_change_stays_refused(site, tmp_path, again):
    again()
    with pytest.raises(UsageError, match="limit"):
        again(limit=1)


def test_parts_of_different_identity_are_not_combined(site, data, tmp_path):
    plan = plan_for(tmp_path / "run", data)
    parts: list[CategoryRecord] = []
    combine = CategoryRecord.combine

    def keep(cell, dataset, found, held=None):
        parts[:] = found
        return combine(cell, dataset, found, held)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CategoryRecord, "combine", staticmethod(keep))
        run(plan)
    other = dataclasses.replace(parts[1], identity={**parts[1].identity, "precision": "fp16"})
    (job,) = plan.jobs()
    with pytest.raises(RecordError, match="precision"):
        combine(job.cell, OpenDatasets().target(job.dataset).dataset, [parts[0], other])


def test_libraries_devices_and_batches_are_not_part_of_an_identity(site, data, tmp_path):
    run(plan_for(tmp_path / "run", data))
    (record,) = read_records(tmp_path / "run")
    assert {"code", "weights", "images of alpha", "metric version"} <= record.identity.keys()
    assert not {"torch", "device", "batch size", "python"} & record.identity.keys()
    assert record.provenance["code"] == record.identity["code"]
    assert record.provenance["distribution"] == "zsad-kept 1.5"
    assert "code" not in record.protocol


# -- code ---------------------------------------------------------------------------------------


def test_code_is_its_source_without_comments_docstrings_and_layout():
    plain = "class A:\n    def f(self, x):\n        return -x\n"
    told = (
        '"""Doc."""\n# why\nclass A:\n    "A"\n\n'
        '    def f(self,\n x):\n        "f"\n        return  -x'
    )
    assert source_hash(plain) == source_hash(told)
    assert source_hash(plain) != source_hash(plain.replace("-x", "x"))
    assert source_hash("no python (") != source_hash("no python )")


def test_a_method_is_made_of_all_that_it_imports_from_its_folder_or_distribution(site):
    own = imported_modules(registry.method_class("anomalyclip_ensemble").__module__)
    assert {"zsad.methods.anomalyclip", "zsad.methods._losses"} <= set(own)
    assert not [name for name in own if name.startswith(("torch", "zsad.bench"))]
    plug_in = imported_modules(registry.method_class("kept").__module__)
    assert plug_in == ["zsad_kept", "zsad_kept_helper"]
    assert bench_code(["metrics"]) != bench_code(["images"])


def test_an_edited_method_is_done_again_and_an_edited_comment_is_not(site, tmp_path, again):
    again()
    before = scores(tmp_path / "run")
    site.edit(comment="# why")
    assert again() == ""
    site.edit(sign=-1)
    assert again(keep_old=True) == ""
    assert scores(tmp_path / "run") == before
    assert "made by other code" in again()
    assert scores(tmp_path / "run") == [[-value for value in row] for row in before]


def test_a_record_of_an_earlier_version_was_made_by_other_code(site, tmp_path, again):
    again()
    (path,) = (tmp_path / "run" / "cells").iterdir()
    raw = json.loads(path.read_text())
    del raw["identity"]
    path.write_text(json.dumps(raw))
    assert again(keep_old=True) == ""
    assert "made by other code" in again()


def test_a_sign_flipped_in_a_loss_is_learned_again(site, tmp_path, again):
    again("learner", auxiliary="synthetic_aux")
    before = scores(tmp_path / "run")
    site.edit(sign=-1)
    said = again("learner", auxiliary="synthetic_aux", retry="always")
    assert "other code" in said
    assert scores(tmp_path / "run") != before
    assert len(list((tmp_path / "run" / "superseded" / "checkpoints").iterdir())) == 1
    after = scores(tmp_path / "run")
    assert again("learner", auxiliary="synthetic_aux") == ""
    assert scores(tmp_path / "run") == after
    assert class_code(registry.method_class("learner"))


# -- small things -------------------------------------------------------------------------------


def test_a_difference_names_the_fields_and_skips_what_cannot_be_known():
    found = {"precision": "fp32", "weights": "a" * 64, "code": "b" * 64}
    assert difference(found, {**found}) == ""
    assert difference(found, {**found, "weights": None}) == ""
    assert difference(found, {**found, "precision": "fp16"}) == (
        "precision changed from fp32 to fp16"
    )
    assert "other weights" in difference(found, {**found, "weights": "c" * 64})
    assert "checkpoint" in difference(found, {**found, "checkpoint": "c" * 64})


def test_a_superseded_file_never_takes_the_place_of_another(tmp_path):
    for number in range(2):
        path = tmp_path / "cells" / "a.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))
        supersede(tmp_path, path, "test")
    kept = sorted((tmp_path / "superseded" / "cells").iterdir())
    assert [path.read_text() for path in kept] == ["0", "1"]
    supersede(tmp_path, tmp_path / "cells" / "a.json", "another process was faster")


def test_temporary_files_of_dead_runs_are_swept_and_young_ones_are_not(site, data, tmp_path):
    folder = tmp_path / "run" / "cells"
    folder.mkdir(parents=True)
    dead, young = folder / ".a.json.7-7.tmp", folder / ".b.json.8-8.tmp"
    for path in (dead, young):
        path.write_text("{")
    os.utime(dead, (1, 1))
    run(plan_for(tmp_path / "run", data))
    assert not dead.exists()
    assert young.exists()


def test_plan_shows_what_will_be_done_again_and_moves_nothing(site, data, tmp_path, again):
    again()
    plan = plan_for(tmp_path / "run", data)
    assert [cell.state for cell in dry_run(plan).cells] == ["done"]
    replace_image(data)
    view = dry_run(plan)
    assert [(cell.state, cell.why) for cell in view.cells] == [("changed", "other images of beta")]
    assert "other images of beta" in view.to_text()
    assert "1 of 1 cells to do" in view.to_text()
    assert not (tmp_path / "run" / "superseded").exists()


# -- labels -------------------------------------------------------------------------------------


def test_two_roots_of_one_dataset_are_two_rows(site, data, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(data, other)
    replace_image(other)
    datasets = [
        {"name": "folder", "root": str(data)},
        {"name": "folder", "root": str(other), "label": "copy"},
    ]
    out = tmp_path / "run"
    plan = make_plan(["kept"], datasets, out=out, gallery=2, batch_size=2, save_maps=True)
    run(plan)
    found = read_records(out)
    assert [(r.status, r.cell.target) for r in found] == [("ok", "folder"), ("ok", "folder (copy)")]
    one, two = ([c.images.scores for c in r.categories] for r in found)
    assert one[0] == two[0] and one[1] != two[1]
    table = make_table(found, "image")
    title = found[0].protocol["dataset_title"]
    assert [row.label for row in table.rows] == [title, f"{title} (copy)"]
    before = sorted((path, path.stat().st_mtime_ns) for path in (out / "cells").iterdir())
    run(plan)
    assert before == sorted((path, path.stat().st_mtime_ns) for path in (out / "cells").iterdir())
    (same,) = compare_runs(found, found, settings=Settings(metrics=("image_auroc",), replicates=20))
    assert len(same.differences) == 2
    assert {view.state for view in dry_run(plan).cells} == {"done"}
    assert "folder (copy)" in dry_run(plan).to_text()
    assert set(load_run(out)["dataset_label"]) == {"", "copy"}


def test_one_method_with_two_checkpoints_is_two_columns(site, data, tmp_path):
    files = [tmp_path / "zeros.safetensors", tmp_path / "ones.safetensors"]
    for file, value in zip(files, (0.0, 1.0), strict=True):
        write_tensors(file, {"weight": torch.full((load_backbone().embed_dim,), value)}, {})
    methods = [
        {"name": "learner", "checkpoint": str(files[0])},
        {"name": "learner", "checkpoint": str(files[1]), "label": "mine"},
    ]
    out = tmp_path / "run"
    run(plan_for(out, data, *methods))
    found = read_records(out)
    assert [(r.status, r.cell.label) for r in found] == [("ok", ""), ("ok", "mine")]
    zeros, ones = ([c.images.scores for c in r.categories] for r in found)
    assert zeros == [[0.0, 0.0], [0.0, 0.0]] and ones != zeros
    matrix = arrange(found)
    assert [method.label for method in matrix.methods] == ["Learner", "Learner (mine)"]
    assert all(len(records) == 1 for records in matrix.cells.values())
    (pair,) = compare_runs(
        found, None, "learner", "learner (mine)", Settings(("image_auroc",), replicates=20)
    )
    assert (pair.a, pair.b) == ("Learner", "Learner (mine)")
