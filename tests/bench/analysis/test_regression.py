"""The regression check: an unchanged run passes; whatever moved or vanished is named."""

import dataclasses
import json

import pytest
from typer.testing import CliRunner
from zsad.bench import registry
from zsad.bench.analysis.baseline import (
    ANY_METRIC,
    Baseline,
    make_baseline,
    read_baseline,
)
from zsad.bench.analysis.regression import check_run
from zsad.bench.cli.app import app
from zsad.bench.errors import UsageError
from zsad.bench.records.record import write_record
from zsad.bench.running.identity import cell_code

KEY = "clip--official--visa--seed111"


def changed(records, **changes):
    """The records with the first one changed."""
    return [dataclasses.replace(records[0], **changes), *records[1:]]


def with_metric(records, metric, value):
    first, second = records[0].categories
    metrics = {**first.metrics, metric: value}
    if value is None:
        del metrics[metric]
    return changed(records, categories=[dataclasses.replace(first, metrics=metrics), second])


def test_an_unchanged_run_passes(records, baseline):
    verdict = check_run(records, baseline)
    assert verdict.passed
    assert verdict.findings == ()
    assert (verdict.cells, verdict.numbers) == (2, 4)
    assert verdict.render() == (
        "passed: 4 numbers of 2 cells compared, none moved beyond its tolerance"
    )


@pytest.mark.parametrize(("shift", "kind"), [(-0.001, "dropped"), (0.001, "rose")])
def test_a_move_beyond_the_tolerance_fails_in_both_directions(records, baseline, shift, kind):
    verdict = check_run(with_metric(records, "image_auroc", 0.81234567 + shift), baseline)
    (finding,) = verdict.findings
    assert not verdict.passed
    assert (finding.kind, finding.cell, finding.category) == (kind, KEY, "pcb1")
    assert (finding.metric, finding.old, finding.tolerance) == ("image_auroc", 0.812346, 0.0005)
    assert KEY in verdict.render()
    assert f"image-auroc {kind} by 0.0010" in verdict.render()


def test_a_move_within_the_tolerance_passes(records, baseline):
    assert check_run(with_metric(records, "image_auroc", 0.8120), baseline).passed
    assert not check_run(with_metric(records, "image_auroc", 0.80), baseline).passed
    assert check_run(
        with_metric(records, "image_auroc", 0.80), baseline, {"image_auroc": 0.02}
    ).passed
    assert check_run(with_metric(records, "image_auroc", 0.80), baseline, {ANY_METRIC: 0.02}).passed
    assert not check_run(
        with_metric(records, "image_auroc", 0.80), baseline, {"image_ap": 0.02}
    ).passed


def test_a_tolerance_of_zero_wants_equal_numbers(records, baseline):
    assert check_run(records, baseline, {ANY_METRIC: 0.0}).passed
    moved = with_metric(records, "image_auroc", 0.81234567 + 3e-6)
    assert not check_run(moved, baseline, {ANY_METRIC: 0.0}).passed


def test_a_missing_cell_fails_and_a_new_one_does_not(records, baseline, make_record):
    (finding,) = check_run(records[1:], baseline).findings
    assert (finding.kind, finding.cell, finding.fails) == ("missing", KEY, True)
    more = [*records, make_record("CoOp", "visa", {"x": {"image_auroc": 0.5}})]
    verdict = check_run(more, baseline)
    assert verdict.passed
    assert verdict.findings[0].kind == "new"


def test_a_failed_cell_fails_with_its_error(records, baseline, make_record):
    failed = make_record("CLIP", "visa", error="out of memory")
    (finding,) = check_run([failed, records[1]], baseline).findings
    assert finding.kind == "failed"
    assert "out of memory" in finding.message


