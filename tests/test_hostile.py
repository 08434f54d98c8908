"""Malformed input ends in one clear error: no traceback, no hang, no code run, no wrong answer.

Every family starts from something valid and damages it in seeded ways.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import os
import pickle
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from zsad.bench import load_backbone, load_dataset, registry
from zsad.bench.analysis.baseline import BaselineError, make_baseline, read_baseline
from zsad.bench.analysis.compare import compare_runs
from zsad.bench.analysis.comparison_tables import (
    comparison_table,
    interval_table,
    intervals_json,
    render_findings,
)
from zsad.bench.analysis.formats import render
from zsad.bench.analysis.matrix import Matrix, arrange
from zsad.bench.analysis.merge import merge_runs
from zsad.bench.analysis.regression import check_run
from zsad.bench.analysis.resampling import Settings
from zsad.bench.analysis.rescore import rescore_run
from zsad.bench.analysis.tables import LAYOUTS, make_table
from zsad.bench.analysis.validation import validate
from zsad.bench.checkpoint import read_payload, read_tensors
from zsad.bench.data.completeness import Completeness
from zsad.bench.data.loading import Batch
from zsad.bench.errors import DataError, UsageError, WeightsError, ZsadError
from zsad.bench.export.every_eval_ever import Publisher, evaluation_log
from zsad.bench.export.huggingface import write_cards
from zsad.bench.export.results import results_of
from zsad.bench.files import write_json
from zsad.bench.images import MaskRule, read_image, read_mask
from zsad.bench.preprocess import Preprocess
from zsad.bench.records.cases import Case, read_cases
from zsad.bench.records.category_record import CategoryRecord
from zsad.bench.records.cell import Cell
from zsad.bench.records.frames import load_run
from zsad.bench.records.gallery import Gallery
from zsad.bench.records.map_sheets import RATES, GalleryError, Sheet, SheetImage, read_sheets
from zsad.bench.records.record import (
    Auxiliary,
    CategoryResult,
    ImageScores,
    Record,
    RecordError,
    read_record,
    read_records,
    write_record,
)
from zsad.bench.records.run_folder import gallery_folder
from zsad.bench.report.figures import KINDS_OF_FIGURE
from zsad.bench.report.page import render_report
from zsad.bench.report.scene import Choice, Scene
from zsad.bench.running.plan import make_plan, read_plan

SEEDS = range(12)


def damaged(content: bytes, seed: int) -> bytes:
    """Cut, flipped, doubled, emptied, or with foreign bytes in it."""
    dice = random.Random(seed)
    changed = bytearray(content)
    kind = seed % 6
    if kind == 0:
        return bytes(changed[: dice.randrange(len(changed))])
    if kind == 1:
        for _ in range(dice.randrange(1, 30)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        return bytes(changed)
    if kind == 2:
        start = dice.randrange(len(changed))
        return bytes(changed[:start] + dice.randbytes(dice.randrange(1, 200)) + changed[start:])
    if kind == 3:
        start = dice.randrange(len(changed))
        return bytes(changed[:start] + changed[start + dice.randrange(1, 50) :])
    if kind == 4:
        return b"" if dice.random() < 0.5 else dice.randbytes(300)
    middle = len(changed) // 2
    return bytes(changed[middle:] + changed[:middle])


def picture(suffix: str) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix))
    return stream.getvalue()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_images_are_read_or_refused_by_name(tmp_path, suffix, seed):
    path = tmp_path / f"broken.{suffix}"
    path.write_bytes(damaged(picture(suffix), seed))
    try:
        image = read_image(path)
        assert image.mode == "RGB"
        assert min(image.size) > 0
    except DataError as error:
        assert path.name in str(error)
    try:
        mask = read_mask(path, MaskRule())
        assert mask.dtype == np.bool_
        assert mask.ndim == 2
    except DataError as error:
        assert path.name in str(error)


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\x00\x00\x00",
        b"P6 100000 100000 255\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"#!/bin/sh\ntouch owned\n",
    ],
)
def test_bombs_and_impostors_are_refused(tmp_path, content):
    path = tmp_path / "bomb.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match="bomb.png"):
        read_image(path)


# -- tables and lists of datasets ------------------------------------------------------------------


def visa_tree(root: Path, csv: bytes) -> None:
    (root / "VisA" / "split_csv").mkdir(parents=True)
    (root / "VisA" / "split_csv" / "1cls.csv").write_bytes(csv)
    for folder in ("Data/Images/Normal", "Data/Images/Anomaly", "Data/Masks/Anomaly"):
        (root / "VisA" / "candle" / folder).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "VisA/candle/Data/Images/Normal/0000.JPG")
    Image.new("RGB", (8, 8)).save(root / "VisA/candle/Data/Images/Anomaly/000.JPG")
    Image.new("L", (8, 8), 1).save(root / "VisA/candle/Data/Masks/Anomaly/000.png")


VISA_CSV = (
    b"object,split,label,image,mask\n"
    b"candle,test,normal,candle/Data/Images/Normal/0000.JPG,\n"
    b"candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png\n"
)


def inside(samples, root: Path) -> bool:
    paths = [p for s in samples for p in (s.image_path, *s.mask_paths)]
    return all(root.resolve() in p.resolve().parents for p in paths)


@pytest.mark.parametrize("seed", range(24))
def test_damaged_csv_lists_are_read_or_refused(tmp_path, seed):
    visa_tree(tmp_path, damaged(VISA_CSV, seed))
    try:
        samples = load_dataset("visa", tmp_path).samples("test")
        assert inside(samples, tmp_path)
        assert {sample.label for sample in samples} <= {0, 1}
    except ZsadError as error:
        assert re.search(r"1cls\.csv|candle|visa", str(error), flags=re.I)


@pytest.mark.parametrize(
    "path", ["../../secret.JPG", "/etc/passwd", "candle/../../secret.JPG", "C:\\x.JPG", "\x00.JPG"]
)
def test_a_csv_that_points_out_of_its_folder_is_refused(tmp_path, path):
    (tmp_path / "secret.JPG").write_bytes(picture("jpg"))
    rows = VISA_CSV.replace(b"candle/Data/Images/Normal/0000.JPG", path.encode())
    visa_tree(tmp_path / "data", rows)
    with pytest.raises(DataError, match="1cls.csv"):
        load_dataset("visa", tmp_path / "data").samples("test")


META = {
    "train": {"bottle": []},
    "test": {
        "bottle": [
            {"img_path": "bottle/good/0.png", "mask_path": "", "cls_name": "bottle",
             "specie_name": "good", "anomaly": 0},
            {"img_path": "bottle/bad/0.png", "mask_path": "bottle/bad/0_mask.png",
             "cls_name": "bottle", "specie_name": "bad", "anomaly": 1},
        ]
    },
}  # fmt: skip


def meta_tree(root: Path, meta: bytes) -> Path:
    folder = root / "mvtec"
    for place in ("bottle/good", "bottle/bad"):
        (folder / place).mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "bottle/good/0.png")
    Image.new("RGB", (8, 8)).save(folder / "bottle/bad/0.png")
    Image.new("L", (8, 8), 255).save(folder / "bottle/bad/0_mask.png")
    (folder / "meta.json").write_bytes(meta)
    return folder


@pytest.mark.parametrize("seed", range(24))
def test_damaged_meta_json_is_read_or_refused(tmp_path, seed):
    folder = meta_tree(tmp_path, damaged(json.dumps(META).encode(), seed))
    try:
        samples = load_dataset("mvtec_ad", folder).samples("test")
        assert inside(samples, folder)
        assert {sample.label for sample in samples} <= {0, 1}
    except ZsadError as error:
        assert re.search(r"meta\.json|bottle|mvtec", str(error), flags=re.I)


@pytest.mark.parametrize(
    "value", ["../out.png", "/etc/passwd", 7, None, ["a"], {"a": 1}, "x" * 5000]
)
def test_meta_json_with_a_wrong_path_is_refused(tmp_path, value):
    meta = json.loads(json.dumps(META))
    meta["test"]["bottle"][0]["img_path"] = value
    folder = meta_tree(tmp_path, json.dumps(meta).encode())
    Image.new("RGB", (8, 8)).save(tmp_path / "out.png")
    with pytest.raises(DataError, match="mvtec"):
        load_dataset("mvtec_ad", folder).samples("test")


# -- checkpoints -----------------------------------------------------------------------------------


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("form", ["pickle", "torch", "nested", "module"])
def test_a_checkpoint_never_runs_code(tmp_path, form):
    trap, path = tmp_path / "owned", tmp_path / "model.pth"
    content = {"ctx": torch.zeros(2), "prompt_learner": {"x": Bomb(trap)}}
    if form == "pickle":
        path.write_bytes(pickle.dumps(Bomb(trap)))
    elif form == "module":
        torch.save(torch.nn.Linear(2, 2), path)
    else:
        torch.save(Bomb(trap) if form == "torch" else content, path)
    if form == "nested":
        assert read_payload(path)["prompt_learner"] == {}
    else:
        with pytest.raises(WeightsError, match="model.pth"):
            read_payload(path)
    assert not trap.exists()


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("seed", range(18))
def test_damaged_checkpoints_are_refused_or_hold_tensors(tmp_path, suffix, seed):
    path = tmp_path / f"model.{suffix}"
    tensors = {"ctx": torch.arange(24.0).reshape(4, 6), "bias": torch.ones(3)}
    if suffix == "pth":
        stream = io.BytesIO()
        torch.save(tensors, stream)
        path.write_bytes(damaged(stream.getvalue(), seed))
    else:
        path.write_bytes(damaged(save(tensors), seed))
    try:
        assert all(isinstance(t, torch.Tensor) for t in read_tensors(path).values())
    except WeightsError as error:
        assert "model" in str(error)


@pytest.mark.parametrize("tensors", [{}, {"visual.proj": torch.zeros(1)}, {"x": torch.zeros(2)}])
def test_weights_that_do_not_fit_are_refused(tmp_path, tensors):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(save(tensors))
    with pytest.raises(WeightsError, match="weights.safetensors"):
        load_backbone("tiny", path)


@pytest.mark.parametrize(
    "config",
    [
        "",
        "[]",
        "{}",
        "{'embed_dim'",
        '{"embed_dim": 8, "vision_cfg": {}, "text_cfg": {"width": "x"}}',
        '{"embed_dim": -8, "vision_cfg": {"layers": 1}, "text_cfg": {}}',
        '{"embed_dim": 8, "vision_cfg": {"nonsense": 1}, "text_cfg": {}}',
        '{"embed_dim": 8, "vision_cfg": 3, "text_cfg": 4}',
    ],
)
def test_a_wrong_model_config_is_refused(tmp_path, config):
    path = tmp_path / "config.json"
    path.write_text(config)
    with pytest.raises(ZsadError, match="config"):
        load_backbone(pretrained="random", config=path)


# -- plans and records -----------------------------------------------------------------------------

PLAN = b"""
out = "somewhere"
seeds = [1, 2]
batch_size = 4
datasets = ["synthetic"]
[[method]]
name = "clip"
options = { temperature = 0.5 }
"""


@pytest.mark.parametrize("seed", range(30))
def test_damaged_plan_files_are_read_or_refused(tmp_path, seed):
    path = tmp_path / "plan.toml"
    path.write_bytes(damaged(PLAN, seed))
    try:
        plan = read_plan(path)
        assert {method.name for method in plan.methods} <= set(registry.names("method"))
    except UsageError as error:
        assert re.search("plan.toml|clip|synthetic|somewhere|seeds|datasets|method", str(error))


@pytest.mark.parametrize(
    "settings",
    [
        {"methods": [3]},
        {"methods": [{"name": 3}]},
        {"methods": [{"name": "clip", "options": 3}]},
        {"methods": [{"name": "clip", "options": {"temperature": "hot"}}]},
        {"methods": [{"name": "clip", "options": {"image_size": "big"}}]},
        {"methods": [{"name": "clip", "sweep": 3}]},
        {"methods": [{"name": "clip", "variant": 3}]},
        {"methods": [{"name": "clip", "checkpoint": 3}]},
        {"datasets": [3]},
        {"datasets": [{"name": "folder", "root": 3}]},
        {"datasets": [{"name": "folder", "options": 3}]},
        {"seeds": []},
        {"seeds": "1"},
        {"seeds": [True]},
        {"batch_size": 1e9},
        {"workers": -1},
        {"device": 3},
        {"retry": "sometimes"},
        {"retry": []},
        {"auxiliary": "vissa"},
        {"save_maps": "yes"},
        {"limit": 0},
        {"map_size": "518"},
    ],
)
def test_wrong_settings_of_a_plan_are_refused_by_the_wrong_value(settings):
    wrong = settings
    while wrong and isinstance(wrong, dict | list):
        wrong = list(wrong.values())[-1] if isinstance(wrong, dict) else wrong[-1]
    with pytest.raises(UsageError, match=re.escape(str(wrong))):
        make_plan(**settings)


@pytest.mark.parametrize(
    "name", ["../../etc/cron", "/abs/olute", "a/b\\c", "..", "nul\x00", "é" * 300]
)
def test_no_name_leaves_the_run_directory(tmp_path, name):
    cell = Cell(method=name, variant=name, dataset=name, seed=1, options={"x": name})
    path = write_record(tmp_path / "run", Record(cell=cell, status="ok", title=name))
    assert path.resolve().parent == (tmp_path / "run" / "cells").resolve()
    assert read_record(path).cell == cell


def a_record() -> Record:
    images = ImageScores(["a.png", "b.png"], [0, 1], [0.25, 0.75])
    result = CategoryResult("bottle", "bottle", 1, 1, {"image_auroc": 1.0}, {}, images)
    cell = Cell("clip", "official", "mvtec_ad", 111)
    return Record(cell=cell, status="ok", title="CLIP", categories=[result])


@pytest.mark.parametrize("seed", range(30))
def test_damaged_records_are_read_or_refused(tmp_path, seed):
    path = write_record(tmp_path, a_record())
    path.write_bytes(damaged(path.read_bytes(), seed))
    try:
        read_record(path)
    except RecordError as error:
        assert path.name in str(error)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": "great"}, "status: should be 'ok' or 'error', not 'great'"),
        ({"cell": None}, "cell: should be an object, not None"),
        ({"cell": {"method": 3}}, "cell: method: should be a valid string, not 3"),
        ({"categories": 3}, "categories: should be a valid array, not 3"),
        ({"categories": [{"category": "x"}]}, "categories: 0: class_name: Field required"),
        ({"schema": 99}, "update zsad"),
        ({"schema": "one"}, "should be a valid integer, not 'one'"),
        ({"error": 3}, "error: should be an object, not 3"),
        ({"title": None}, "title: should be a valid string, not None"),
        ({"timing": []}, "timing: should be an object, not []"),
    ],
)
def test_records_of_a_wrong_form_are_refused_by_file_and_field(tmp_path, change, says):
    path = write_record(tmp_path, a_record())
    path.write_text(json.dumps({**dataclasses.asdict(a_record()), **change}))
    with pytest.raises(RecordError, match=f"{re.escape(path.name)}.*{re.escape(says)}"):
        read_record(path)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "{", '{"cells": 3}', "[" * 100_000, "NaN", '"x"']
)
def test_wrong_json_of_records_and_baselines_is_refused(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_text(content)
    with pytest.raises(RecordError, match=r"file\.json"):
        read_record(path)
    with pytest.raises(BaselineError, match=r"file\.json"):
        read_baseline(path)


WRONG_VALUES = [None, True, -1, 10**30, 1e308, "x", "a\0b", "\ud800", [], {}, [1], ["a"], [{}]]
CASE = Case("one", "best", 1, "a.png", 1, 0.5, 1.0, "one-best-1.png")
CURVE = {"x": [0.0, 1.0], "y": [0.0, 1.0]}


def full_record() -> Record:
    """A record with everything that readers look at."""
    plain = a_record()
    result = dataclasses.replace(plain.categories[0], curves={"image_roc": CURVE})
    return dataclasses.replace(
        plain,
        categories=[result],
        protocol={"limit": 3, "dataset_title": "MVTecAD", "domain": "x", "options": {"k": 1}},
        provenance={"device": "cpu", "started": "2026-01-01T00:00:00+00:00"},
        timing={"images": 2.0, "seconds_forward": 1.0, "ms_per_image": 2.0},
        published_parameters=1,
        effective_parameters=1,
    )


def paths_of(value, path=()):
    """The way to every value in a JSON document; of a list, to its first item."""
    yield path
    inner = {}
    if isinstance(value, dict):
        inner = value
    elif isinstance(value, list):
        inner = dict(enumerate(value[:1]))
    for key, item in inner.items():
        yield from paths_of(item, (*path, key))


def with_value(document, path, value):
    """A copy of a JSON document in which one value is another."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def as_json(item) -> dict:
    return json.loads(json.dumps(dataclasses.asdict(item)))


