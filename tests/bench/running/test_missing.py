"""What a run lacks is named once, with who needs it and how to get it."""

from __future__ import annotations

import json

import pytest
from zsad.bench.errors import DataError
from zsad.bench.running.dry_run import dry_run
from zsad.bench.running.missing import Missing, MissingThings, missing_text
from zsad.bench.running.plan import make_plan


def view_of(tmp_path, *datasets, **settings):
    methods = ["clip", "coop", "april-gan"]
    return dry_run(make_plan(methods, datasets, out=str(tmp_path / "run"), **settings))


@pytest.mark.parametrize("given", [False, True])
def test_absent_datasets_are_one_paragraph_of_100_columns(tmp_path, given):
    root = {"data_root": str(tmp_path)} if given else {}
    view = view_of(tmp_path, "mvtec-ad", "visa", "btad", "mpdd", "isic", "tn3k", "sdd", **root)
    lines = [line for line in view.to_text().splitlines() if line not in ("not ready", "")]
    start = next(i for i, line in enumerate(lines) if line.startswith("missing"))
    told = lines[start:]
    assert f"data of 7 datasets, not {'below' if given else 'found without --data-root'}" in told[0]
    assert sum(line.startswith("missing") for line in told) == 1
    assert all(len(line) <= max(100, len(told[0])) for line in told)
    names = " ".join(told[1:])
    assert "mvtec-ad (to learn from: coop, april-gan)" in names
    assert names.count("btad") == 1
    assert "zsad data sources NAME" in names
    assert "--auxiliary NAME" in names


def test_one_absent_dataset_is_told_with_its_expected_folders(tmp_path):
    view = view_of(tmp_path, "synthetic", auxiliary="visa", data_root=str(tmp_path))
    (thing,) = view.missing
    assert thing.needed_by == ("coop", "april-gan")
    assert "missing: auxiliary data visa for coop, april-gan: " in view.to_text()
    assert "split_csv/1cls.csv" in view.to_text()


def test_a_program_reads_a_line_for_each_thing(tmp_path):
    told = json.loads(view_of(tmp_path, "visa", "btad").to_json())["missing"]
    assert [line.partition(":")[0] for line in told] == [
        "data of visa",
        "data of btad",
        "auxiliary data mvtec-ad for coop, april-gan",
    ]


def test_equal_things_are_kept_once_with_all_who_need_them():
    things = MissingThings()
    for method in ("a", "b", "a"):
        with things.noted("auxiliary data", "mvtec_ad", method):
            raise DataError("a mask is broken")
    things.add(Missing("weights", "ViT", "not here"))
    first, second = things.all()
    assert first.line == "auxiliary data mvtec-ad for a, b: a mask is broken"
    assert second.line == "weights of ViT: not here"
    assert missing_text([first, second], None)[1] == "missing: weights of ViT: not here"
