"""Methods that see more of their target are never set beside those that see less."""

import csv
import dataclasses
import io
import json
import re

import pytest
from zsad.bench.analysis.baseline import make_baseline, read_baseline, write_baseline
from zsad.bench.analysis.compare import compare_runs
from zsad.bench.analysis.comparison_tables import (
    comparison_table,
    interval_table,
    intervals_json,
    ranking_table,
    render_findings,
)
from zsad.bench.analysis.formats import FORMATS, render
from zsad.bench.analysis.matrix import arrange
from zsad.bench.analysis.merge import differences
from zsad.bench.analysis.regression import check_run
from zsad.bench.analysis.resampling import Settings
from zsad.bench.analysis.statistics import StatsError, holm
from zsad.bench.analysis.tables import LAYOUTS, make_table
from zsad.bench.analysis.uncertainty import rank, tracks_of
from zsad.bench.errors import UsageError
from zsad.bench.extra_work import ExtraWork
from zsad.bench.track import Track

FAST = Settings(metrics=("image_auroc",), replicates=50)
DATASETS = ("visa", "btad", "mpdd", "sdd", "dagm", "elpv")
METRICS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_pro", "pixel_pro_official200")


def cell(make_record, title, dataset, value, **details):
    categories = {name: dict.fromkeys(METRICS, value) for name in ("a", "b")}
    return make_record(title, dataset, categories, **details)


@pytest.fixture
def zero_shot(make_record):
    values = {"CLIP": 0.7, "FAPrompt": 0.8}
    return [cell(make_record, m, d, v) for m, v in values.items() for d in DATASETS]


@pytest.fixture
def others(make_record):
    """One transductive method, and two few-shot ones on half of the datasets and on one more."""
    shown = {"track": Track.FEW_SHOT, "protocol": {"shots": 4, "references_sha256": "ab"}}
    transductive = {"track": Track.TRANSDUCTIVE}
    return [
        *(cell(make_record, "MuSc", d, 0.95, **transductive) for d in DATASETS),
        *(cell(make_record, "WinCLIP", d, 0.9, **shown) for d in (*DATASETS[:3], "mvtec_ad")),
        *(cell(make_record, "PatchCore", d, 0.85, **shown) for d in (*DATASETS[:3], "mvtec_ad")),
    ]


@pytest.mark.parametrize(
    "layout", [name for name in LAYOUTS if name not in ("datasets", "hyperparameters")]
)
def test_the_zero_shot_table_is_the_same_whatever_else_was_run(zero_shot, others, layout):
    alone = make_table(zero_shot, layout, published=True, delta=True)
    mixed = make_table([*others, *zero_shot], layout, published=True, delta=True)
    assert dataclasses.replace(mixed, other_tracks=()) == alone
    for fmt in ("md", "latex", "html"):
        assert render(mixed, fmt).startswith(render(alone, fmt))


def test_each_track_has_its_own_order_of_methods_best_numbers_and_means(zero_shot, others):
    table = make_table([*zero_shot, *others], "image")
    titles = {own.track: own.title.rpartition("in percent")[2] for own in table.tracks}
    assert titles == {
        Track.ZERO_SHOT: "",
        Track.TRANSDUCTIVE: ", transductive track",
        Track.FEW_SHOT: ", few-shot track",
    }
    _, transductive, few_shot = table.tracks
    assert [c.label for c in transductive.columns] == ["MuSc (transductive)"]
    assert [c.label for c in few_shot.columns] == ["WinCLIP (few-shot)", "PatchCore (few-shot)"]
    assert few_shot.columns[0].notes == ("shown 4 normal images of each category",)
    assert few_shot.remarks[0].startswith(Track.FEW_SHOT.meaning)
    rows = {row.label: [cell.numbers[0] for cell in row.cells] for row in few_shot.rows}
    assert [n.rank for n in rows["MVTecAD"]] == [1, 2]
    assert "SDD" not in rows, "no few-shot method was run there"
    means = [[r for r in own.rows if r.summary] for own in table.tracks]
    assert [own[0].label for own in means] == ["Mean of 6 of 8", "Mean of 6 of 8", "Mean of 3 of 8"]
    assert [n.rank for c in means[0][0].cells for n in c.numbers[:1]] == [2, 1]


