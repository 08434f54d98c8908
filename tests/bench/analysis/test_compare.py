"""Two runs or methods side by side: pairing by image name, notes instead of silent guesses."""

import dataclasses
import json
from itertools import combinations

import pytest
from zsad.bench.analysis.compare import compare_pairs, compare_runs
from zsad.bench.analysis.comparison_tables import (
    comparison_table,
    interval_table,
    ranking_table,
    render_findings,
)
from zsad.bench.analysis.formats import render
from zsad.bench.analysis.matrix import arrange
from zsad.bench.analysis.resampling import Settings
from zsad.bench.analysis.statistics import StatsError
from zsad.bench.analysis.uncertainty import intervals, rank
from zsad.bench.data.completeness import Completeness
from zsad.bench.errors import UsageError
from zsad.bench.records.record import ImageScores

FAST = Settings(metrics=("image_auroc", "image_ap"), replicates=200)
DATASETS = ("visa", "btad", "mpdd", "sdd", "dagm", "elpv", "lag")


@pytest.fixture
def two_methods(scored_record):
    """A weak and a strong method on the same images of seven datasets."""
    return [
        scored_record(title, name, i, separation)
        for i, name in enumerate(DATASETS)
        for title, separation in (("CLIP", 0.5), ("FAPrompt", 2.0))
    ]


def change_images(record, change):
    """A record after `change` has been at the ImageScores of its category."""
    (result,) = record.categories
    images = change(result.images)
    return dataclasses.replace(record, categories=[dataclasses.replace(result, images=images)])


def test_the_better_method_wins_on_every_dataset(two_methods):
    (found,) = compare_runs(two_methods, method_a="faprompt", method_b="clip", settings=FAST)
    assert (found.a, found.b) == ("FAPrompt", "CLIP")
    assert [d.dataset for d in found.differences if d.metric == "image_auroc"] == [
        "VisA", "SDD", "BTAD", "MPDD", "DAGM", "ELPV", "LAG",
    ]  # fmt: skip
    for difference in found.differences:
        assert difference.test is not None
        assert difference.test.difference.value == pytest.approx(difference.a - difference.b)
        assert difference.test.difference.low > 0
        assert difference.p_holm >= difference.test.p
    over = {o.metric: o for o in found.over_datasets}
    assert (over["image_auroc"].wins, over["image_auroc"].losses) == (7, 0)
    assert over["image_auroc"].test.p == pytest.approx(2 / 2**7)
    assert over["image_auroc"].p_holm == pytest.approx(4 / 2**7), "two metrics are compared"


def test_sides_swap_signs(two_methods):
    (one,) = compare_runs(two_methods, method_a="faprompt", method_b="clip", settings=FAST)
    (two,) = compare_runs(two_methods, method_a="clip", method_b="faprompt", settings=FAST)
    for left, right in zip(one.differences, two.differences, strict=True):
        assert left.test.difference.low == pytest.approx(-right.test.difference.high)
        assert left.test.p == right.test.p


def test_a_run_equals_itself(two_methods):
    found = compare_runs(two_methods, two_methods, settings=FAST)
    assert [c.a for c in found] == ["CLIP (run a)", "FAPrompt (run a)"]
    for comparison in found:
        assert all(d.a == d.b and d.test.p == 1.0 for d in comparison.differences)
        assert all(o.test is None and o.p_holm is None for o in comparison.over_datasets)


def test_images_are_paired_by_name_not_by_place(scored_record):
    a = scored_record("CLIP", "visa", 0, 1.0)
    b = scored_record("FAPrompt", "visa", 0, 1.5)
    shuffled = change_images(
        b,
        lambda images: ImageScores(images.names[::-1], images.labels[::-1], images.scores[::-1]),
    )
    (plain,) = compare_runs([a, b], method_a="clip", method_b="faprompt", settings=FAST)
    (found,) = compare_runs([a, shuffled], method_a="clip", method_b="faprompt", settings=FAST)
    assert plain.differences == found.differences


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i: ImageScores(["other", *i.names[1:]], i.labels, i.scores), "images differ"),
        (lambda i: ImageScores(i.names[1:], i.labels[1:], i.scores[1:]), "images differ"),
        (lambda i: ImageScores(i.names, i.labels[::-1], i.scores), "images differ"),
        (lambda i: ImageScores(["x"] * 40, i.labels, i.scores), "images differ"),
        (lambda i: ImageScores(i.names, i.labels, None), "images differ or have no scores"),
    ],
    ids=["other image", "fewer", "other labels", "names repeat", "no scores"],
)
def test_images_that_do_not_match_give_no_interval(scored_record, change, words):
    a = scored_record("CLIP", "visa", 0, 1.0)
    b = change_images(scored_record("FAPrompt", "visa", 0, 1.5), change)
    (found,) = compare_runs([a, b], method_a="clip", method_b="faprompt", settings=FAST)
    for difference in found.differences:
        assert difference.test is None
        assert any(words in note for note in difference.notes)


