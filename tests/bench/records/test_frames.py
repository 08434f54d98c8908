"""Runs as tidy DataFrames: every number with its cell, its data and its conditions."""

import json
import math

import pytest
from zsad.bench import load_run, per_image_frame
from zsad.bench.metric_table import METRICS
from zsad.bench.records.frames import CELL_COLUMNS, DETAIL_COLUMNS, PROTOCOL_COLUMNS
from zsad.bench.records.record import ImageScores, RecordError, write_record

NAMES = ["a.png", "b.png", "c.png"]


@pytest.fixture
def run(tmp_path, make_record):
    shared = {"undefined": {"pixel_pro": "the dataset has no masks"}, "counts": (1, 2)}
    scored = make_record(
        categories={"tile": {"image_auroc": 0.75}},
        images={"tile": ImageScores(NAMES, [0, 1, 1], [0.25, 0.5, 1.0])},
        protocol={"dataset_title": "MVTecAD", "domain": "industrial", "limit": 2},
        **shared,
    )
    silent = make_record(
        "VAND", categories={"tile": {}}, images={"tile": ImageScores(NAMES, [0, 1, 1], None)}
    )
    for record in (scored, silent, make_record("WinCLIP", error="no such file")):
        write_record(tmp_path, record)
    return tmp_path


def test_a_run_is_a_tidy_frame(run):
    frame = load_run(run)
    assert list(frame.columns) == [*CELL_COLUMNS, "metric", "value", "reason", *DETAIL_COLUMNS]
    assert set(frame["method"]) == {"clip", "vand"}
    rows = frame[frame["method"] == "clip"].set_index("metric")
    assert set(rows.index) == set(METRICS)
    assert rows.loc["image_auroc", "value"] == 0.75
    assert math.isnan(rows.loc["pixel_pro", "value"])
    assert rows.loc["pixel_pro", "reason"] == "the dataset has no masks"


def test_a_row_states_its_data_and_its_protocol(run):
    frame = load_run(run)
    row = frame[frame["method"] == "clip"].iloc[0]
    assert (row["dataset_title"], row["domain"]) == ("MVTecAD", "industrial")
    assert (row["n_normal"], row["n_anomalous"]) == (1, 2)
    whole = json.loads(row["protocol"])
    assert (row["backbone"], row["map_size"], row["limit"]) == ("ViT-L-14-336", 518, 2)
    assert all(row[name] == whole[name] for name in PROTOCOL_COLUMNS if name in whole)
    assert row["shots"] is None


def test_images_have_a_row_with_truth_and_score(run):
    frame = per_image_frame(run)
    rows = frame[frame["method"] == "clip"]
    assert rows["image"].tolist() == NAMES
    assert rows["anomalous"].tolist() == [False, True, True]
    assert rows["score"].tolist() == [0.25, 0.5, 1.0]
    assert frame[frame["method"] == "vand"]["score"].isna().all()


def test_a_folder_without_records_has_no_frame(tmp_path):
    for frame_of in (load_run, per_image_frame):
        with pytest.raises(RecordError, match="not a run directory"):
            frame_of(tmp_path)
