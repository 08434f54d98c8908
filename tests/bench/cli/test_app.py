"""The command as a user meets it: what it prints, what it writes, its exit codes."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from zsad.bench import load_dataset, load_run
from zsad.bench.analysis.baseline import BaselineError
from zsad.bench.analysis.merge import MergeConflict
from zsad.bench.cli import app as cli
from zsad.bench.cli import main
from zsad.bench.cli.terminal import PrintableFormatter
from zsad.bench.errors import ContractError, DataError, Stopped, UsageError, WeightsError
from zsad.bench.metric_table import METRICS
from zsad.bench.records.record import RecordError, read_records
from zsad.bench.running.plan import Plan
from zsad.bench.training.user_checkpoint import open_checkpoint


@pytest.fixture
def zsad(monkeypatch, capsys):
    """Run the command in this process; returns exit code, standard output and standard error."""

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["zsad", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def pictures(tmp_path, draw_parts):
    """Two normal and two anomalous images with masks, in the layout of a user's own folder."""
    return draw_parts(tmp_path / "parts", ".", size=(60, 80))


def test_help_names_every_verb(zsad):
    code, out, _ = zsad("--help")
    assert code == 0
    verbs = (
        "run plan list train predict new data table check compare rescore study merge report figure"
    )
    assert set(verbs.split()) <= set(out.split())


def test_every_verb_writes_to_out_and_o():
    groups, written = [typer.main.get_command(cli.app)], 0
    while groups:
        group = groups.pop()
        groups += getattr(group, "commands", {}).values()
        for names in (parameter.opts for parameter in group.params):
            assert ("--out" in names) == ("-o" in names)
            assert "--output" not in names
            written += "-o" in names
    assert written >= 14  # verbs come and go, the rule stays


def test_every_option_has_a_help():
    groups = [typer.main.get_command(cli.app)]
    while groups:
        group = groups.pop()
        groups += getattr(group, "commands", {}).values()
        assert "Args:" not in (group.help or "")
        for parameter in group.params:
            assert getattr(parameter, "help", None), (group.name, parameter.name)


@pytest.mark.parametrize("words", [("--help",), ("list",), ("list", "datasets"), ("run", "--help")])
def test_help_and_names_need_no_torch(words):
    code = (
        f"import sys; sys.argv = ['zsad', *{words!r}]\n"
        "from zsad.bench.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ('torch', 'open_clip', 'numpy', 'pandas', 'matplotlib', 'PIL', 'scipy')\n"
        "print('heavy:', [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"


@pytest.mark.parametrize("verb", ["run", "plan", "train", "data check", "data show", "data meta"])
def test_the_environment_names_the_data_root_of_every_verb(verb):
    command = typer.main.get_command(cli.app)
    for word in verb.split():
        command = command.commands[word]
    (root,) = (parameter for parameter in command.params if parameter.name == "data_root")
    assert root.envvar == "ZSAD_DATA"


def test_a_data_root_goes_before_that_of_the_environment(zsad, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("ZSAD_DATA", str(pictures))
    arguments = ("plan", "--methods", "clip", "--datasets", "folder", "--out", tmp_path / "run")
    assert zsad(*arguments)[0] == 0
    assert zsad(*arguments, "--data-root", tmp_path / "absent")[0] == 1
    file = tmp_path / "plan.toml"
    file.write_text(
        f'methods = ["clip"]\ndatasets = ["folder"]\ndata_root = "{tmp_path / "absent"}"'
    )
    assert zsad("plan", file, "--out", tmp_path / "run")[0] == 1
    file.write_text('methods = ["clip"]\ndatasets = ["folder"]')
    assert zsad("plan", file, "--out", tmp_path / "run")[0] == 0


def test_a_built_in_set_is_not_drawn_into_the_folder_of_the_environment(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("ZSAD_DATA", str(tmp_path / "data"))
    drawn = load_dataset("synthetic", tmp_path / "data")
    assert tmp_path not in drawn.root.parents


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("methods", "clip-ac"),
        ("datasets", "mvtec-ad"),
        ("backbones", "ViT-L-14-336:openai"),
        ("metrics", "pixel-pro"),
    ],
)
def test_list_names_things(zsad, what, expected):
    code, out, _ = zsad("list", what)
    assert code == 0
    assert expected in out.splitlines()


def test_list_verbose_defines_the_metrics(zsad):
    code, out, _ = zsad("list", "metrics", "--verbose")
    assert code == 0
    assert "image-f1max: image F1-max\n  is  greatest F1 score of images over all thresholds" in out


@pytest.mark.parametrize("what", ["methods", "datasets", "metrics", "backbones"])
def test_list_verbose_fits_100_columns_and_has_a_form_for_programs(zsad, what):
    code, out, _ = zsad("list", what, "-v")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    code, out, _ = zsad("list", what, "-v", "--json")
    facts = json.loads(out)[what]
    names = [own["name"] for own in facts]
    assert names == json.loads(zsad("list", what, "--json")[1])
    assert names == zsad("list", what)[1].split()
    if what == "datasets":
        (visa,) = (own for own in facts if own["name"] == "visa")
        assert (visa["normal"], visa["pixel-level"]) == (962, True)


def test_a_shell_completes_verbs_and_options(monkeypatch):
    script = "from zsad.bench.cli import main; import sys; sys.argv[0] = 'zsad'; main()"
    environment = {**os.environ, "_ZSAD_COMPLETE": "complete_bash"}
    for words, expected in (("zsad pre", "predict"), ("zsad run --auxiliary-l", "auxiliary-limit")):
        asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**environment, **asked},
            capture_output=True,
            text=True,
            check=True,
        )
        assert expected in done.stdout


