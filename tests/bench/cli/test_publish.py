"""The verbs that publish results, as a user calls them."""

import shutil

import pytest
from zsad.bench.errors import UsageError, ZsadError
from zsad.bench.files import read_json, write_json
from zsad.bench.records.record import RecordError
from zsad.bench.records.repository import record_files


@pytest.fixture
def run(make_run, tmp_path):
    return make_run(tmp_path / "run", ("CLIP",), ("visa", "elpv"), images=6, keep=0)


def test_a_repository_takes_new_results_and_leaves_equal_ones(call, run, tmp_path):
    repository = tmp_path / "repository"
    assert (
        "2 records, 0 of them were there"
        in call("export", run, "--to", "repository", "-o", repository).output
    )
    first, second = record_files(repository)
    assert first.relative_to(repository).parts[:3] == ("results", "clip", "elpv")
    stamp = second.stat().st_mtime_ns
    raw = read_json(first)
    raw["categories"][0]["metrics"]["image_f1max"] = 0.5
    write_json(first, raw)
    told = call("export", run, "--to", "repository", "-o", repository).output
    assert f"replaced {first}" in told
    assert "2 records, 1 of them were there" in told
    assert second.stat().st_mtime_ns == stamp
    assert call("validate", repository).exit_code == 0


def test_a_repository_is_exported_as_a_run_is(call, run, tmp_path):
    call("export", run, "--to", "repository", "-o", tmp_path / "a")
    for source in (run, tmp_path / "a"):
        call("export", source, "--to", "huggingface", "-o", tmp_path / "cards" / source.name)
    cards = [path.read_text() for path in sorted((tmp_path / "cards").rglob("README.md"))]
    assert len(cards) == 2
    assert cards[0] == cards[1]


def test_several_runs_of_a_cell_are_one_result_of_a_card(call, run, tmp_path):
    shutil.copytree(run, tmp_path / "again")
    call("export", run, tmp_path / "again", "--to", "huggingface", "-o", tmp_path / "out")
    assert (tmp_path / "out" / "clip--official" / "README.md").read_text().count(
        "type: roc_auc"
    ) == 3


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        (("--to", "huggingface"), UsageError, "--out"),
        (("--to", "paper", "-o", "x"), UsageError, "unknown format 'paper'"),
        (("--to", "every-eval-ever", "-o", "x"), UsageError, "--organisation"),
        (("--to", "huggingface", "-o", "x", "--hub-dataset", "visa"), UsageError, "OWNER/NAME"),
    ],
)
def test_what_a_format_lacks_is_told(call, run, tmp_path, words, error, told):
    with pytest.raises(error, match=told):
        call("export", run, *(tmp_path / w if w == "x" else w for w in words))
    assert not (tmp_path / "x").exists()


def test_a_run_without_finished_records_exports_nothing(call, make_run, tmp_path):
    run = make_run(tmp_path, ("CLIP",), ("visa",), images=4, keep=0, failing=("CLIP", "visa"))
    with pytest.raises(ZsadError, match="no finished record"):
        call("export", run, "--to", "repository", "-o", tmp_path / "out")
    with pytest.raises(RecordError, match="is not there"):
        call("export", tmp_path / "absent", "--to", "repository", "-o", tmp_path / "out")
