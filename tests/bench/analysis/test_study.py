"""A study measures the maps as each value of a choice would have made them."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F
from typer.testing import CliRunner
from zsad.bench import metrics
from zsad.bench.analysis.changed_maps import RULES, resized_maps, resized_masks
from zsad.bench.analysis.choice_table import choice_table
from zsad.bench.analysis.choices import CHOICES, Question
from zsad.bench.analysis.layout import NOT_COMPARED
from zsad.bench.analysis.study import study_maps
from zsad.bench.cli.app import app
from zsad.bench.errors import UsageError
from zsad.bench.records.maps import write_maps
from zsad.bench.records.record import RecordError, read_records, write_record
from zsad.bench.report.study_figure import draw_study
from zsad.bench.track import Track

SIDE = 24
METRICS = {"pixel_auroc": metrics.auroc, "pixel_pro": metrics.pro}


def drawn(seed):
    """Maps [12, S, S] and masks, of which one has a region of a single pixel."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((12, SIDE, SIDE), bool)
    masks[1::2, 3:9, 5:12] = True
    masks[3, 20, 21] = True
    noise = generator.normal(size=masks.shape) + 1.2 * gaussian_filter(masks * 1.0, (0, 2, 2))
    return noise.astype(np.float32), masks


@pytest.fixture(scope="module")
def kept(tmp_path_factory, make_record):
    """A run of two methods on two categories with maps, and these by method and category."""
    run, arrays = tmp_path_factory.mktemp("kept"), {}
    for i, title in enumerate(("CLIP", "WinCLIP")):
        record = make_record(title, "visa", {"a": {}, "b": {}}, protocol={"map_size": SIDE})
        write_record(run, record)
        for j, category in enumerate("ab"):
            arrays[title, category] = drawn(10 * i + j)
            write_maps(run, record.cell, category, *arrays[title, category])
    return run, arrays


def found(study, title, value, metric):
    """A value of the study's own mean."""
    matrix = study.matrices[study.values.index(value)]
    (method,) = (method for method in matrix.methods if method.title == title)
    return matrix.value(method, matrix.datasets[0], metric).value


def expected(arrays, title, metric, change):
    """The mean over both categories of a metric of changed maps and masks."""
    values = []
    for category in "ab":
        maps, masks = change(*arrays[title, category])
        form = np.ravel if metric == "pixel_auroc" else np.asarray
        values.append(METRICS[metric](form(masks), form(maps)))
    return np.mean(values)


def torch_resized(maps, side, mode="bilinear"):
    return F.interpolate(torch.tensor(maps)[:, None], (side, side), mode=mode)[:, 0].numpy()


def pil_masks(masks, side, how=Image.Resampling.BILINEAR):
    grey = [
        Image.fromarray(mask.astype(np.uint8) * 255).resize((side, side), how) for mask in masks
    ]
    return np.stack([np.asarray(mask) > 127 for mask in grey])