def test_run_merge_and_rescore_answer_programs(zsad, pictures, tmp_path):
    run, merged = tmp_path / "run", tmp_path / "merged"
    arguments = ("--datasets", "folder", "--data-root", pictures, "--out", run, "--quiet")
    code, out, _ = zsad("run", "--methods", "clip", *arguments, "--json")
    answer = json.loads(out)
    (cell,) = answer["cells"]
    assert (code, answer["failed"], cell["status"], cell["images"]) == (0, 0, "ok", 4)
    (record,) = read_records(run)
    assert cell["metrics"]["image_auroc"] == record.categories[0].metrics["image_auroc"]
    assert Path(cell["record"]).is_file()
    answer = json.loads(zsad("merge", run, "--out", merged, "--json")[1])
    assert [own["cell"] for own in answer["records"]] == [record.cell.key]
    answer = json.loads(zsad("rescore", merged, "--in-place", "--json")[1])
    assert (answer["cells"], answer["moves"], answer["written"]) == (1, [], str(merged))
    failed = ("run", "--methods", "clip", "--datasets", "visa", "--data-root", tmp_path)
    code, out, err = zsad(*failed, "--out", tmp_path / "failed", "--quiet", "--json")
    assert code == 1
    assert "VisA is not below" in json.loads(out)["cells"][0]["error"]
    assert "failed: " in err


def test_list_verbose_states_the_parameter_ledger(zsad):
    code, out, _ = zsad("list", "methods", "--verbose")
    assert code == 0
    for count in ("3,148,800", "9,216", "83,760", "5,555,200", "9,612,256", "43,008", "4,100,064"):
        assert count in out
    for word in (
        "training-free",
        "auxiliary-trained",
        "test-time",
        "zero-shot",
        "paper",
        "official",
    ):
        assert word in out


def test_run_prints_both_tables_and_keeps_records(zsad, pictures, tmp_path):
    run = tmp_path / "run"
    arguments = ("run", "--methods", "clip", "--datasets", "folder", "--data-root", pictures)
    code, out, err = zsad(*arguments, "--out", run, "--quiet")
    assert code == 0, err
    assert "Image-level" in out
    assert "Pixel-level" in out
    frame = load_run(run)
    assert set(frame.method) == {"clip"}
    lacking = set(frame[frame.value.isna()].metric)
    assert lacking - {"pixel_recall_small", "pixel_recall_medium", "pixel_aupimo"} == {
        name for name, metric in METRICS.items() if metric.scores_further_images
    }
    again = zsad(*arguments, "--out", run, "--quiet")
    assert again[0] == 0
    assert again[1] == out


def test_run_measures_and_prints_the_named_metrics_and_tells_of_others(zsad, pictures, tmp_path):
    run = tmp_path / "run"
    arguments = ("run", "--methods", "clip", "--datasets", "folder", "--data-root", pictures)
    arguments += ("--out", run, "--quiet")
    code, out, err = zsad(*arguments, "--metric", "image-ap", "--metric", "pixel-aupimo")
    assert code == 0
    assert "Image-level (AP) in percent" in out
    assert "Pixel-level (AUPIMO) in percent" in out
    assert "warning: 1 finished" not in err
    (record,) = read_records(run)
    (result,) = record.categories
    assert {*result.metrics, *result.undefined} == {"image_ap", "pixel_aupimo"}
    code, out, err = zsad(*arguments)
    assert code == 0
    assert "not measured" in out
    assert "warning: 1 finished cells were not measured by image-auroc, image-f1max" in err
    assert read_records(run) == [record]
    code, _, err = zsad(*arguments, "--metric", "pixel-aupim")
    assert code == 2
    assert "did you mean pixel-aupimo" in err