RECORD = as_json(full_record())
RECORD_PATHS = list(paths_of(RECORD))


@pytest.mark.parametrize("path", RECORD_PATHS, ids=lambda path: ".".join(map(str, path)))
def test_records_with_a_wrong_value_are_refused_or_shown_by_every_reader(tmp_path, path):
    file = write_record(tmp_path, full_record())
    baseline = make_baseline([full_record()], "test")
    readers = [
        lambda: load_run(tmp_path),
        lambda: [render(make_table(tmp_path, name, delta=True), "csv") for name in LAYOUTS],
        lambda: interval_table(read_records(tmp_path), "image_auroc", Settings(replicates=5)),
        lambda: check_run(read_records(tmp_path), baseline).render("json"),
        lambda: render_report(tmp_path).encode(),
        lambda: rescore_run(tmp_path),
        lambda: merge_runs([tmp_path], tmp_path / "merged"),
        lambda: validate([tmp_path]),
        lambda: write_cards(results_of(Matrix.read(tmp_path)), tmp_path / "cards", {}),
        lambda: evaluation_log(read_record(file), Publisher("A Lab"), Settings(replicates=5)),
    ]
    for value in WRONG_VALUES:
        file.write_text(json.dumps(with_value(RECORD, path, value)))
        try:
            read_record(file)
        except RecordError as error:
            assert file.name in str(error)
            continue
        for reader in readers:
            with contextlib.suppress(ZsadError):
                reader()


