"""The verbs that read results, as a user calls them."""

import json
import subprocess
import sys

import pytest
from zsad.bench.analysis.statistics import StatsError
from zsad.bench.errors import UsageError, ZsadError
from zsad.bench.records.record import write_record

HEAVY = ("torch", "pandas", "scipy", "numpy", "matplotlib", "tabulate")


@pytest.fixture
def run(tmp_path, scored_record):
    """Three methods on three datasets with scores."""
    for i, dataset in enumerate(("visa", "btad", "mpdd")):
        for title, separation in (("CLIP", 0.5), ("CoOp", 1.0), ("FAPrompt", 2.0)):
            write_record(tmp_path / "run", scored_record(title, dataset, i, separation))
    return tmp_path / "run"


def test_importing_the_verbs_imports_nothing_heavy():
    code = (
        "import sys; import zsad.bench.cli.results; "
        "import zsad.bench.records.record, zsad.bench.analysis.tables; "
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_a_table_is_printed_in_the_papers_layout(call, run):
    text = call("table", run, "--published", "--delta").output
    assert "| Domain" in text
    assert "[66.4, 71.4]" in text
    assert "**Mean of 3 of 8**" in text
    latex = call("table", run, "--format", "latex").output
    assert r"\begin{tabular}{llccc}" in latex and r"\label{tab:image-level" in latex


def test_numbers_of_third_parties_are_shown_in_place_of_the_layout(call, run):
    text = call(
        "table", run, "--third-party", "--dataset", "visa", "--metric", "image-auroc"
    ).output
    assert "83.3, 83.3, 1)" in text
    assert "83.3 EDMPrompt?" in text
    with pytest.raises(UsageError, match="third-party numbers"):
        call("table", run, "--third-party", "--layout", "complexity")


def test_a_table_is_written_to_a_file(call, run, tmp_path):
    path = tmp_path / "new" / "t.csv"
    call("table", run, "--format", "csv", "-o", path, "--dataset", "visa")
    assert path.read_text().startswith("Domain,Dataset,CLIP AUROC")
    assert len(path.read_text().splitlines()) == 2
    with pytest.raises(ZsadError, match="cannot be written"):
        call("table", run, "-o", tmp_path)


@pytest.mark.parametrize(
    "words",
    [
        ("--layout", "imag"),
        ("--format", "xls"),
        ("--pro", "fast"),
        ("--dataset", "nope"),
        ("--layout", "breakdown", "--metric", "nope"),
    ],
)
def test_an_unknown_word_is_a_usage_error(call, run, words):
    with pytest.raises(UsageError):
        call("table", run, *words)


def test_one_run_shows_intervals(call, run):
    text = call("compare", run, "--bootstrap", "100").output
    assert "image-auroc in percent with 95 % percentile intervals from 100 stratified" in text
    assert "image-ap in percent" in text
    with pytest.raises(UsageError, match="name two runs"):
        call("compare", run, "--metric", "pixel_pro")


def test_two_methods_are_compared(call, run):
    words = ("compare", run, "--method-a", "faprompt", "--method-b", "clip", "--bootstrap", "100")
    text = call(*words).output
    assert "a = FAPrompt, b = CLIP" in text
    assert "3 up, 0 down" in text
    raw = json.loads(call(*words, "--format", "json").output)
    assert len(raw["comparisons"][0]["differences"]) == 4 * 3
    other = call(*words, "--format", "json", "--seed", "1", "--resampling", "plain").output
    assert json.loads(other) != raw


def test_two_runs_are_compared_method_by_method(call, run):
    text = call("compare", run, run, "--bootstrap", "50", "--metric", "image_auroc").output
    for title in ("CLIP", "CoOp", "FAPrompt"):
        assert f"a = {title} (run a), b = {title} (run b)" in text


def test_ranks_and_their_diagram(call, run, tmp_path):
    pytest.importorskip("scikit_posthocs")
    diagram = tmp_path / "cd.svg"
    words = ("compare", run, "--bootstrap", "20", "--ranks", "--diagram", diagram)
    text = call(*words, "--metric", "image_auroc", "--metric", "image_ap").output
    assert "Ranks by image-auroc" in text
    assert {path.name for path in tmp_path.glob("cd*")} == {
        "cd-image_auroc.svg",
        "cd-image_ap.svg",
    }
    with pytest.raises(StatsError, match="pixel-pro"):
        call("compare", run, "--ranks", "--metric", "pixel_pro")


@pytest.mark.parametrize(
    "words", [("--resampling", "odd"), ("--bootstrap", "0"), ("--level", "95"), ("--metric", "x")]
)
def test_wrong_settings_of_a_comparison_are_usage_errors(call, run, words):
    with pytest.raises(UsageError):
        call("compare", run, *words)


def test_what_is_no_run_is_told(call, tmp_path):
    for verb in (["table"], ["compare"], ["rescore"], ["check", "--baseline", "x.json"]):
        with pytest.raises(ZsadError, match="not a run directory"):
            call(verb[0], tmp_path, *verb[1:])


def test_one_run_as_json_holds_its_intervals(call, run):
    raw = json.loads(call("compare", run, "--bootstrap", "50", "--format", "json").output)
    assert len(raw["intervals"]) == 2 * 3 * 3
    row = raw["intervals"][0]
    assert row["low"] <= row["value"] <= row["high"]
    assert {row["metric"] for row in raw["intervals"]} == {"image_auroc", "image_ap"}


def test_compare_keeps_the_reason_of_what_is_undefined(call, run, make_record):
    why = {"image_auroc": "there is no normal image"}
    for title in ("CLIP", "CoOp"):
        write_record(run, make_record(title, "isic", {"isic": {"pixel_auroc": 0.5}}, undefined=why))
    one = call("compare", run, "--bootstrap", "20", "--metric", "image_auroc").output
    assert "undefined: there is no normal image" in one
    two = ("compare", run, "--method-a", "clip", "--method-b", "coop", "--bootstrap", "20")
    assert "a: undefined: there is no normal image" in call(*two).output
    raw = json.loads(call(*two, "--format", "json").output)["comparisons"][0]["differences"]
    (isic,) = [d for d in raw if d["dataset"] == "ISIC" and d["metric"] == "image_auroc"]
    assert (isic["a"], isic["b"]) == (None, None)
    assert "b: undefined: there is no normal image" in isic["notes"]


@pytest.mark.parametrize(
    ("name", "start"),
    [("t.tex", "% needs"), ("t.html", "<figure"), ("t.csv", "Domain,"), ("t.md", "**Image"),
     ("t.json", "{"), ("t.txt", "**Image")],
)  # fmt: skip
def test_the_suffix_of_the_output_is_its_format(call, run, tmp_path, name, start):
    call("table", run, "-o", tmp_path / name)
    assert (tmp_path / name).read_text().startswith(start)
    call("table", run, "-o", tmp_path / name, "--format", "csv")
    assert (tmp_path / name).read_text().startswith("Domain,")
    call("compare", run, "--bootstrap", "20", "-o", tmp_path / f"c{name}")
    assert (tmp_path / f"c{name}").stat().st_size > 0