def test_run_of_a_plan_file_is_overridden_by_the_command_line(zsad, pictures, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f"""
        out = "{tmp_path / "from-file"}"
        batch_size = 2
        [[dataset]]
        name = "folder"
        root = "{pictures}"
        [[method]]
        name = "clip"
        options = {{ temperature = 1.0 }}
        """
    )
    assert zsad("run", plan, "--quiet", "--out", tmp_path / "from-line")[0] == 0
    assert not (tmp_path / "from-file").exists()
    stored = json.loads((tmp_path / "from-line" / "plan.json").read_text())
    assert stored["batch_size"] == 2
    assert stored["methods"][0]["options"] == {"temperature": 1.0}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "--methods", "klip"), "did you mean clip"),
        (("run", "--methods", "clip@nope"), "variant"),
        (("run", "--datasets", "vissa"), "did you mean visa"),
        (("run", "--methods", "clip", "--option", "clip.sigma=3"), "sigma"),
        (
            ("run", "--methods", "clip", "--option", "winclip.x=3"),
            "is not part of this run",
        ),
        (("run", "--methods", "clip", "--option", "nonsense"), "METHOD.NAME=VALUE"),
        (("run", "--methods", "clip", "--seeds", "one"), "one"),
        (("run", "--methods", "clip", "--shard", "3/2"), "shard"),
        (("run", "--methods", "clip", "--parallel", "magic"), "magic"),
        (("run", "nowhere.toml"), "nowhere.toml"),
        (("list", "things"), "things"),
        (("new", "thing", "x"), "thing"),
        (("predict", "clip", "nowhere.png", "--out", "x"), "nowhere.png"),
        (("run", "--methods", "clip", "--backbone", "ViT-Q"), "unknown backbone"),
        (("run", "--methods", "clip", "--backbone", "ViT-B-32:opnai"), "did you mean openai"),
        (("run", "--methods", "clip", "--backbone-config", "absent.json"), "absent.json"),
        (("run", "--methods", "clip", "--device", "gpu"), "unknown device 'gpu'"),
        (("run", "--methods", "clip", "--option", "clip.temperature=0"), "temperature"),
        (("run", "--methods", "clip", "--option", "clip.smoothing_sigma=nan"), "smoothing-sigma"),
    ],
)
def test_usage_errors_are_one_line_and_exit_with_2(zsad, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    code, _, err = zsad(*arguments)
    assert code == 2
    assert says in err
    assert "Traceback" not in err


def test_a_failed_cell_is_named_and_exits_with_1(zsad, tmp_path):
    code, _, err = zsad(
        "run", "--methods", "clip", "--datasets", "folder", "--data-root", tmp_path / "absent",
        "--out", tmp_path / "run", "--quiet",
    )  # fmt: skip
    assert code == 1
    assert "absent" in err
    assert "Traceback" not in err


def test_cells_that_fail_alike_are_told_in_one_line(zsad, tmp_path):
    code, _, err = zsad(
        "run", "--methods", "clip,clip-ac,winclip", "--datasets", "folder", "--quiet",
        "--data-root", tmp_path / "absent", "--out", tmp_path / "run",
    )  # fmt: skip
    assert code == 1
    told = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(told) == 1
    for method in ("clip--", "clip_ac--", "winclip--"):
        assert method in told[0]


def test_an_empty_share_leaves_a_run_that_says_it_has_no_records_yet(zsad, tmp_path, pictures):
    run = tmp_path / "run"
    code, _, err = zsad(
        "run", "--methods", "clip", "--datasets", "folder", "--data-root", pictures,
        "--out", run, "--quiet", "--shard", "1/2",
    )  # fmt: skip
    assert code == 0
    assert "no records yet" in err
    for verb in ("table", "compare", "report"):
        code, _, err = zsad(verb, run)
        assert (code, err) == (1, "zsad: the run has no records yet: 'zsad run' fills it\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (DataError("x"), 2),
        (WeightsError("x"), 2),
        (RecordError("x"), 2),
        (BaselineError("x"), 2),
        (OSError(28, "No space left on device"), 2),
        (RuntimeError("a fault of the program"), 2),
        (MergeConflict("x"), 1),
        (ContractError("x"), 1),
        (EOFError("a cut file"), 2),
        (Stopped("x"), 130),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(32, "Broken pipe"), 141),
    ],
)
def test_the_exit_code_tells_no_from_could_not(zsad, monkeypatch, error, code):
    def fail(*_):
        raise error

    monkeypatch.setattr("zsad.bench.cli.app.app", fail)
    assert zsad()[0] == code


INTERRUPTED_CHECK = """
import os, signal, sys, time
from zsad.bench import cli
from zsad.bench.records import record

def read(run):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

record.read_records = read
sys.argv = ["zsad", "check", "run", "--baseline", "baseline.json"]
cli.main()
"""


def test_an_interrupted_check_does_not_look_like_a_regression():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_CHECK], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize("hidden", [KeyboardInterrupt(), EOFError("cut"), BrokenPipeError(32, "")])
def test_typer_does_not_turn_other_ends_into_a_regression(zsad, monkeypatch, hidden):
    def fail(*_):
        raise hidden

    monkeypatch.setattr("zsad.bench.records.record.read_records", fail)
    code, _, err = zsad("check", "run", "--baseline", "baseline.json")
    expected = {KeyboardInterrupt: 130, EOFError: 2, BrokenPipeError: 141}
    assert code == expected[type(hidden)]
    assert ("Traceback" in err) == isinstance(hidden, EOFError)