def comparable_record(dataset: str = "visa", options: int = 1) -> Record:
    """A record with everything that comparisons and figures look at."""
    plain = full_record()
    return dataclasses.replace(
        plain,
        cell=Cell("clip", "official", dataset, 111, {"k": options}),
        protocol={**plain.protocol, "options": {"k": options, "j": 1}, "backbone": "tiny"},
        completeness=Completeness(2, 3, 1, ("tile",), chosen_categories=("bottle",), limit=3),
        auxiliary=Auxiliary("mvtec_ad", "test", 2, "ab"),
        identity={"code": "ab", "training code": "cd"},
    )


COMPARABLE = as_json(comparable_record())
READ_BY = {  # field of a record or category -> kinds of figures that read it
    "cell": ("scatter", "radar", "sweep", "curves", "maps"),
    "options": ("sweep",),
    "title": ("scatter",),
    "protocol": ("scatter",),
    "completeness": ("sweep",),
    "categories": ("curves", "maps"),
    "metrics": ("scatter", "radar", "sweep"),
    "curves": ("curves",),
    "status": ("scatter",),
    "error": ("scatter",),
}


@pytest.fixture(scope="module")
def drawn_run(tmp_path_factory):
    """A folder with the pictures of one cell, and the records of all."""
    run = tmp_path_factory.mktemp("drawn")
    records = [comparable_record(d, k) for d in ("visa", "btad", "sdd") for k in (1, 2)]
    gallery = Gallery(run)
    mask, preprocess = torch.eye(8, dtype=bool)[None], Preprocess(8)
    batch = Batch(torch.zeros(1, 3, 8, 8), torch.tensor([1]), mask, ["x"], ["a.png"], 0)
    gallery.add_batch(records[0].cell, batch, torch.tensor([0.5]), mask.float(), preprocess)
    gallery.write("bottle")
    return run, records