def test_a_method_of_another_track_does_not_stand_beside_the_papers_numbers(make_record):
    records = [cell(make_record, "WinCLIP", "visa", 0.9, track=Track.FEW_SHOT)]
    table = make_table(records, "image", published=True, delta=True)
    assert table.title.endswith("few-shot track")
    assert table.rows[0].cells[0].numbers[0].printed is None


def test_one_method_in_two_tracks_is_two_columns_with_different_labels(make_record):
    records = [
        cell(make_record, "AA-CLIP", "visa", 0.8, variant="image"),
        cell(make_record, "AA-CLIP", "visa", 0.9, variant="official", track=Track.TRANSDUCTIVE),
    ]
    assert [m.label for m in arrange(records).methods] == ["AA-CLIP", "AA-CLIP (transductive)"]


def test_csv_names_the_track_of_each_row_where_there_are_several(zero_shot, others):
    assert not render(make_table(zero_shot, "image"), "csv").startswith("track")
    text = render(make_table([*zero_shot, *others], "image"), "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["track"] for row in rows} == {"zero-shot", "transductive", "few-shot"}
    for row in rows:
        filled = {name.rpartition(" ")[0] for name, text in row.items() if text and "AUROC" in name}
        assert (
            filled
            == {
                "zero-shot": {"CLIP", "FAPrompt"},
                "transductive": {"MuSc (transductive)"},
                "few-shot": {"WinCLIP (few-shot)", "PatchCore (few-shot)"},
            }[row["track"]]
        )


def test_json_holds_the_tables_of_all_tracks(zero_shot, others):
    raw = json.loads(render(make_table([*zero_shot, *others], "image"), "json"))
    assert raw["track"] == "zero-shot"
    assert [own["track"] for own in raw["other_tracks"]] == ["transductive", "few-shot"]


@pytest.mark.parametrize("fmt", FORMATS)
def test_footnotes_of_two_tracks_have_marks_of_their_own(zero_shot, others, fmt):
    table = make_table([*zero_shot[1:], *others], "image")
    marks = [mark for own in table.tracks for mark in own.footnotes]
    assert len(marks) == len(set(marks)) > 2
    assert render(table, fmt)


def test_a_layout_with_nothing_to_show_in_one_track_shows_the_others(zero_shot, make_record):
    failed = make_record("MuSc", "visa", error="too large", track=Track.TRANSDUCTIVE)
    table = make_table([*zero_shot, failed], "breakdown")
    assert [own.track for own in table.tracks] == [Track.ZERO_SHOT]


def test_methods_of_two_tracks_are_not_compared(scored_record):
    records = [
        scored_record("CLIP", "visa", 0, 1.0),
        scored_record("MuSc", "visa", 0, 2.0, track=Track.TRANSDUCTIVE),
    ]
    words = "MuSc (transductive) is of the transductive track and CLIP of the zero-shot track"
    with pytest.raises(UsageError, match=re.escape(words)):
        compare_runs(records, method_a="musc", method_b="clip", settings=FAST)
    with pytest.raises(UsageError, match="name two methods of one track"):
        compare_runs(records, records, "clip", "musc", settings=FAST)


def scored_run(scored_record, shift=0.0):
    tracks = {"CLIP": Track.ZERO_SHOT, "FAPrompt": Track.ZERO_SHOT, "MuSc": Track.TRANSDUCTIVE}
    return [
        scored_record(title, dataset, i, shift + 0.5 * j, track=track)
        for i, dataset in enumerate(DATASETS)
        for j, (title, track) in enumerate(tracks.items())
    ]


def test_two_runs_are_compared_and_corrected_track_by_track(scored_record):
    found = compare_runs(scored_run(scored_record, 1.0), scored_run(scored_record), settings=FAST)
    assert [c.track for c in found] == [Track.ZERO_SHOT] * 2 + [Track.TRANSDUCTIVE]
    over = [c.over_datasets[0] for c in found]
    assert [o.p_holm for o in over[:2]] == holm([o.test.p for o in over[:2]])
    assert over[2].p_holm == over[2].test.p
    zero_shot, _, transductive = map(comparison_table, found)
    assert "track" not in zero_shot.title
    assert transductive.title.endswith(", transductive track")
    assert transductive.remarks[0].startswith(Track.TRANSDUCTIVE.meaning)


def test_intervals_are_shown_track_by_track(scored_record):
    records = scored_run(scored_record)
    table = interval_table(records, "image_auroc", FAST)
    labels = [[column.label for column in own.columns] for own in table.tracks]
    assert labels == [["CLIP", "FAPrompt"], ["MuSc (transductive)"]]
    rows = intervals_json(records, "image_auroc", FAST)
    assert {row["title"]: row["track"] for row in rows} == {
        "CLIP": "zero-shot",
        "FAPrompt": "zero-shot",
        "MuSc": "transductive",
    }


def test_ranks_are_those_of_one_track(scored_record, make_record):
    pytest.importorskip("scikit_posthocs")
    third = [scored_record("CoOp", name, i, 1.0) for i, name in enumerate(DATASETS)]
    records = [*third, *scored_run(scored_record)]
    with pytest.raises(UsageError, match="zero-shot, transductive"):
        rank(records, "image_auroc")
    own = tracks_of(records)
    ranking = rank(own[Track.ZERO_SHOT], "image_auroc")
    assert set(ranking.names) == {"CLIP", "CoOp", "FAPrompt"}
    with pytest.raises(StatsError):
        rank(own[Track.TRANSDUCTIVE], "image_auroc")
    few_shot = ranking_table(ranking, "image_auroc", Track.FEW_SHOT)
    assert few_shot.title == "Ranks by image-auroc, few-shot track"
    both = {(track, "image_auroc"): ranking for track in (Track.ZERO_SHOT, Track.FEW_SHOT)}
    raw = json.loads(render_findings([], both, records, [], FAST, "json"))
    assert list(raw["rankings"]) == ["image_auroc", "image_auroc, few-shot track"]


def test_a_cell_whose_track_changed_fails_the_check_and_is_no_equal_record(tmp_path, make_record):
    before = cell(make_record, "CLIP", "visa", 0.8)
    after = dataclasses.replace(before, track=Track.TRANSDUCTIVE)
    (finding,) = check_run([after], make_baseline([before], "first")).failing
    assert finding.cell == before.cell.key
    assert "track was zero-shot, is transductive" in finding.message
    assert differences(before, after) == ["track: zero-shot and transductive"]
    path = tmp_path / "baseline.json"
    for record, stored in ((before, None), (after, "transductive")):
        write_baseline(path, make_baseline([record], "first"))
        (raw,) = json.loads(path.read_text())["cells"].values()
        assert raw.get("track") == stored
        assert check_run([record], read_baseline(path)).passed


def test_declared_work_is_a_column_and_a_footnote_where_records_state_it(zero_shot, make_record):
    musc = cell(make_record, "MuSc", "visa", 0.9, track=Track.TRANSDUCTIVE)
    work = {
        "CLIP": ExtraWork(),
        "FAPrompt": ExtraWork(22),
        "MuSc": ExtraWork(0, "all patch tokens"),
    }
    stated = [dataclasses.replace(r, extra_work=work[r.title]) for r in (*zero_shot, musc)]
    label = "Own forwards/image"
    assert label not in [c.label for c in make_table(zero_shot, "complexity").columns]
    own, transductive = make_table(stated, "complexity").tracks
    assert own.columns[-1].label == transductive.columns[-1].label == label
    assert [row.cells[-1].numbers[0].text for row in own.rows] == ["0", "22"]
    assert transductive.rows[0].notes == ("keeps all patch tokens",)