@pytest.mark.parametrize("title", ["CLIP", "WinCLIP"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("over", "value", "change"),
    [
        ("smoothing", "0", lambda maps, masks: (maps, masks)),
        (
            "smoothing",
            "2",
            lambda maps, masks: (np.stack([gaussian_filter(one, 2) for one in maps]), masks),
        ),
        ("map_size", "kept", lambda maps, masks: (maps, masks)),
        ("map_size", "16", lambda maps, masks: (torch_resized(maps, 16), pil_masks(masks, 16))),
        (
            "interpolation",
            "nearest",
            lambda maps, masks: (torch_resized(maps, 12, "nearest-exact"), pil_masks(masks, 12)),
        ),
        (
            "mask_rule",
            "nearest",
            lambda maps, masks: (
                torch_resized(maps, 12),
                pil_masks(masks, 12, Image.Resampling.NEAREST),
            ),
        ),
    ],
    ids=["unsmoothed", "smoothed", "kept", "smaller", "nearest maps", "nearest masks"],
)
def test_metrics_are_those_of_the_changed_maps(kept, title, metric, over, value, change):
    run, arrays = kept
    study = study_maps(run, Question.ask(over, [metric], [value]))
    assert found(study, title, value, metric) == pytest.approx(
        expected(arrays, title, metric, change), abs=1e-6
    )


def test_pro_is_measured_up_to_each_limit(kept):
    run, arrays = kept
    study = study_maps(run, Question.ask("pro-limit"))
    assert study.values == ("0.05", "0.1", "0.2", "0.3", "1.0")
    for limit in study.values:
        every = [
            metrics.pro(masks, maps, fpr_limit=float(limit))
            for maps, masks in (arrays["CLIP", category] for category in "ab")
        ]
        assert found(study, "CLIP", limit, "pixel_pro") == pytest.approx(np.mean(every), abs=1e-12)


@pytest.mark.parametrize("side", [9, 16, 60])
def test_bilinear_maps_are_those_that_a_run_makes(side):
    maps, _ = drawn(0)
    expected = torch_resized(maps, side)
    assert resized_maps(maps, side, "bilinear") == pytest.approx(expected, abs=1e-5)


def test_vanished_regions_are_told(kept):
    run, arrays = kept
    table = choice_table(study_maps(run, Question.ask("map_size", values=["kept", "12"])))
    lost = sum(
        resized_masks(arrays["CLIP", category][1], 12, RULES["official"])[1] for category in "ab"
    )
    assert lost == 2
    assert table.rows[0].cells[1].notes == ("2 regions vanish from the masks",)
    assert not table.rows[0].cells[0].notes


def test_the_span_is_how_far_the_values_of_a_row_lie_apart(kept):
    table = choice_table(study_maps(kept[0], Question.ask("smoothing")))
    for row in table.rows:
        *values, span = ([number.value for number in cell.numbers] for cell in row.cells)
        for i, own in enumerate(span):
            column = [numbers[i] for numbers in values]
            assert own == pytest.approx(max(column) - min(column)) and own > 0


def test_maps_are_not_made_larger_than_they_were_kept(kept):
    study = study_maps(kept[0], Question.ask("map_size"))
    assert study.values == ("kept",)
    assert study.remarks[-1].endswith(": 32, 64, 128, 256, 518.")


def test_methods_of_two_tracks_are_not_compared(kept, tmp_path):
    study = study_maps(kept[0], Question.ask("smoothing", values=["0"]))
    assert NOT_COMPARED not in choice_table(study).remarks
    for i, track in enumerate((Track.ZERO_SHOT, Track.TRANSDUCTIVE)):
        record = dataclasses.replace(read_records(kept[0])[i], track=track)
        write_record(tmp_path, record)
        write_maps(tmp_path, record.cell, "a", *drawn(i))
    study = study_maps(tmp_path, Question.ask("smoothing", values=["0"]))
    table = choice_table(study)
    assert NOT_COMPARED in table.remarks
    assert [row.label for row in table.rows] == ["CLIP", "WinCLIP (transductive)"]


def test_without_maps_the_option_that_keeps_them_is_named(tmp_path, make_record):
    write_record(tmp_path, make_record("CLIP", "visa", {"a": {"pixel_pro": 0.5}}))
    with pytest.raises(RecordError, match="--save-maps"):
        study_maps(tmp_path, Question.ask("smoothing"))


def test_cells_without_maps_are_named_beside_those_with(kept, tmp_path, make_record):
    (record, *_) = read_records(kept[0])
    write_record(tmp_path, record)
    write_maps(tmp_path, record.cell, "a", *drawn(0))
    write_record(tmp_path, make_record("CoOp", "visa", {"a": {"pixel_pro": 0.5}}))
    write_record(tmp_path, make_record("CLIP", "elpv", {"elpv": {"image_auroc": 0.5}}))
    study = study_maps(tmp_path, Question.ask("smoothing", values=["0"]))
    assert [method.title for _, method in study.places] == [record.title]
    assert study.remarks[-1].endswith("(--save-maps keeps them) of: coop--official--visa--seed111.")
    (row,) = choice_table(study).rows
    assert "over 1 of 2 categories" in row.cells[0].notes[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"over": "size"}, "choice to study"),
        ({"over": "smoothing", "metrics": ["image-auroc"]}, "image-auroc"),
        ({"over": "smoothing", "metrics": ["pixel-segf1"]}, "pixel-segf1"),
        ({"over": "pro_limit", "metrics": ["pixel-auroc"]}, "pixel-pro alone"),
        ({"over": "smoothing", "values": ["-1"]}, "a number, 0 to"),
        ({"over": "smoothing", "values": ["nan"]}, "a number, 0 to"),
        ({"over": "map_size", "values": ["31.5"]}, "a whole number, 8 to"),
        ({"over": "pro_limit", "values": ["0"]}, "above 0, up to 1"),
        ({"over": "mask_rule", "values": ["none"]}, "value of mask-rule"),
        ({"over": "smoothing", "side": 32}, "smoothing has none"),
        ({"over": "interpolation", "side": 4}, "at least 8"),
    ],
)
def test_questions_that_have_no_answer_are_refused(words, message):
    with pytest.raises(UsageError, match=message):
        Question.ask(**words)