def draw_figure(kind: str, run: Path, records: list[Record]) -> None:
    """A figure of all records; one of a category, of the first record's dataset."""
    matrix = arrange(records)
    if kind in ("curves", "maps"):
        datasets = tuple(d for d in matrix.datasets if d.name == records[0].cell.target)
        matrix = dataclasses.replace(matrix, datasets=datasets)
    KINDS_OF_FIGURE[kind](Scene(run, matrix, Choice()))


def test_the_record_that_is_damaged_next_is_compared_and_drawn(drawn_run):
    run, records = drawn_run
    (comparison,) = compare_runs(records[:1], records, settings=Settings(replicates=5))
    assert comparison.differences
    for kind in READ_BY["cell"]:
        draw_figure(kind, run, records)


@pytest.mark.parametrize(
    "path", list(paths_of(COMPARABLE)), ids=lambda path: ".".join(map(str, path))
)
def test_records_with_a_wrong_value_are_refused_or_compared_and_drawn(tmp_path, drawn_run, path):
    run, records = drawn_run
    file = tmp_path / "record.json"
    kinds = next((READ_BY[str(step)] for step in reversed(path) if step in READ_BY), ())
    for value in WRONG_VALUES:
        file.write_text(json.dumps(with_value(COMPARABLE, path, value)))
        try:
            record = read_record(file)
        except RecordError as error:
            assert file.name in str(error)
            continue
        for sides in ([record], records), (records, [record]):
            with contextlib.suppress(ZsadError):
                found = compare_runs(*sides, settings=Settings(replicates=5))
                text = render_findings(found, {}, [], [], Settings(), "json")
                json.loads(text, parse_constant=pytest.fail)
                assert all(render(comparison_table(c), "csv") for c in found)
        rows = intervals_json([record], "image_auroc", Settings(replicates=5))
        json.dumps(rows, allow_nan=False)
        for kind in kinds:
            with contextlib.suppress(ZsadError):
                draw_figure(kind, run, [record, *records[1:]])