def test_a_stopped_run_exits_as_an_interrupted_command(zsad, monkeypatch, pictures, tmp_path):
    def start(plan, jobs, datasets, progress):
        os.kill(os.getpid(), signal.SIGINT)
        progress.check()

    monkeypatch.setattr("zsad.bench.running.runner.start_run", start)
    code, _, err = zsad("run", "--methods", "clip", "--datasets", "folder", "--data-root", pictures,
                        "--out", tmp_path / "run")  # fmt: skip
    assert code == 130
    assert "the same command resumes from here" in err


@pytest.mark.parametrize("arguments", [["list"], ["--help"], ["list", "nothing"]])
def test_a_reader_that_leaves_ends_the_command_quietly(arguments):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", "from zsad.bench.cli import main; main()", *arguments]
    both = arguments[-1] == "nothing"
    try:
        done = subprocess.run(command, stdout=write, stderr=write if both else subprocess.PIPE)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr or b"") == (141, b"")


def test_check_exits_with_1_for_a_regression_alone(zsad, tmp_path, pictures):
    run, baseline = tmp_path / "run", tmp_path / "baseline.json"
    zsad("run", "--methods", "clip", "--datasets", "folder", "--data-root", pictures,
         "--out", run, "--quiet")  # fmt: skip
    check = ("check", run, "--baseline", baseline)
    assert zsad(*check)[0] == 2
    assert zsad(*check, "--update", "--reason", "first")[0] == 0
    assert zsad(*check)[0] == 0
    (cell,) = (run / "cells").glob("*.json")
    cell.rename(run / "kept.json")
    code, out, _ = zsad(*check)
    assert code == 1
    assert "no record of this cell" in out
    cell.write_text("{")
    assert zsad(*check)[0] == 2
    assert zsad("check", tmp_path / "absent", *check[2:])[0] == 2
    baseline.write_text("{")
    (run / "kept.json").rename(cell)
    assert zsad(*check)[0] == 2


def test_absent_weights_are_named_with_the_place_to_put_them(zsad, tmp_path, pictures, monkeypatch):
    monkeypatch.setenv("ZSAD_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    code, _, err = zsad(
        "run", "--methods", "clip", "--datasets", "folder", "--data-root", pictures,
        "--backbone", "published", "--out", tmp_path / "run", "--quiet",
    )  # fmt: skip
    assert code == 1
    assert "ViT-L-14-336px.pt" in err
    assert "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02" in err
    assert str(tmp_path / "weights") in err


def test_plan_shows_what_is_to_do_and_what_is_missing(zsad, tmp_path, pictures):
    arguments = ("--methods", "clip,anomalyclip", "--datasets", "folder", "--out", tmp_path / "run")
    code, out, _ = zsad("plan", *arguments, "--data-root", tmp_path / "absent")
    assert code == 1
    assert "missing: data of folder" in out
    assert "not ready" in out
    code, out, _ = zsad("plan", "--methods", "clip", *arguments[2:], "--data-root", pictures)
    assert code == 0
    assert "1 of 1 cells to do" in out
    code, out, _ = zsad("plan", *arguments, "--data-root", pictures, "--json")
    view = json.loads(out)
    assert [cell["state"] for cell in view["cells"]] == ["to do", "to do"]
    assert any("auxiliary data" in line for line in view["missing"])


