"""What the authors of newer methods print: complete, of known names, and shown with its source."""

import re
from collections import Counter

import pytest
from zsad.bench import registry
from zsad.bench.analysis import published
from zsad.bench.analysis.formats import render
from zsad.bench.analysis.matrix import EvaluatedMethod
from zsad.bench.analysis.newer_methods import is_newer, newer_numbers, printed_for
from zsad.bench.analysis.tables import make_table
from zsad.bench.metric_table import METRICS
from zsad.bench.names import normalize_name
from zsad.bench.track import Track

NEWER = {"AdaCLIP": 42, "VCP-CLIP": 13, "AA-CLIP": 29, "Bayes-PFL": 7, "MuSc": 35}


def evaluated(title, track=Track.ZERO_SHOT):
    return EvaluatedMethod(title.lower().replace("-", "_"), "official", "", title, track)


def test_every_newer_method_has_its_numbers_once():
    numbers = newer_numbers()
    assert Counter(n.method for n in numbers) == NEWER
    places = [(n.method, n.dataset, n.metric, n.origin, n.image_size) for n in numbers]
    assert len(places) == len(set(places))


def test_numbers_are_percent_of_known_metrics_and_datasets():
    datasets = {normalize_name(name) for name in registry.names("dataset")}
    for number in newer_numbers():
        assert number.metric in METRICS
        assert 0 < number.value <= 100
        assert normalize_name(number.dataset) in datasets
        assert number.dataset in published.datasets()
        assert re.search(r"github\.com/|arXiv \d|arxiv\.org/", number.source)


def test_every_newer_method_of_the_registry_is_found_by_its_title():
    titles = {registry.method_class(name).title for name in registry.names("method")}
    found = titles & set(NEWER)
    assert {"AdaCLIP", "VCP-CLIP"} <= found
    for title in found:
        assert is_newer(evaluated(title))


@pytest.mark.parametrize("title", NEWER)
def test_each_printed_number_is_shown_beside_some_variant(title):
    classes = map(registry.method_class, registry.names("method"))
    (cls,) = [cls for cls in classes if cls.title == title]
    tracks = {cls.track_of(options) for options in cls.variants.values()}
    for number in (n for n in newer_numbers() if n.method == title):
        shown = [printed_for(evaluated(title, track), number.dataset) for track in tracks]
        assert any(number.metric in numbers for numbers in shown)
        assert number.track in ("", *tracks)


def test_the_papers_number_is_preferred_and_the_released_codes_is_told(make_record):
    values = {"a": {"image_auroc": 0.97, "image_ap": 0.98}}
    record = make_record("MuSc", "mvtec_ad", values, track=Track.TRANSDUCTIVE)
    table = make_table([record], "image", published=True, delta=True)
    (cell,) = table.rows[0].cells
    assert [n.printed for n in cell.numbers] == [97.8, 99.1]
    assert cell.numbers[0].delta_text == "-0.8"
    first, *others = cell.notes
    assert first.startswith("printed image AUROC, image AP: from the paper (arXiv 2401.16753")
    assert [re.findall(r"prints (.*) \(", note)[0] for note in others] == [
        "image AUROC 97.77",
        "image AP 99.07",
    ]


def test_a_number_of_the_released_code_alone_says_so(make_record):
    values = {"a": {"image_auroc": 0.9, "image_ap": 0.9}}
    record = make_record("AA-CLIP", "mvtec_ad", values, track=Track.TRANSDUCTIVE)
    table = make_table([record], "image", published=True)
    (cell,) = table.rows[0].cells
    assert [n.printed for n in cell.numbers] == [90.5, 95.39]
    assert any(note.startswith("printed image AP: from the released code") for note in cell.notes)


def test_printed_numbers_of_another_track_do_not_stand_beside_a_method(make_record):
    record = make_record("AA-CLIP", "mvtec_ad", {"a": {"image_auroc": 0.9, "image_ap": 0.9}})
    table = make_table([record], "image", published=True)
    assert [n.printed for n in table.rows[0].cells[0].numbers] == [None, None]


@pytest.mark.parametrize("track", [Track.ZERO_SHOT, Track.TRANSDUCTIVE])
def test_pixel_numbers_that_no_other_image_changes_stand_beside_both_tracks(make_record, track):
    values = {"a": {"pixel_auroc": 0.9, "pixel_pro": 0.8}}
    record = make_record("AA-CLIP", "mvtec_ad", values, track=track)
    table = make_table([record], "pixel", published=True)
    assert [n.printed for n in table.rows[0].cells[0].numbers] == [91.9, None]


def test_the_table_shows_printed_numbers_of_newer_methods_beside_those_of_the_paper(make_record):
    values = {"a": {"image_auroc": 0.9, "image_ap": 0.9, "image_f1max": 0.8}}
    records = [make_record(title, "mvtec_ad", values) for title in ("AdaCLIP", "WinCLIP")]
    table = make_table(records, "image", published=True, metrics=["image-auroc", "image-f1max"])
    assert [[n.printed for n in cell.numbers] for cell in table.rows[0].cells] == [
        [91.8, None],
        [89.2, 90.6],
    ]
    assert any("does not have AdaCLIP" in remark for remark in table.remarks)
    assert "[89.2, 90.6]" in render(table, "md")