def test_a_missing_category_and_a_metric_that_became_undefined_fail(records, baseline):
    first, second = records[0].categories
    (finding,) = check_run(changed(records, categories=[first]), baseline).findings
    assert (finding.kind, finding.category) == ("missing", "pcb2")
    undefined = dataclasses.replace(
        first, metrics={"image_auroc": 0.81234567}, undefined={"pixel_pro": "no masks"}
    )
    (finding,) = check_run(changed(records, categories=[undefined, second]), baseline).findings
    assert finding.kind == "missing"
    assert "pixel-pro was 0.5000, is undefined: no masks" in finding.message


def test_other_numbers_of_images_fail(records, baseline):
    first, second = records[0].categories
    fewer = dataclasses.replace(first, n_normal=9)
    (finding,) = check_run(changed(records, categories=[fewer, second]), baseline).findings
    assert (finding.kind, finding.old, finding.new) == ("protocol", [10, 20], [9, 20])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights_sha256", "00"),
        ("prompts_sha256", "bb"),
        ("metric_version", 2),
        ("map_size", 240),
        ("backbone", None),
    ],
)
def test_a_changed_protocol_fails_even_with_equal_numbers(records, baseline, name, value):
    protocol = {**records[0].protocol, name: value}
    (finding,) = check_run(changed(records, protocol=protocol), baseline).findings
    assert (finding.kind, finding.metric) == ("protocol", name)
    assert finding.fails


def test_a_new_protocol_entry_is_a_note(records, baseline):
    protocol = {**records[0].protocol, "weather": "fine"}
    verdict = check_run(changed(records, protocol=protocol), baseline)
    assert verdict.passed
    assert "weather is new" in verdict.findings[0].message


def test_a_further_metric_is_one_note_for_the_whole_run(records, baseline):
    more = [
        dataclasses.replace(r, metrics={**r.metrics, "pixel_aupimo": 0.3})
        for r in records[0].categories
    ]
    verdict = check_run(changed(records, categories=more), baseline)
    assert verdict.passed
    (finding,) = verdict.findings
    assert (finding.kind, finding.cell, finding.metric) == ("note", "", "pixel_aupimo")
    assert verdict.render().startswith("note: pixel-aupimo is not in the baseline")
    assert "title=zsad check::pixel-aupimo" in verdict.render("github")


def test_another_definition_of_a_guarded_metric_fails_and_of_no_other(records, baseline):
    def of_versions(**versions):
        protocol = {**records[0].protocol, "metric_versions": versions}
        return check_run(changed(records, protocol=protocol), baseline)

    assert of_versions(pixel_aupimo=2).findings == ()
    (finding,) = of_versions(pixel_pro=2).findings
    assert (finding.kind, finding.metric, finding.old, finding.new) == (
        "protocol",
        "pixel_pro",
        1,
        2,
    )


def test_weights_learned_in_the_run_are_guarded_by_their_metrics_only(records):
    def learned(sha, **more):
        return changed(records, protocol={**records[0].protocol, "checkpoint_sha256": sha, **more})

    trained = make_baseline(learned("a", auxiliary="synthetic_aux"), "first")
    assert check_run(learned("b", auxiliary="synthetic_aux"), trained).passed
    given = make_baseline(learned("a"), "first")
    assert not check_run(learned("b"), given).passed


def test_json_holds_every_finding(records, baseline):
    raw = json.loads(check_run(records[1:], baseline).render("json"))
    assert raw["passed"] is False
    assert raw["findings"][0]["cell"] == KEY
    assert raw["findings"][0]["fails"] is True


def test_github_annotations_are_escaped(records, make_record):
    baseline = make_baseline(records, "first")
    failed = make_record("CLIP", "visa", error="50% done\n::error::injected")
    lines = check_run([failed, records[1]], baseline).render("github").splitlines()
    assert lines[0].startswith(f"::error title=zsad check%3A {KEY}::")
    assert "50%25 done%0A::error::injected" in lines[0]
    assert len(lines) == 2
    assert lines[1].startswith("FAILED")
    passed = check_run(records, baseline).render("github")
    assert passed.startswith("passed")


def test_an_unknown_format_is_answered(records, baseline):
    with pytest.raises(UsageError, match="github"):
        check_run(records, baseline).render("xml")


