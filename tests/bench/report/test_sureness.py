"""The report's marks, intervals and ranks are those of `zsad compare`."""

import json

import pytest
from typer.testing import CliRunner
from zsad.bench.analysis.compare import compare_runs
from zsad.bench.analysis.matrix import Matrix
from zsad.bench.analysis.statistics import holm
from zsad.bench.analysis.uncertainty import intervals
from zsad.bench.cli.app import app
from zsad.bench.records.record import read_records
from zsad.bench.report.overview import average_ranks, cards
from zsad.bench.report.page import render_report
from zsad.bench.report.tables import report_tables

TITLES = ["CLIP", "CLIP-AC", "WinCLIP", "APRIL-GAN", "AnoVL", "CoOp", "CoCoOp", "AnomalyCLIP"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_run):
    """Ten methods on four datasets, without pictures."""
    folder = tmp_path_factory.mktemp("wide") / "run"
    titles = [*TITLES, "FAPrompt", "MediCLIP"]
    return make_run(folder, titles, ["mvtec_ad", "visa", "btad", "elpv"], images=16, keep=0)


@pytest.fixture(scope="module")
def matrix(run):
    return Matrix.read(run)


@pytest.fixture(scope="module")
def tables(matrix):
    return {table.metric.name: table for table in report_tables(matrix)}


def test_marks_are_those_of_compare_corrected_over_the_methods(run, tables):
    records = read_records(run)
    marks = set()
    for row in tables["image_auroc"].rows:
        if row.dataset is None:
            continue
        best = next(entry for entry in row.entries if entry.standing.test is None)
        others = [entry for entry in row.entries if entry is not best]
        tests = []
        for entry in others:
            (found,) = compare_runs(records, None, best.method.method, entry.method.method)
            (difference,) = (
                d
                for d in found.differences
                if (d.dataset, d.metric) == (row.dataset.title, "image_auroc")
            )
            assert entry.standing.test == difference.test
            tests.append(difference.test.p)
        for entry, p in zip(others, holm(tests), strict=True):
            assert entry.standing.p_holm == p
            assert entry.mark == ("best" if entry.number.rank == 1 else "near" if p > 0.05 else "")
            marks.add(entry.mark)
    assert marks >= {"near", ""}, "the run must hold both kinds"


def test_intervals_are_those_of_compare(run, tables):
    found = intervals(read_records(run), "image_auroc")
    rows = [row for row in tables["image_auroc"].rows if row.dataset is not None]
    assert len(rows) == 4
    for row in rows:
        for entry in row.entries:
            assert entry.standing.interval == found[entry.method, row.dataset]
            assert f"{100 * entry.standing.interval.low:.1f} to" in entry.sureness


def test_mean_of_a_domain_is_resampled_as_a_whole(tables):
    rows = tables["image_auroc"].rows
    (mean,) = (row for row in rows if row.dataset is None)
    parts = [row for row in rows if row.dataset is not None and row.dataset.name != "mvtec_ad"]
    for i, entry in enumerate(mean.entries):
        own = entry.standing.interval
        assert own.low <= entry.number.value / 100 <= own.high
        widths = [row.entries[i].standing.interval for row in parts]
        assert own.high - own.low <= max(at.high - at.low for at in widths) + 1e-9


def test_metrics_without_values_of_single_images_are_said_to_be_untested(tables):
    assert not tables["pixel_pro"].is_tested
    verdicts = {card.title: card.verdict for card in cards([*tables.values()])}
    assert verdicts["Industrial, pixel PRO"].endswith("differences are not tested.")
    assert "not distinguishable: " in verdicts["ELPV, image AUROC"]


def test_critical_difference_is_that_of_compare(run, matrix, tables):
    (shown,) = average_ranks(matrix, [tables["image_auroc"]])[0]
    told = CliRunner().invoke(
        app, ["compare", str(run), "--ranks", "--metric", "image_auroc", "--format", "json"]
    )
    ranking = json.loads(told.stdout)["rankings"]["image_auroc"]
    assert shown.ranking.critical_difference == ranking["critical_difference"]
    assert shown.rows == list(zip(ranking["names"], ranking["ranks"], strict=True))
    joined = {
        (a, b)
        for first, last in shown.groups
        for a in range(first, last + 1)
        for b in range(a, last + 1)
    }
    for a, ps in enumerate(ranking["nemenyi"]):
        for b in range(a + 1, len(ps)):
            within = ranking["ranks"][b] - ranking["ranks"][a] <= ranking["critical_difference"]
            assert ((a, b) in joined) == (ps[b] >= ranking["alpha"]) == within
    assert 0 < len(joined) < len(TITLES) ** 2
    page = render_report(run)
    assert f'data-critical-difference="{ranking["critical_difference"]}"' in page


def test_methods_are_rows_where_they_outnumber_datasets(matrix, tables):
    own = tables["image_auroc"]
    assert own.methods_are_rows
    assert own.heads[-1].label == "Mean of 3 of 8, industrial"
    ((_, lines),) = own.bodies
    for line, entries in lines:
        for head, entry in entries:
            assert entry.method == line.method
            if head.dataset is not None:
                value = matrix.value(line.method, head.dataset, "image_auroc").value
                assert entry.number.value == 100 * value
