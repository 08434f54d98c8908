"""Records that are published are held to what others rely on."""

import dataclasses
import json
import shutil

import pytest
from typer.testing import CliRunner
from zsad.bench.analysis.validation import validate
from zsad.bench.cli.app import app
from zsad.bench.data.completeness import Completeness
from zsad.bench.files import read_json, write_json
from zsad.bench.records.record import Auxiliary, RecordError, read_records, write_record
from zsad.bench.records.repository import record_files, repository_path


@pytest.fixture(scope="module")
def made(make_run, tmp_path_factory):
    return make_run(
        tmp_path_factory.mktemp("made"), ("CLIP", "FAPrompt"), ("visa", "elpv"), images=10, keep=0
    )


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def changed(run, change):
    """Apply a change to the JSON of the run's first record; returns its path."""
    path = record_files(run)[0]
    raw = read_json(path)
    change(raw)
    write_json(path, raw)
    return path


def faults(verdict):
    return [(f.gravity, f.check) for f in verdict.findings if f.gravity != "note"]


def test_a_run_and_a_results_repository_pass(run, tmp_path):
    records = read_records(run)
    for record in records:
        path = repository_path(tmp_path / "repository", record.cell)
        write_json(path, dataclasses.asdict(record))
    assert path.relative_to(tmp_path / "repository").parts[:3] == ("results", "faprompt", "visa")
    for source in (run, tmp_path / "repository", path.parent, path):
        verdict = validate([source])
        assert not faults(verdict)
        assert verdict.exit_code == 0
    assert validate([tmp_path / "repository"]).files == len(records) == 4
    assert validate([path.parent]).files == 1


def _set(where, value):
    *folders, last = where

    def change(raw):
        for name in folders:
            raw = raw[name]
        raw[last] = value

    return change


def _first(*where):
    return ("categories", 0, *where)


@pytest.mark.parametrize(
    ("change", "check", "words"),
    [
        (_set(_first("metrics", "image_f1max"), 0.99), "image-level", "the scores give 0."),
        (_set(_first("images", "scores"), None), "image-level", "no scores"),
        (_set(_first("n_normal"), 6), "counts", "6 normal"),
        (_set(_first("images", "names", 1), "elpv/test/good/000.png"), "counts", "twice"),
        (_set(_first("category"), "moon"), "names", "no such category"),
        (_set(("protocol", "map_size"), None), "protocol", "lacks map_size"),
        (_set(("protocol", "limit"), 3), "counts", "a limit of 3"),
        (_set(("protocol", "auxiliary"), "visa+elpv"), "leakage", "tested on"),
        (_set(("status",), "done"), "schema", "status"),
        (_set(_first("metrics", "image_ap"), 1.5), "schema", "less than or equal to 1"),
        (_set(("cell", "seed"), 5), "place", "seed5"),
    ],
)
def test_a_wrong_record_is_told_by_its_check(run, change, check, words):
    path = changed(run, change)
    verdict = validate([run])
    assert {(gravity, name) for gravity, name in faults(verdict)} == {("wrong", check)}
    assert verdict.paths("wrong") == [str(path)]
    assert words in verdict.render()
    assert verdict.exit_code == 1


def test_a_metric_that_does_not_follow_from_the_scores_is_not_computed_again(run):
    changed(run, _set(_first("metrics", "image_f1_learned"), 0.5))
    assert not faults(validate([run]))


def test_names_that_are_not_installed_are_wrong_unless_they_are_allowed(run):
    record = read_records(run)[0]
    cell = dataclasses.replace(record.cell, method="unheard_of")
    write_record(run, dataclasses.replace(record, cell=cell))
    assert faults(validate([run])) == [("wrong", "names")]
    assert validate([run], allow_unknown=True).exit_code == 0


def test_curves_bound_what_pixel_level_metrics_can_be(run):
    path = record_files(run)[1]
    raw = read_json(path)
    metrics = raw["categories"][0]["metrics"]
    metrics["pixel_pro"] += -0.05 if metrics["pixel_pro"] > 0.5 else 0.05
    write_json(path, raw)
    assert faults(validate([run])) == [("wrong", "curves")]


def test_a_copy_that_is_said_to_be_complete_has_the_counts_of_the_release(run):
    record = next(r for r in read_records(run) if r.cell.dataset == "elpv")
    number = sum(r.n_normal + r.n_anomalous for r in record.categories)
    held = Completeness(found=number, expected=number)
    write_record(run, dataclasses.replace(record, completeness=held))
    assert faults(validate([run])) == [("wrong", "counts")]
    held = Completeness(found=number + 1)
    write_record(run, dataclasses.replace(record, completeness=held))
    assert "the completeness says 11" in validate([run]).render()


def test_what_was_learned_from_is_looked_up_in_the_auxiliary_too(run):
    record = read_records(run)[0]
    auxiliary = Auxiliary("elpv", "test", 10, "aa")
    write_record(run, dataclasses.replace(record, auxiliary=auxiliary))
    assert faults(validate([run])) == [("wrong", "leakage")]


def test_a_failed_cell_is_wrong(make_run, tmp_path):
    run = make_run(tmp_path, ("CLIP",), ("visa",), images=4, keep=0, failing=("CLIP", "visa"))
    assert faults(validate([run])) == [("wrong", "outcome")]


def test_two_records_of_a_cell_are_told_apart_by_their_files(run, tmp_path):
    copy = tmp_path / "copy.json"
    shutil.copy(record_files(run)[0], copy)
    verdict = validate([run, copy])
    assert faults(verdict) == [("wrong", "duplicate")]
    assert verdict.findings[-1].path == str(copy)


def test_what_is_no_json_or_of_a_newer_schema_cannot_be_read(run):
    first, second, *_ = record_files(run)
    first.write_text("{")
    raw = read_json(second)
    write_json(second, {**raw, "schema": 99})
    verdict = validate([run])
    assert faults(verdict) == [("unreadable", "file"), ("unreadable", "schema")]
    assert verdict.exit_code == 2


def test_a_folder_that_is_neither_is_refused(tmp_path):
    with pytest.raises(RecordError, match="neither a run directory nor"):
        validate([tmp_path])
    with pytest.raises(RecordError, match="is not there"):
        validate([tmp_path / "absent"])


def test_the_verb_exits_as_the_verdict_says_and_speaks_json(run):
    def call(*words):
        return CliRunner().invoke(app, ["validate", *map(str, words)])

    assert call(run).exit_code == 0
    path = changed(run, _set(_first("metrics", "image_auroc"), 0.5))
    done = call(run, "--json")
    assert done.exit_code == 1
    told = json.loads(done.output)
    assert (told["passed"], told["files"], told["wrong"]) == (False, 4, 1)
    assert {f["path"] for f in told["findings"] if f["gravity"] == "wrong"} == {str(path)}
    path.write_text("[]")
    assert call(run).exit_code == 1  # JSON, but not a record
    path.write_text("")
    assert call(run).exit_code == 2