CATEGORY_RECORD = as_json(
    CategoryRecord(full_record().categories[0], {"a": 1}, {"b": "x"}, {"images": 2.0}, 1, 1)
)


@pytest.mark.parametrize(
    "path", list(paths_of(CATEGORY_RECORD)), ids=lambda path: ".".join(map(str, path))
)
def test_parts_with_a_wrong_value_are_read_or_refused_by_name(tmp_path, path):
    file = tmp_path / "part.json"
    for value in WRONG_VALUES:
        file.write_text(json.dumps(with_value(CATEGORY_RECORD, path, value)))
        try:
            part = CategoryRecord.read(file)
        except RecordError as error:
            assert file.name in str(error)
        else:
            json.dumps(dataclasses.asdict(part), allow_nan=False)


INDEX = {"cases": [as_json(CASE)]}


@pytest.mark.parametrize("path", list(paths_of(INDEX)), ids=lambda path: ".".join(map(str, path)))
def test_gallery_indexes_with_a_wrong_value_are_read_or_refused_by_name(tmp_path, path):
    cell = a_record().cell
    file = gallery_folder(tmp_path, cell) / "one.json"
    second = {**INDEX["cases"][0], "rank": 2, "category": "two"}
    for value in WRONG_VALUES:
        changed = with_value(INDEX, path, value)
        if path and path[-1] != "cases" and isinstance(changed["cases"], list):
            changed["cases"].append(second)
        write_json(file, changed)
        try:
            cases = read_cases(tmp_path, cell)
        except GalleryError as error:
            assert file.name in str(error)
        else:
            assert all(f"{case.rank:d} {case.score or 0:.2f} {case.note}" for case in cases)