def test_seeds_are_averaged_with_the_same_resamples(scored_record):
    a = [scored_record("CLIP", "visa", 0, 1.0)]
    b = []
    for seed in (1, 2):
        record = scored_record("FAPrompt", "visa", 0, 1.0 + seed)
        b.append(dataclasses.replace(record, cell=dataclasses.replace(record.cell, seed=seed)))
    (found,) = compare_runs(a, b, "clip", "faprompt", FAST)
    values = [r.categories[0].metrics["image_auroc"] for r in b]
    assert found.differences[0].b == pytest.approx(sum(values) / 2)
    assert found.differences[0].test.difference.value == pytest.approx(
        found.differences[0].a - found.differences[0].b
    )


def test_pixel_level_metrics_are_compared_over_datasets_only(make_record):
    records = [
        make_record(title, name, {"x": {"pixel_auroc": value + 0.01 * i, "pixel_pro": 0.5}})
        for i, name in enumerate(DATASETS)
        for title, value in (("CLIP", 0.5), ("FAPrompt", 0.6))
    ]
    (found,) = compare_runs(records, method_a="faprompt", method_b="clip")
    known = [d for d in found.differences if d.gap is not None]
    assert {d.metric for d in known} == {"pixel_auroc", "pixel_pro"}
    assert all(d.test is None for d in found.differences)
    over = {o.metric: o for o in found.over_datasets}
    assert over["pixel_auroc"].mean == pytest.approx(0.1)
    assert over["pixel_pro"].test is None, "no dataset differs"


def test_another_protocol_is_noted(scored_record):
    a = scored_record("CLIP", "visa", 0, 1.0)
    b = scored_record("FAPrompt", "visa", 0, 1.5, protocol={"map_size": 240})
    (found,) = compare_runs([a, b], method_a="clip", method_b="faprompt", settings=FAST)
    assert "map_size is 518 in a, 240 in b" in found.differences[0].notes


def test_what_only_one_side_has_is_told(two_methods, scored_record):
    more = [*two_methods, scored_record("CLIP", "aitex", 0, 1.0)]
    (found,) = compare_runs(more, method_a="clip", method_b="faprompt", settings=FAST)
    assert found.only_a == ("AITEX",)
    text = render(comparison_table(found), "md")
    assert "Only in a: AITEX." in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "name two methods"),
        ({"method_a": "clip"}, "name two methods"),
        ({"method_a": "clip", "method_b": "CLIP"}, "same method"),
        ({"method_a": "clip", "method_b": "fapromt"}, "did you mean faprompt@official"),
        ({"method_a": "clip", "method_b": "faprompt@paper"}, "faprompt@official"),
    ],
)
def test_a_wrong_choice_of_methods_is_answered(two_methods, arguments, words):
    with pytest.raises(UsageError, match=words):
        compare_runs(two_methods, **arguments)


def test_an_ambiguous_method_is_answered_with_its_variants(scored_record):
    records = [
        scored_record("FAPrompt", "visa", 0, 1.0, variant=variant) for variant in ("paper", "cap")
    ] + [scored_record("CLIP", "visa", 0, 1.0)]
    with pytest.raises(UsageError, match=r"several methods.*faprompt@cap.*faprompt@paper"):
        compare_runs(records, method_a="faprompt", method_b="clip")
    (found,) = compare_runs(records, method_a="faprompt@cap", method_b="clip", settings=FAST)
    assert found.a == "FAPrompt (cap)"


def test_runs_without_a_common_method_are_told(scored_record):
    with pytest.raises(UsageError, match="share no method"):
        compare_runs(
            [scored_record("CLIP", "visa", 0, 1.0)], [scored_record("CoOp", "visa", 0, 1.0)]
        )


def test_an_unknown_metric_is_answered():
    with pytest.raises(UsageError, match="image-auroc"):
        Settings(metrics=("image_auroq",))


def test_intervals_hold_the_value(two_methods, make_record):
    records = [*two_methods, make_record("CLIP", "isic", {"x": {"pixel_auroc": 0.5}})]
    found = intervals(records, "image_auroc", FAST)
    assert len(found) == len(two_methods)
    for (method, dataset), at in found.items():
        (record,) = [
            r
            for r in two_methods
            if r.cell.dataset == dataset.name and r.cell.method == method.method
        ]
        assert at.value == pytest.approx(record.categories[0].metrics["image_auroc"])
        assert at.low <= at.value <= at.high
    table = interval_table(records, "image_auroc", FAST)
    assert table.rows[0].label == "VisA"
    assert "200 stratified resamples" in render(table, "md")


def test_ranks_use_the_datasets_that_all_methods_have(two_methods, scored_record):
    pytest.importorskip("scikit_posthocs")
    third = [scored_record("CoOp", name, i, 1.0) for i, name in enumerate(DATASETS[:5])]
    ranking = rank([*two_methods, *third], "image_auroc")
    assert ranking.n_datasets == 5
    assert ranking.names == ("FAPrompt", "CoOp", "CLIP")
    text = render(ranking_table(ranking, "image_auroc"), "md")
    assert "over 5 datasets" in text
    with pytest.raises(StatsError, match="pixel-pro"):
        rank(two_methods, "pixel_pro")
    with pytest.raises(UsageError, match="pixel-pro"):
        rank(two_methods, "pixel_por")


