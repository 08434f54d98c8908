"""A baseline is written from a run, kept with its history, and refused when it is broken."""

import dataclasses
import json

import pytest
from zsad.bench.analysis.baseline import (
    ANY_METRIC,
    BaselineError,
    make_baseline,
    parse_tolerances,
    read_baseline,
    write_baseline,
)
from zsad.bench.analysis.regression import check_run
from zsad.bench.errors import UsageError

KEY = "clip--official--visa--seed111"


def test_a_baseline_is_read_as_it_was_written(tmp_path, records, baseline):
    path = tmp_path / "new" / "b.json"
    write_baseline(path, baseline)
    assert read_baseline(path) == baseline
    assert check_run(records, read_baseline(path)).passed


def test_an_update_keeps_tolerances_and_history(records, baseline):
    first, second = records[0].categories
    better = dataclasses.replace(first, metrics={**first.metrics, "image_auroc": 0.9})
    moved = [dataclasses.replace(records[0], categories=[better, second]), records[1]]
    updated = make_baseline(moved, "better prompts", baseline, {"pixel_pro": 0.01})
    assert check_run(moved, updated).passed
    assert [change.reason for change in updated.history] == ["first numbers", "better prompts"]
    assert updated.tolerances["pixel_pro"].reason == "better prompts"
    assert updated.tolerances[ANY_METRIC] == baseline.tolerances[ANY_METRIC]


@pytest.mark.parametrize("reason", ["", "   "])
def test_a_baseline_needs_a_reason(records, reason):
    with pytest.raises(UsageError, match="--reason"):
        make_baseline(records, reason)


def test_a_failed_or_empty_run_makes_no_baseline(records, make_record):
    with pytest.raises(UsageError, match="coop--official--visa"):
        make_baseline([*records, make_record("CoOp", "visa", error="x")], "why")
    with pytest.raises(UsageError, match="no records"):
        make_baseline([], "why")


def test_tolerances_are_parsed_and_wrong_ones_refused():
    assert parse_tolerances(["pixel_pro=0.02", "0.01"]) == {"pixel_pro": 0.02, "*": 0.01}
    for text in ("pixel_pro=2", "pixel_pro=-0.1", "pixel_pro=nan", "pixel_pro=", "x"):
        with pytest.raises(UsageError, match="--tolerance"):
            parse_tolerances([text])
    with pytest.raises(UsageError, match="did you mean pixel-pro"):
        parse_tolerances(["pixel_por=0.1"])


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.update(schema=2),
        lambda raw: raw.pop("cells"),
        lambda raw: raw.update(cells=[]),
        lambda raw: raw["cells"][KEY]["categories"]["pcb1"].update(image_auroc="1"),
        lambda raw: raw["cells"][KEY]["categories"]["pcb1"].update(image_auroc=1.5),
        lambda raw: raw["cells"][KEY].update(counts=3),
        lambda raw: raw["tolerances"]["*"].update(value=-1),
        lambda raw: raw["tolerances"]["*"].pop("reason"),
        lambda raw: raw.update(history=[1]),
    ],
)
def test_a_broken_baseline_is_named(tmp_path, baseline, change):
    path = tmp_path / "b.json"
    write_baseline(path, baseline)
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(BaselineError, match=r"b\.json"):
        read_baseline(path)


def test_a_file_that_is_no_baseline_is_named(tmp_path):
    path = tmp_path / "b.json"
    with pytest.raises(BaselineError, match="--update"):
        read_baseline(path)
    for text in ("", "[", "[1]", "null", '{"schema": NaN}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(BaselineError, match=r"b\.json"):
            read_baseline(path)


@pytest.mark.parametrize(
    ("empty", "says"),
    [
        (lambda raw: raw["cells"].clear(), "guards no cell"),
        (lambda raw: raw["cells"][KEY]["categories"].clear(), f"cell {KEY} has no metric"),
        (
            lambda raw: [c.clear() for c in raw["cells"][KEY]["categories"].values()],
            f"cell {KEY} has no metric",
        ),
    ],
)
def test_an_emptied_baseline_is_refused(tmp_path, baseline, empty, says):
    path = tmp_path / "b.json"
    write_baseline(path, baseline)
    raw = json.loads(path.read_text())
    empty(raw)
    path.write_text(json.dumps(raw))
    with pytest.raises(BaselineError, match=says):
        read_baseline(path)


def test_a_cell_without_any_metric_makes_no_baseline(make_record):
    with pytest.raises(UsageError, match="no metric to guard"):
        make_baseline([make_record("CLIP", "visa", {"a": {}})], "first")


def test_a_baseline_stores_no_hash_of_code(records):
    first = make_baseline([dataclasses.replace(records[0], identity={"code": "1" * 64})], "first")
    assert "1" * 64 not in json.dumps(dataclasses.asdict(first))
