"""Runs of several machines become one by the stated rule; conflicts are refused by name."""

import dataclasses

import pytest
from typer.testing import CliRunner
from zsad.bench.analysis.merge import MergeConflict, differences, merge_runs, summary
from zsad.bench.analysis.tables import make_table
from zsad.bench.cli.app import app
from zsad.bench.errors import UsageError
from zsad.bench.records.map_sheets import read_sheets
from zsad.bench.records.record import RecordError, read_records, write_record

KEY = "clip--official--visa--seed111"


@pytest.fixture
def store(tmp_path):
    """A function that writes records into a new run directory."""

    def write(name, *records):
        for record in records:
            write_record(tmp_path / name, record)
        return tmp_path / name

    return write


@pytest.fixture
def record(make_record):
    return make_record("CLIP", "visa", {"pcb1": {"image_auroc": 0.8}})


def later(record, value=None):
    """The same cell, run later on another machine, perhaps with another result."""
    (result,) = record.categories
    if value is not None:
        result = dataclasses.replace(result, metrics={"image_auroc": value})
    provenance = {"device": "H100", "started": "2026-02-01T00:00:00+00:00"}
    return dataclasses.replace(
        record, categories=[result], provenance=provenance, timing={"ms_per_image": 1.0}
    )


def test_different_cells_are_put_together(store, make_record, record, tmp_path):
    other = make_record("CLIP", "btad", {"01": {"image_auroc": 0.5}})
    kept = merge_runs([store("a", record), store("b", other)], tmp_path / "out")
    assert summary(kept) == {"only one": 2}
    assert read_records(tmp_path / "out") == [other, record]
    labels = [row.label for row in make_table(tmp_path / "out", "image").rows if not row.summary]
    assert labels == ["VisA", "BTAD"]


def test_equal_results_are_one_whatever_the_machine(store, record, tmp_path):
    runs = [store("a", record), store("b", later(record))]
    (kept,) = merge_runs(runs, tmp_path / "out")
    assert kept.why == "identical"
    assert read_records(tmp_path / "out") == [record]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_success_beats_a_failure_even_a_newer_one(store, make_record, record, tmp_path, order):
    failed = make_record("CLIP", "visa", error="disk full", provenance={"started": "2027"})
    paths = {"a": store("a", record), "b": store("b", failed)}
    (kept,) = merge_runs([paths[name] for name in order], tmp_path / "out")
    assert (kept.why, kept.record, kept.run) == ("ok beats error", record, paths["a"])


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_of_two_failures_the_newer_is_kept(store, make_record, tmp_path, order):
    old = make_record("CLIP", "visa", error="old", provenance={"started": "2026-01"})
    new = make_record("CLIP", "visa", error="new", provenance={"started": "2026-02"})
    paths = {"a": store("a", old), "b": store("b", new)}
    (kept,) = merge_runs([paths[name] for name in order], tmp_path / "out")
    assert kept.record == new