def test_predict_writes_overlays_maps_and_scores(zsad, tmp_path, pictures):
    out = tmp_path / "found"
    code, printed, _ = zsad(
        "predict", "clip", pictures / "normal", pictures / "anomalous" / "1.png", "--out", out,
        "--class-name", "bottle",
    )  # fmt: skip
    assert code == 0
    assert len(printed.splitlines()) == 3
    rows = json.loads((out / "scores.json").read_text())
    with (out / "scores.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(r["score"]) for r in table] == [r["score"] for r in rows]
    for row in rows:
        width, height = Image.open(out / row["overlay"]).size  # two panels of 240 x 180
        assert width > 480 and height > 180
        assert np.load(out / row["map"]).dtype == np.float32
    assert len({row["overlay"] for row in rows}) == 3  # two files are called 1.png
    page = (out / "index.html").read_text()
    assert all(row["overlay"] in page for row in rows)


def test_predict_exits_with_3_for_an_anomaly_only_if_asked(zsad, tmp_path, pictures):
    call = ("predict", "clip", pictures / "anomalous", "--out", tmp_path / "found")
    below, above = ("--threshold", "-100"), ("--threshold", "100")
    assert zsad(*call, *below)[0] == 0
    code, out, err = zsad(*call, *below, "--fail-on-anomaly")
    assert code == 3
    assert out.count("  anomalous  ") == 2
    assert "2 of 2 images are anomalous: score above -100 (as given)" in err
    assert zsad(*call, *above, "--fail-on-anomaly")[0] == 0
    code, _, err = zsad(*call, "--fail-on-anomaly")
    assert code == 2
    assert "--fail-on-anomaly needs one of --threshold, --normal and --labelled" in err


def test_predict_decides_by_a_folder_of_labelled_images(zsad, tmp_path, pictures):
    call = ("predict", "clip", pictures / "anomalous", "--out", tmp_path / "found")
    code, _, err = zsad(*call, "--labelled", pictures)
    assert code == 0
    assert "F1-max over 2 normal and 2 anomalous images" in err
    rows = json.loads((tmp_path / "found" / "scores.json").read_text())
    assert all(row["p_value"] in (1 / 3, 2 / 3, 1) for row in rows)
    decision = json.loads((tmp_path / "found" / "decision.json").read_text())
    assert decision["map_rule"] == "F1-max over the pixels of 4 maps"


def test_predict_goes_on_past_a_broken_image_and_says_so(zsad, tmp_path, pictures):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.png").write_bytes((pictures / "normal" / "0.png").read_bytes()[:200])
    (folder / "b.png").write_bytes((pictures / "normal" / "0.png").read_bytes())
    code, printed, err = zsad("predict", "clip", folder, "--out", tmp_path / "found")
    assert code == 1
    assert "a.png" in err
    assert "Traceback" not in err
    rows = {row["path"]: row for row in json.loads((tmp_path / "found/scores.json").read_text())}
    assert "a.png" in rows[str(folder / "a.png")]["error"]
    assert rows[str(folder / "b.png")]["error"] is None
    assert f"{rows[str(folder / 'b.png')]['score']:.4f}" in printed


def test_predict_shows_normal_images_to_a_few_shot_method(zsad, tmp_path, pictures):
    few_shot = ("predict", "winclip-few-shot", pictures / "anomalous", "--out", tmp_path / "found")
    code, printed, err = zsad(*few_shot, "--references", pictures / "normal")
    assert code == 0, err
    assert len(printed.splitlines()) == len(list((pictures / "anomalous").glob("*.png")))
    code, _, err = zsad(*few_shot)
    assert code == 2
    assert "few-shot track: give it normal images" in err


def test_predict_into_a_file_is_refused(zsad, tmp_path, pictures):
    (tmp_path / "taken").write_text("")
    code, _, err = zsad("predict", "clip", pictures / "normal", "--out", tmp_path / "taken")
    assert code == 2
    assert "taken" in err
    assert len(err.splitlines()) == 1


def test_predict_of_a_method_that_has_learned_nothing_says_so(zsad, tmp_path, pictures):
    code, _, err = zsad("predict", "coop", pictures / "normal", "--out", tmp_path / "found")
    assert code == 0
    assert "coop is not trained, these are its initial weights" in err
    assert "--checkpoint" in err


@pytest.fixture
def coop_file(tmp_path):
    from zsad.bench import create, load_backbone
    from zsad.bench.checkpoint import write_tensors

    tensors = create("coop", load_backbone("tiny")).learned_state()
    write_tensors(tmp_path / "coop.safetensors", tensors, {})
    return tmp_path / "coop.safetensors"


def test_run_takes_checkpoints_by_auxiliary_dataset(zsad, tmp_path, coop_file):
    given = ["--checkpoint", f"coop.visa={coop_file}", "--checkpoint", f"coop.mvtec-ad={coop_file}"]
    code, _, err = zsad(
        *("run", "--methods", "coop", "--limit", 1, "--out", tmp_path / "run", *given)
    )
    assert code == 0, err
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert plan["methods"][0]["checkpoint"] == {
        "visa": [str(coop_file)],
        "mvtec_ad": [str(coop_file)],
    }
    (record,) = (tmp_path / "run" / "cells").iterdir()
    assert json.loads(record.read_text())["protocol"]["auxiliary_source"] == "declared"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--checkpoint", "coop"], "METHOD.AUXILIARY=FILE or METHOD=FILE"),
        (["--checkpoint", "tcp=FILE"], "is not part of this run"),
        (["--learned-from", "visa"], "--learned-from says what a --checkpoint was trained on"),
        (["--checkpoint", "coop.vissa=FILE"], "vissa"),
    ],
)
def test_wrong_checkpoints_of_a_run_are_refused(zsad, tmp_path, given, says):
    code, _, err = zsad("plan", "--methods", "coop", "--out", tmp_path / "run", *given)
    assert code == 2
    assert says in err