def test_everything_is_json_too(two_methods):
    found = compare_runs(two_methods, method_a="faprompt", method_b="clip", settings=FAST)
    text = render_findings(found, {}, [], [], FAST, "json")
    raw = json.loads(text, parse_constant=pytest.fail)
    (first, *_) = raw["comparisons"][0]["differences"]
    assert first["dataset"] == "VisA"
    assert first["test"]["difference"]["level"] == 0.95


def test_the_table_has_a_row_per_dataset_and_one_over_all(two_methods):
    (found,) = compare_runs(two_methods, method_a="faprompt", method_b="clip", settings=FAST)
    table = comparison_table(found)
    assert len(table.rows) == 2 * (7 + 1)
    assert table.rows[7].cells[3].text == "7 up, 0 down"


def test_incomplete_datasets_are_marked_and_stay_out_of_what_is_said_over_datasets(two_methods):
    gap = Completeness(2, 15, 15, missing_categories=("bottle",))
    records = [
        dataclasses.replace(r, completeness=gap) if r.cell.dataset == "sdd" else r
        for r in two_methods
    ]
    sides = {"method_a": "faprompt", "method_b": "clip"}
    (found,) = compare_runs(records, **sides, settings=FAST)
    assert {d.dataset for d in found.differences if d.left_out} == {"SDD"}
    assert [o.wins + o.losses for o in found.over_datasets] == [6, 6]
    text = render(comparison_table(found))
    assert "incomplete: 1 of 15 categories missing" in text
    assert "left out of the last rows: SDD." in text
    allowed = dataclasses.replace(FAST, allow_incomplete=True)
    (found,) = compare_runs(records, **sides, settings=allowed)
    assert [o.wins + o.losses for o in found.over_datasets] == [7, 7]
    assert "incomplete: 1 of 15" in render(interval_table(records, "image_auroc", FAST))


def test_ranks_leave_incomplete_datasets_out(two_methods, scored_record):
    pytest.importorskip("scikit_posthocs")
    gap = Completeness(2, 15, 15, missing_categories=("bottle",))
    records = [*two_methods, *(scored_record("CoOp", d, i, 1.0) for i, d in enumerate(DATASETS))]
    records = [
        dataclasses.replace(r, completeness=gap) if r.cell.dataset == "sdd" else r for r in records
    ]
    assert rank(records, "image_auroc").n_datasets == len(DATASETS) - 1
    assert rank(records, "image_auroc", allow_incomplete=True).n_datasets == len(DATASETS)


def test_records_of_one_method_made_by_different_code_are_mentioned(scored_record):
    one, two, three = (
        dataclasses.replace(scored_record("CLIP", "visa", 0, 1.0), identity={"code": code * 64})
        for code in "001"
    )
    (same,) = compare_runs([one], [two], settings=FAST)
    (other,) = compare_runs([one], [three], settings=FAST)
    note = "a and b were made by different code"
    assert all(note not in d.notes for d in same.differences)
    assert all(note in d.notes and d.test is not None for d in other.differences)


def test_two_methods_are_not_said_to_be_different_code(scored_record):
    records = [
        dataclasses.replace(scored_record(title, "visa", 0, 1.0), identity={"code": title})
        for title in ("CLIP", "FAPrompt")
    ]
    (found,) = compare_runs(records, method_a="clip", method_b="faprompt", settings=FAST)
    assert not any("code" in note for d in found.differences for note in d.notes)


def test_pairs_of_one_matrix_are_compared_as_two_methods_of_a_run(scored_record):
    records = [
        scored_record(title, dataset, seed, separation)
        for seed, dataset in enumerate(("visa", "btad", "mpdd"))
        for title, separation in (("CLIP", 0.5), ("CoOp", 1.0), ("FAPrompt", 2.0))
    ]
    matrix = arrange(records)
    pairs = list(combinations(matrix.methods, 2))
    settings = Settings(replicates=300)
    found = compare_pairs(matrix, pairs, settings)
    for (a, b), comparison in zip(pairs, found, strict=True):
        (alone,) = compare_runs(records, None, a.method, b.method, settings)
        assert comparison.differences == alone.differences
        for over, other in zip(comparison.over_datasets, alone.over_datasets, strict=True):
            assert (over.mean, over.test) == (other.mean, other.test)
            assert over.p_holm >= other.p_holm  # corrected over all pairs
    assert [(c.a, c.b) for c in found] == [(a.label, b.label) for a, b in pairs]


def test_a_row_of_scores_is_resampled_once(scored_record, monkeypatch):
    matrix = arrange([scored_record(title, "visa", 1, 1.0) for title in ("CLIP", "CoOp", "AnoVL")])
    drawn = []
    original = Settings.bootstrap

    def counted(self, images, metrics):
        drawn.append(len(images.categories[0].scores))
        return original(self, images, metrics)

    monkeypatch.setattr(Settings, "bootstrap", counted)
    compare_pairs(matrix, combinations(matrix.methods, 2), Settings(replicates=50))
    assert sum(drawn) == 3