def test_broken_maps_are_named(kept, tmp_path):
    record = read_records(kept[0])[0]
    write_record(tmp_path, record)
    maps, masks = drawn(0)
    write_maps(tmp_path, record.cell, "a", maps * np.float32(np.nan), masks)
    with pytest.raises(RecordError, match=f"{record.cell.key}, a: "):
        study_maps(tmp_path, Question.ask("smoothing"))


@pytest.mark.parametrize("over", CHOICES)
def test_every_choice_has_a_figure(kept, tmp_path, over):
    study = study_maps(kept[0], Question.ask(over))
    path = draw_study(study, tmp_path / "study.svg")
    assert "CLIP" in path.read_text() and study.choice.title in path.read_text()
    with pytest.raises(UsageError, match=r"\.png, \.pdf, \.svg"):
        draw_study(study, tmp_path / "study.gif")


def call(*words):
    """What `zsad` answers to words; errors of zsad are raised."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_command_writes_table_and_figure(kept, tmp_path):
    table, figure = tmp_path / "t.json", tmp_path / "f.png"
    call("study", kept[0], "--over", "pro-limit", "--values", "0.1,1", "-o", table,
         "--figure", figure)  # fmt: skip
    stored = json.loads(table.read_text())
    assert [column["label"] for column in stored["columns"]] == ["0.1", "1", "greatest - least"]
    assert figure.read_bytes().startswith(b"\x89PNG")
    told = call("study", kept[0], "--over", "smoothing", "--metric", "pixel-ap")
    assert "1/2 clip--official--visa--seed111" in told.output and "pixel AP" in told.output


def test_image_sizes_are_runs_of_their_own(tmp_path):
    run = tmp_path / "run"
    plan = {"methods": [{"name": "clip"}], "datasets": ["synthetic"], "limit": 1, "out": str(run)}
    run.mkdir()
    (run / "plan.json").write_text(json.dumps(plan))
    words = ("study", run, "--over", "image-size", "--values", "32,48", "--jobs", 1, "--quiet")
    text = call(*words, "--metric", "image-auroc", "--format", "csv").stdout
    records = {
        record.cell.options["image_size"]: record for record in read_records(run / "image_size")
    }
    assert set(records) == {32, 48}
    for size, value in zip((32, 48), text.splitlines()[1].split(",")[2:4], strict=True):
        own = [result.metrics["image_auroc"] for result in records[size].categories]
        assert float(value) == pytest.approx(100 * np.mean(own), abs=0.06)
    with pytest.raises(UsageError, match="--values"):
        call("study", run, "--over", "image-size")
    with pytest.raises(UsageError, match="dataset of this run 'visa'"):
        call(*words, "--dataset", "visa")


def test_studying_maps_loads_no_torch(kept):
    code = (
        "import sys; from pathlib import Path; "
        "from zsad.bench.analysis.study import study_maps; "
        "from zsad.bench.analysis.choices import Question; "
        f"study_maps(Path({str(kept[0])!r}), Question.ask('map_size')); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"