def test_predict_takes_checkpoints_and_what_they_were_learned_on(
    zsad, tmp_path, pictures, coop_file
):
    command = ["predict", "coop", pictures / "normal", "--out", tmp_path / "found"]
    code, _, err = zsad(*command, "--checkpoint", coop_file, "--learned-from", "visa")
    assert (code, err) == (0, f"wrote {tmp_path / 'found' / 'index.html'}\n")
    code, _, err = zsad(*command, "--checkpoint", coop_file, "--checkpoint", coop_file)
    assert code == 2
    assert "holds the tensor 'ctx', which another file" in err
    code, _, err = zsad(*command, "--learned-from", "visa")
    assert code == 2
    assert "give one" in err


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("folder", "is a folder: give --out a file"),
        ("file/learned.safetensors", "cannot be written"),
    ],
)
def test_train_refuses_an_unwritable_out_before_anything_is_loaded(
    zsad, tmp_path, monkeypatch, out, says
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("zsad.bench.weights.load_backbone", lambda *_: pytest.fail("went on"))
    code, _, err = zsad("train", "coop", "--on", "synthetic-aux", "--out", tmp_path / out)
    assert code == 2
    assert says in err
    assert str(tmp_path / out) in err
    assert len(err.splitlines()) == 1


def test_run_and_plan_have_an_option_for_each_setting_of_a_plan():
    verbs = typer.main.get_command(cli.app).commands
    settings = {field.name for field in dataclasses.fields(Plan)} - {
        "auxiliary_options",
        "metrics",
    }
    of_the_line = {
        *("plan_file", "option", "dataset_option", "checkpoint", "learned_from", "metric"),
    }
    for verb, own in (("run", {"jobs", "parallel", "scheduler", "shard", "quiet", "as_json"}),
                      ("plan", {"as_json", "calibrate"})):  # fmt: skip
        named = {parameter.name for parameter in verbs[verb].params} - {"help"}
        assert named == settings | of_the_line | own


def test_run_and_plan_take_dataset_options(zsad, tmp_path, pictures):
    """What the message of an incomplete copy advises can be done."""
    (pictures / "masks" / "1.png").unlink()
    arguments = ("--methods", "clip", "--datasets", "folder", "--data-root", pictures)
    code, out, _ = zsad("plan", *arguments, "--out", tmp_path / "run")
    (advised,) = re.findall(r"--dataset-option (\S+)", out)
    assert (code, advised) == (1, "folder.missing=skip")
    arguments += ("--dataset-option", advised, "--out", tmp_path / "run")
    assert zsad("plan", *arguments)[0] == 0
    code, _, err = zsad("run", *arguments, "--quiet")
    assert code == 0
    assert "warning: folder: left out: no mask for image" in err
    (cell,) = (tmp_path / "run" / "cells").glob("*.json")
    assert json.loads(cell.read_text())["protocol"]["dataset_options"]["missing"] == "skip"


def test_dataset_options_are_laid_over_those_of_a_plan_file(zsad, tmp_path, pictures):
    file = tmp_path / "plan.toml"
    file.write_text(
        f'methods = ["clip"]\nout = "{tmp_path / "run"}"\ngallery = 0\n'
        f'[[dataset]]\nname = "folder"\nroot = "{pictures}"\noptions = {{class_name = "cup"}}\n'
    )
    code, _, _ = zsad("run", file, "--dataset-option", "mask_threshold=9", "--quiet")
    (cell,) = (tmp_path / "run" / "cells").glob("*.json")
    options = json.loads(cell.read_text())["protocol"]["dataset_options"]
    assert (code, options["class_name"], options["mask_threshold"]) == (0, "cup", 9)


def test_dataset_options_reach_a_dataset_that_is_only_learned_from(zsad, tmp_path, pictures, trees):
    data, run = tmp_path / "data", tmp_path / "run"
    trees.mvtec(data / "mvtec_ad")
    (data / "mvtec_ad/bottle/ground_truth/broken_large/001_mask.png").unlink()
    file = tmp_path / "plan.toml"
    file.write_text(
        f'out = "{run}"\ndata_root = "{data}"\ngallery = 0\n'
        f'datasets = [{{name = "folder", root = "{pictures}"}}]\n'
        'methods = [{name = "coop", options = {epochs = 1}}]\n'
    )
    code, out, _ = zsad("plan", file)
    (advised,) = re.findall(r"--dataset-option (\S+)", out)
    assert (code, advised) == (1, "mvtec-ad.missing=skip")
    options = ("--dataset-option", advised, "--dataset-option", "folder.class_name=cup")
    code, out, _ = zsad("plan", file, *options)
    assert code == 0, out
    code, _, err = zsad("run", file, *options, "--quiet")
    assert code == 0, err
    (record,) = read_records(run)
    assert record.protocol["auxiliary_options"] == {"missing": "skip"}
    assert record.protocol["dataset_options"]["class_name"] == "cup"
    assert record.auxiliary.images == 9
    chosen = ("--dataset-option", "mvtec-ad.categories=metal_nut")
    assert "other auxiliary" in zsad("plan", file, *options, *chosen)[1]
    (checkpoint,) = (run / "checkpoints").glob("*.safetensors")
    assert open_checkpoint([checkpoint]).protocol()["auxiliary_options"] == {"missing": "skip"}


@pytest.mark.parametrize("methods", ["coop", "clip"])
def test_dataset_options_of_what_is_neither_scored_nor_learned_from_are_refused(zsad, methods):
    name = "visa" if methods == "coop" else "mvtec-ad"  # clip is trained on nothing
    arguments = ("--methods", methods, "--datasets", "elpv")
    code, _, err = zsad("plan", *arguments, "--dataset-option", f"{name}.missing=skip")
    assert code == 2
    assert f"{name} is not among the named datasets, and no method is trained on it" in err


def test_what_is_printed_holds_no_terminal_escapes(zsad, tmp_path, pictures):
    name = "\x1b[2J\x1b]0;owned\x07\x9b31m.png"
    (tmp_path / name).write_bytes((pictures / "normal" / "0.png").read_bytes())
    (tmp_path / f"broken{name}").write_bytes(b"no image")
    code, out, err = zsad("predict", "clip", tmp_path / name, tmp_path / f"broken{name}",
                          "--out", tmp_path / "found")  # fmt: skip
    assert code == 1
    assert "owned" in out
    assert "owned" in err
    code, out, more = zsad("run", "\x1b[31mabsent\x07.toml")
    assert code == 2
    assert "absent" in more
    assert not set("\x1b\x07\x9b") & set(out + err + more)


def test_log_lines_hold_no_terminal_escapes():
    record = logging.LogRecord("x", logging.WARNING, "x", 1, "odd \x1b[31m%s", ("\udcff",), None)
    assert PrintableFormatter("%(message)s").format(record) == "odd [31m\N{REPLACEMENT CHARACTER}"


def test_verbs_print_through_what_removes_terminal_escapes():
    for path in Path(cli.__file__).parent.glob("*.py"):
        if path.stem == "terminal":
            continue
        assert not re.search(r"typer\.echo|click\.echo|(?<![.\w])print\(", path.read_text()), path


HYPHENATED = """
batch-size = 4
[[method]]
name = "clip-ac"
options = { smoothing-sigma = 2.0 }
[[dataset]]
name = "folder"
options = { mask-threshold = 9 }
"""


@pytest.mark.parametrize("mark", ["-", "_"])
def test_hyphens_and_underscores_are_the_same_on_input(zsad, tmp_path, pictures, mark):
    """Records keep underscores, whatever was written."""
    run, file = tmp_path / "run", tmp_path / "plan.toml"
    file.write_text(HYPHENATED.replace("-", mark))
    option = f"class{mark}name=cup"
    code, _, err = zsad("run", file, "--dataset-option", option, "--data-root", pictures,
                        "--out", run, "--quiet")  # fmt: skip
    assert code == 0, err
    assert zsad("compare", run, "--metric", f"image{mark}auroc", "--bootstrap", "10")[0] == 0
    (record,) = read_records(run)
    options = record.protocol["dataset_options"]
    assert (options["class_name"], options["mask_threshold"]) == ("cup", 9)
    assert record.cell.options == {"smoothing_sigma": 2.0}
    assert record.cell.key.startswith("clip_ac--official--folder")


@pytest.mark.parametrize("variant", ["best-prompt", "best_prompt"])
def test_variants_and_options_are_written_with_hyphens_or_underscores(zsad, tmp_path, variant):
    given = ("--option", "faprompt.n-prompts=2", "--option", "faprompt.n_normal=3")
    code, out, err = zsad("plan", "--methods", f"faprompt@{variant}", *given, "--json",
                          "--out", tmp_path / "run")  # fmt: skip
    assert code == 0, err
    (row,) = json.loads(out)["cells"]
    assert row["cell"]["variant"] == "best_prompt"
    assert row["cell"]["options"] == {"n_prompts": 2, "n_normal": 3}


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--methods", "clip", "--out", ""),
        ("plan", "--methods", "clip", "--out", " "),
        ("train", "coop", "--on", "synthetic-aux", "--out", ""),
        ("predict", "clip", "x.png", "--out", ""),
        ("new", "method", "x", "--package", ""),
        ("new", "method", "x", "--out", ""),
        ("table", "x", "-o", ""),
        ("compare", "x", "--out", ""),
        ("compare", "x", "--diagram", ""),
        ("rescore", "x", "--out", ""),
        ("merge", "x", "y", "--out", ""),
        ("report", "x", "-o", ""),
        ("figure", "x", "--out", ""),
        ("data", "show", "synthetic", "--out", ""),
        ("data", "meta", "synthetic", "--out", ""),
    ],
)
def test_an_empty_path_to_write_to_is_refused(zsad, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    code, _, err = zsad(*arguments)
    assert code == 2
    assert "the path is empty" in err
    assert not list(tmp_path.iterdir())


def test_new_hands_on_where_and_what_to_write(zsad, tmp_path):
    code, _, _ = zsad("new", "method", "my-idea", "--trainable", "--out", tmp_path)
    assert code == 0
    assert "TrainableMethod" in (tmp_path / "my_idea.py").read_text()
    code, _, err = zsad("new", "dataset", "my-parts", "--trainable", "--out", tmp_path)
    assert code == 2
    assert "--trainable" in err


def test_the_version_is_told(zsad):
    code, out, _ = zsad("--version")
    assert code == 0
    assert re.fullmatch(r"zsad \d+\.\d+\.\d+\S*\n", out)


@pytest.fixture
def two_of_fifteen(trees, tmp_path):
    """MVTec AD with 2 of its 15 categories, of a few images each."""
    trees.mvtec(tmp_path / "data" / "mvtec_ad")
    return tmp_path / "data"


def test_an_incomplete_dataset_is_told_from_plan_to_table(zsad, tmp_path, two_of_fifteen):
    run = tmp_path / "run"
    arguments = ("--methods", "clip", "--datasets", "mvtec-ad", "--data-root", two_of_fifteen,
                 "--out", run)  # fmt: skip
    code, out, _ = zsad("plan", *arguments)
    assert code == 0
    assert "ready, incomplete: 13 of 15 categories missing" in out
    code, out, err = zsad("run", *arguments, "--quiet")
    assert code == 0
    assert "warning: mvtec-ad is incomplete: 13 of 15 categories missing" in err
    assert "incomplete: 13 of 15 categories missing" in out
    (record,) = read_records(run)
    assert record.completeness is not None
    assert (record.completeness.found, record.completeness.expected) == (10, 1725)
    assert len(record.completeness.missing_categories) == 13
    code, out, _ = zsad("table", run, "--delta")
    assert "{" not in out
    code, out, _ = zsad("table", run, "--delta", "--allow-incomplete")
    assert "{" in out
    assert zsad("report", run, "--allow-incomplete")[0] == 0


def test_a_limit_is_no_gap(zsad, tmp_path, pictures):
    run = tmp_path / "run"
    arguments = ("--methods", "clip", "--datasets", "folder", "--data-root", pictures,
                 "--out", run, "--limit", "1")  # fmt: skip
    code, out, _ = zsad("plan", *arguments)
    assert (code, "incomplete" in out) == (0, False)
    assert "data of folder: counts unknown; chosen: at most 1 image per category and label" in out
    code, out, err = zsad("run", *arguments, "--quiet")
    assert (code, err) == (0, "")
    assert "Only the first 1 images" in out


def test_a_record_states_what_its_method_was_learned_from(zsad, tmp_path, pictures, trees):
    trees.mvtec(tmp_path / "data" / "mvtec_ad")
    run = tmp_path / "run"
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f"""
        out = "{run}"
        data_root = "{tmp_path / "data"}"
        [[dataset]]
        name = "folder"
        root = "{pictures}"
        [[method]]
        name = "coop"
        options = {{ epochs = 1 }}
        """
    )
    code, _, err = zsad("run", plan, "--quiet")
    assert code == 0, err
    assert "warning: mvtec-ad is incomplete: 13 of 15 categories missing" in err
    (record,) = read_records(run)
    assert (record.auxiliary.name, record.auxiliary.split) == ("mvtec_ad", "test")
    assert record.auxiliary.images == record.auxiliary.completeness.found == 10
    assert record.auxiliary.completeness.expected == 1725
    assert len(record.auxiliary.fingerprint) == 64
    (checkpoint,) = (run / "checkpoints").glob("*.safetensors")
    other = tmp_path / "other"
    plan.write_text(plan.read_text().replace(str(run), str(other)))
    plan.write_text(plan.read_text() + f'checkpoint = "{checkpoint}"\n')
    code, _, err = zsad("run", plan, "--quiet")
    assert code == 0, err
    assert "warning: mvtec-ad is incomplete: 13 of 15 categories missing" in err
    (given,) = read_records(other)
    assert given.auxiliary == record.auxiliary