SHEET = as_json(
    Sheet(
        "one",
        "visa",
        0.0,
        1.0,
        [SheetImage("a.png", 1, 0.5, 1.0, 0.9, 1)],
        [256] * len(RATES),
        "one.png",
        f"{'0' * 24}.webp",
        f"{'0' * 24}.png",
    )
)


@pytest.mark.parametrize("path", list(paths_of(SHEET)), ids=lambda path: ".".join(map(str, path)))
def test_sheets_of_maps_with_a_wrong_value_are_read_or_refused_by_name(tmp_path, path):
    cell = a_record().cell
    file = gallery_folder(tmp_path, cell) / "one.json"
    for value in WRONG_VALUES:
        write_json(file, with_value(SHEET, path, value))
        try:
            sheets = read_sheets(tmp_path, cell)
            cases = read_cases(tmp_path, cell)
        except GalleryError as error:
            assert file.name in str(error)
            continue
        assert all(f"{case.rank:d} {case.score or 0:.2f} {case.note}" for case in cases)
        for sheet in sheets:
            with pytest.raises(GalleryError, match="is not a readable picture"):
                sheet.map_of(0)


def test_absurdly_long_titles_are_refused_by_name(tmp_path):
    path = write_record(tmp_path, dataclasses.replace(a_record(), title="x" * 10_000_000))
    with pytest.raises(RecordError, match="title: String should have at most 1000 characters"):
        read_record(path)


def test_no_category_is_looked_for_among_all_others():
    """Twice as many categories take twice as many comparisons of names, not four times."""

    class Name(str):
        compared = 0

        def __eq__(self, other):
            Name.compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    def comparisons(size):
        results = [
            CategoryResult(Name(f"c{i}"), "c", 1, 1, {"image_auroc": 0.5}) for i in range(size)
        ]
        record = dataclasses.replace(a_record(), categories=results)
        Name.compared = 0
        make_table([record], "breakdown", metrics=["image_auroc"])
        return Name.compared

    assert comparisons(200) <= 3 * comparisons(100) + 100
