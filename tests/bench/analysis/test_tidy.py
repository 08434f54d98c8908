"""Tidy rows: nothing is rounded, dropped or filled in, whatever the format."""

import csv
import importlib.util
import io
import json
import math

import pandas as pd
import pytest
from zsad.bench.analysis.frame_formats import FRAME_WRITERS, frame_bytes
from zsad.bench.analysis.resampling import Settings
from zsad.bench.analysis.tidy import tidy_frame
from zsad.bench.analysis.uncertainty import intervals
from zsad.bench.errors import UsageError
from zsad.bench.metric_table import METRICS
from zsad.bench.records.record import read_records

FAST = Settings(replicates=50)


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_run):
    folder = tmp_path_factory.mktemp("tidy")
    failing = ("WinCLIP", "elpv")
    return make_run(folder, ["CLIP", "WinCLIP"], ["visa", "elpv"], images=8, failing=failing)


@pytest.fixture(scope="module")
def frame(run):
    return tidy_frame(run, settings=FAST)


def test_every_recorded_value_is_a_row_with_its_counts_and_protocol(run, frame):
    finished = frame[frame.status == "ok"]
    keys = ["method", "variant", "options", "dataset", "category", "seed", "metric"]
    assert not finished.duplicated(keys).any()
    values = finished.set_index(keys).value
    for record in read_records(run):
        for result in record.categories:
            for metric in METRICS:
                cell = record.cell
                key = (cell.method, cell.variant, cell.options_text, cell.dataset)
                value = values[(*key, result.category, cell.seed, metric)]
                recorded = result.metrics.get(metric)
                assert math.isnan(value) if recorded is None else value == recorded
    assert set(finished.n_normal) == {4} and set(finished.n_anomalous) == {4}
    assert json.loads(finished.protocol.iloc[0])["backbone"] == finished.backbone.iloc[0]


def test_a_failed_cell_is_told_with_its_error(frame):
    failed = frame[frame.status == "error"]
    assert set(zip(failed.method, failed.dataset, strict=True)) == {("winclip", "elpv")}
    assert list(failed.metric) == list(METRICS)
    assert failed.value.isna().all() and failed.reason.str.contains("is cut off").all()


def test_intervals_are_those_of_a_comparison(run, frame):
    elpv = frame[(frame.dataset == "elpv") & (frame.metric == "image_auroc")].iloc[0]
    found = intervals(read_records(run), "image_auroc", FAST)
    (at,) = [i for (m, d), i in found.items() if (m.method, d.name) == ("clip", "elpv")]
    assert (elpv.value, elpv.low, elpv.high) == (pytest.approx(at.value), at.low, at.high)
    assert (elpv.level, elpv.replicates, elpv.resampling) == (0.95, 50, "stratified")
    pixel = frame[frame.metric == "pixel_pro"]
    assert pixel.low.isna().all() and pixel.level.isna().all()


def test_rows_can_be_chosen(run):
    chosen = tidy_frame(run, datasets=["VisA"], metrics=["pixel-pro"], settings=FAST)
    assert set(chosen.dataset) == {"visa"} and set(chosen.metric) == {"pixel_pro"}
    with pytest.raises(UsageError, match="visa"):
        tidy_frame(run, datasets=["viza"])


@pytest.mark.parametrize("fmt", FRAME_WRITERS)
def test_every_format_keeps_every_digit(frame, fmt):
    content = frame_bytes(frame, fmt)
    if fmt == "parquet":
        pytest.importorskip("pyarrow")
        again = pd.read_parquet(io.BytesIO(content))
    elif fmt == "json":
        again = pd.DataFrame(json.loads(content))
    else:
        again = pd.DataFrame(csv.DictReader(io.StringIO(content.decode())))
    assert list(again.columns) == list(frame.columns)
    for name in ("value", "low", "high", "seed", "n_normal"):
        expected = pd.to_numeric(frame[name]).astype(float)
        assert pd.to_numeric(again[name]).astype(float).equals(expected), name


def test_texts_of_a_csv_file_are_not_formulas():
    content = frame_bytes(pd.DataFrame({"a": ["=1", -1.5, None]}), "csv").decode()
    assert content.splitlines() == ["a", "'=1", "-1.5", '""']


def test_parquet_holds_values_of_several_types():
    pytest.importorskip("pyarrow")
    mixed = pd.DataFrame({"a": ["x", 1, None, [1, 2]], "b": [None] * 4, "c": [True, None, 0, 1]})
    again = pd.read_parquet(io.BytesIO(frame_bytes(mixed, "parquet")))
    assert [json.loads(v) for v in again.a.dropna()] == ["x", 1, [1, 2]]


def test_parquet_without_its_package_says_what_to_install(monkeypatch, frame):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pyarrow" else find(name)
    )
    with pytest.raises(UsageError, match=r"pip install 'zsad\[parquet\]'"):
        frame_bytes(frame, "parquet")
    assert frame_bytes(frame, "csv").startswith(b"method,")


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.parquet"])
def test_the_command_takes_the_format_from_the_suffix(run, tmp_path, name):
    from typer.testing import CliRunner
    from zsad.bench.cli.app import app

    out = tmp_path / name
    line = ["table", str(run), "--layout", "tidy", "-o", str(out), "--metric", "pixel-pro"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    read = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}
    assert set(read[out.suffix[1:]](out).metric) == {"pixel_pro"}