def test_train_says_what_its_dataset_lacks(zsad, tmp_path, two_of_fifteen):
    code, _, err = zsad(
        "train", "coop", "--on", "mvtec-ad", "--data-root", two_of_fifteen, "--option",
        "coop.epochs=1", "--out", tmp_path / "coop.safetensors", "--quiet",
    )  # fmt: skip
    assert (code, err) == (0, "warning: mvtec-ad is incomplete: 13 of 15 categories missing\n")


def test_what_is_odd_about_own_images_is_told_and_kept_in_the_record(zsad, tmp_path, pictures):
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(pictures / "masks" / "1.png")
    (pictures / "anomalous" / "0.png").replace(pictures / "anomalous" / "keep.png")
    (pictures / "masks" / "0.png").replace(pictures / "masks" / "keep.png")
    Image.fromarray(np.full((60, 80), 255, np.uint8)).save(pictures / "masks" / "0.png")
    (pictures / "good").mkdir()
    arguments = ("--methods", "clip,winclip", "--datasets", "folder", "--data-root", pictures)
    code, _, err = zsad("run", *arguments, "--gallery", 0, "--out", tmp_path / "run", "--quiet")
    assert code == 0
    for cell in (tmp_path / "run" / "cells").glob("*.json"):
        beside, normal, empty = sorted(json.loads(cell.read_text())["warnings"])
        assert "good was left out: " in beside
        assert f"masks/0.png of normal image {pictures / 'normal' / '0.png'}" in normal
        assert f"masks/1.png of anomalous image {pictures / 'anomalous' / '1.png'}" in empty
        for text in (beside, normal, empty):
            assert err.count(f"warning: folder: {text}") == 1