def test_different_results_are_refused_and_nothing_is_written(store, record, tmp_path):
    runs = [store("a", record), store("b", later(record, 0.9))]
    with pytest.raises(MergeConflict, match=f"{KEY}.*pcb1 image-auroc: 0.8 and 0.9"):
        merge_runs(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_the_newer_result_is_kept_on_request(store, record, tmp_path, order):
    newer = later(record, 0.9)
    paths = {"a": store("a", record), "b": store("b", newer)}
    runs = [paths[name] for name in order]
    (kept,) = merge_runs(runs, tmp_path / "out", prefer="newest")
    assert (kept.why, kept.record) == ("newest", newer)


def test_another_protocol_with_equal_numbers_is_a_conflict(store, record, tmp_path):
    other = dataclasses.replace(record, protocol={**record.protocol, "map_size": 240})
    with pytest.raises(MergeConflict, match="protocol map_size: 518 and 240"):
        merge_runs([store("a", record), store("b", other)], tmp_path / "out")


def test_other_scores_with_equal_metrics_differ(scored_record):
    one = scored_record("CLIP", "visa", 0, 1.0)
    (result,) = one.categories
    images = dataclasses.replace(result.images, scores=[2 * s for s in result.images.scores])
    two = dataclasses.replace(one, categories=[dataclasses.replace(result, images=images)])
    assert differences(one, two) == ["one: images or their scores"]
    assert differences(one, one) == []


def test_maps_and_pictures_go_with_their_record(store, make_record, record, tmp_path):
    failed = make_record("CLIP", "visa", error="x")
    a, b = store("a", failed), store("b", record)
    for run, text in ((a, "wrong"), (b, "right")):
        for folder in ("maps", "gallery"):
            (run / folder / KEY).mkdir(parents=True)
            (run / folder / KEY / "pcb1.bin").write_text(text)
        (run / "maps" / f"{KEY}-other").mkdir()
    (b / "maps" / KEY / "link").symlink_to("/etc/passwd")
    merge_runs([a, b], tmp_path / "out")
    for folder in ("maps", "gallery"):
        assert (tmp_path / "out" / folder / KEY / "pcb1.bin").read_text() == "right"
    assert not (tmp_path / "out" / "maps" / KEY / "link").exists()
    assert [path.name for path in (tmp_path / "out" / "maps").iterdir()] == [KEY]


def test_images_that_maps_are_of_go_with_their_record(tmp_path, make_run):
    run = make_run(tmp_path / "run", ["CLIP"], ["elpv"], images=4, keep=1)
    merge_runs([run], tmp_path / "out")
    (record,) = read_records(run)
    for folder in (run, tmp_path / "out"):
        (sheet,) = read_sheets(folder, record.cell)
        assert sheet.picture_of(0).any()


def test_a_run_can_take_in_another(store, make_record, record):
    other = make_record("CLIP", "btad", {"01": {"image_auroc": 0.5}})
    a, b = store("a", record), store("b", other)
    merge_runs([a, b], a)
    assert len(read_records(a)) == 2


def test_a_full_directory_is_not_overwritten(store, make_record, record):
    a = store("a", record)
    out = store("out", make_record("CoOp", "visa", {"x": {}}))
    with pytest.raises(UsageError, match="holds records already"):
        merge_runs([a], out)


def test_a_missing_run_and_an_empty_list_are_told(tmp_path):
    with pytest.raises(RecordError, match="not a run directory"):
        merge_runs([tmp_path / "nowhere"], tmp_path / "out")
    with pytest.raises(UsageError, match="at least one"):
        merge_runs([], tmp_path / "out")


def test_three_runs_give_the_same_in_any_order(store, make_record, record, tmp_path):
    failed = make_record("CLIP", "visa", error="x")
    paths = [store("a", failed), store("b", record), store("c", later(record))]
    merge_runs(paths, tmp_path / "one")
    merge_runs([paths[1], paths[0], paths[2]], tmp_path / "two")
    assert read_records(tmp_path / "one") == read_records(tmp_path / "two") == [record]


def test_the_command_tells_what_it_chose(store, record, tmp_path):
    a, b = store("a", record), store("b", later(record, 0.9))
    out = tmp_path / "out"
    command = ["merge", str(a), str(b), "--out", str(out)]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, MergeConflict)
    done = CliRunner().invoke(app, [*command, "--prefer", "newest"])
    assert done.exit_code == 0
    assert f"{KEY}: from {b} (newest)" in done.output


def test_equal_results_of_weights_that_two_runs_learned_are_one(tmp_path, scored_record):
    record = scored_record("CoOp", "visa", 0, 1.0, protocol={"auxiliary": "mvtec_ad"})
    kept = {}
    for source in ({}, {"auxiliary_source": "header"}):
        folder = tmp_path / (source.get("auxiliary_source") or "learned")
        for sha in ("aa", "bb"):
            protocol = {**record.protocol, **source, "checkpoint_sha256": sha}
            write_record(folder / sha, dataclasses.replace(record, protocol=protocol))
        kept[folder.name] = [folder / "aa", folder / "bb"]
    (choice,) = merge_runs(kept["learned"], tmp_path / "out")
    assert choice.why == "identical"
    with pytest.raises(MergeConflict, match="checkpoint_sha256"):
        merge_runs(kept["header"], tmp_path / "other")


def test_of_equal_results_the_one_with_more_metrics_is_kept(tmp_path, make_record):
    fewer = make_record("CLIP", "visa", {"a": {"image_auroc": 0.5}})
    more = make_record("CLIP", "visa", {"a": {"image_auroc": 0.5, "pixel_aupimo": 0.2}})
    for name, record in (("a", fewer), ("b", more)):
        write_record(tmp_path / name, record)
    (kept,) = merge_runs([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert kept.why == "identical"
    assert kept.record == read_records(tmp_path / "out")[0] == more