def store(run, records):
    for record in records:
        write_record(run, record)
    return str(run)


def test_the_command_exits_with_one_and_names_the_cell(tmp_path, records):
    runner = CliRunner()
    file = str(tmp_path / "b.json")
    run = store(tmp_path / "run", records)
    made = runner.invoke(app, ["check", run, "--baseline", file, "--update", "--reason", "first"])
    assert made.exit_code == 0
    same = runner.invoke(app, ["check", run, "--baseline", file])
    assert same.exit_code == 0
    assert "passed" in same.output
    moved = store(tmp_path / "moved", with_metric(records, "image_auroc", 0.6))
    found = runner.invoke(app, ["check", moved, "--baseline", file])
    assert found.exit_code == 1
    assert f"FAIL {KEY} pcb1: image-auroc dropped by 0.2123" in found.output
    loose = ["check", moved, "--baseline", file, "--tolerance", "image_auroc=0.3"]
    assert runner.invoke(app, loose).exit_code == 0
    told = runner.invoke(app, [*loose[:4], "--update", "--reason", "worse is fine"])
    assert told.exit_code == 0
    assert runner.invoke(app, ["check", moved, "--baseline", file]).exit_code == 0


def test_an_update_tells_what_is_no_longer_guarded(tmp_path, records):
    file = str(tmp_path / "b.json")
    run = store(tmp_path / "run", records)
    CliRunner().invoke(app, ["check", run, "--baseline", file, "--update", "--reason", "first"])
    less = store(tmp_path / "less", records[1:])
    told = CliRunner().invoke(
        app, ["check", less, "--baseline", file, "--update", "--reason", "smaller"]
    )
    assert f"no longer guarded: {KEY}" in told.output
    assert isinstance(read_baseline(tmp_path / "b.json"), Baseline)


def test_a_tolerance_may_be_for_one_method_alone(make_record):
    old = [make_record("CLIP", "visa", {"a": {"image_auroc": 0.8}})]
    new = [make_record("CLIP", "visa", {"a": {"image_auroc": 0.77}})]
    method = old[0].cell.method
    baseline = make_baseline(old, "first")
    assert not check_run(new, baseline).passed
    assert check_run(new, baseline, {f"{method}.*": 0.05}).passed
    assert check_run(new, baseline, {f"{method}.image_auroc": 0.05, "*": 0.0}).passed
    assert not check_run(new, baseline, {"other.*": 0.05}).passed


def test_values_in_json_are_numbers(records, baseline):
    moved = check_run(with_metric(records, "image_auroc", 0.6), baseline)
    (finding,) = json.loads(moved.render("json"))["findings"]
    assert (finding["old"], finding["new"]) == (0.812346, 0.6)
    gone = check_run(with_metric(records, "image_auroc", None), baseline)
    (finding,) = json.loads(gone.render("json"))["findings"]
    assert (finding["old"], finding["new"]) == (0.812346, None)
    changed_map = changed(records, protocol={**records[0].protocol, "map_size": 224})
    (finding,) = json.loads(check_run(changed_map, baseline).render("json"))["findings"]
    assert (finding["old"], finding["new"]) == (518, 224)


def test_code_that_is_no_longer_installed_is_mentioned_and_never_fails(baseline, records):
    installed = cell_code(registry.method_class("clip"), registry.dataset_class("visa"))
    assert check_run(changed(records, identity={"code": installed}), baseline).findings == ()
    other = changed(records, identity={"code": "0" * 64})
    verdict = check_run(other, baseline)
    (finding,) = verdict.findings
    assert verdict.passed
    assert (finding.kind, finding.cell) == ("note", KEY)
    assert "made by other code than is installed" in finding.message


def test_code_of_a_method_that_is_not_installed_is_not_mentioned(make_record):
    record = make_record("Absent", "visa", {"x": {"image_auroc": 0.5}})
    record = dataclasses.replace(record, identity={"code": "0" * 64})
    baseline = make_baseline([record], "first")
    assert check_run([record], baseline).findings == ()
