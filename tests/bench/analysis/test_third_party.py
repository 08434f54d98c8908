"""The register of third parties' numbers: complete, of known names, shown as the file has it."""

import csv
import datetime
import io
import re

import pytest
from zsad.bench import registry
from zsad.bench.analysis import published
from zsad.bench.analysis.formats import render
from zsad.bench.analysis.matrix import EvaluatedMethod
from zsad.bench.analysis.third_party import (
    MARKS,
    third_parties,
    third_party_numbers,
    third_party_table,
)
from zsad.bench.errors import UsageError
from zsad.bench.metric_table import METRICS
from zsad.bench.names import normalize_name
from zsad.bench.track import Track


def test_the_register_has_no_number_twice_and_covers_both_main_datasets():
    numbers = third_party_numbers()
    assert len(numbers) == 440
    places = [(n.method, n.dataset, n.metric, n.measured_by) for n in numbers]
    assert len(places) == len(set(places))
    on_main = {(n.method, n.dataset) for n in numbers if n.dataset in ("MVTecAD", "VisA")}
    for method in ("WinCLIP", "APRIL-GAN", "AnomalyCLIP", "FAPrompt", "AdaCLIP", "AA-CLIP"):
        assert {(method, "MVTecAD"), (method, "VisA")} <= on_main


def test_numbers_are_percent_of_known_metrics_and_datasets():
    datasets = {normalize_name(name) for name in registry.names("dataset")}
    for number in third_party_numbers():
        assert number.metric in METRICS
        assert 0 < number.value <= 100
        assert normalize_name(number.dataset) in datasets
        assert number.dataset in published.datasets()
        assert re.search(r"github\.com/|arXiv \d|arxiv\.org/", number.source)


def test_the_register_says_how_a_number_was_measured():
    for number in third_party_numbers():
        assert number.basis in MARKS
        assert number.source.startswith("https://")
        assert datetime.date.fromisoformat(number.accessed) <= datetime.date(2026, 11, 27)
        assert number.measured_by
        assert not number.pro_definition or number.metric == "pixel_pro"


def test_an_ablation_has_no_printed_number_of_its_method():
    whole = EvaluatedMethod("faprompt", "official", "", "FAPrompt")
    ablation = EvaluatedMethod("faprompt", "cap", "", "FAPrompt")
    assert third_parties(whole, "visa", "image_auroc")
    assert not third_parties(ablation, "visa", "image_auroc")


@pytest.mark.parametrize("level", ["image", "pixel"])
def test_the_spread_that_is_shown_is_that_of_the_file(make_record, level):
    metrics = [name for name in METRICS if METRICS[name].level == level]
    measured = {"a": dict.fromkeys(metrics, 0.5)}
    titles = ("AdaCLIP", "AnomalyCLIP", "WinCLIP", "Mine")
    records = [make_record(t, d, measured) for t in titles for d in ("mvtec_ad", "visa")]
    rows = published.rows("third_party.csv")
    table = third_party_table(records, level)
    seen = 0
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            own = [
                r
                for r in rows
                if (r["method"], r["dataset"], r["level"]) == (column.label, row.group, level)
                and METRICS[f"{level}_{r['metric']}"].label == row.label
            ]
            values = [float(r["value"]) for r in own]
            here, low, high, count = (n.value for n in cell.numbers)
            assert here == pytest.approx(50)
            assert (low, high) == ((min(values), max(values)) if values else (None, None))
            assert (count or 0) == len(values)
            assert all(r["measured_by"] in cell.notes[0] for r in own)
            seen += len(own)
    assert seen == sum(
        r["level"] == level and r["method"] in titles and r["dataset"] in ("MVTecAD", "VisA")
        for r in rows
    )


def test_the_spread_can_be_read_from_csv(make_record):
    record = make_record("AdaCLIP", "mvtec_ad", {"a": {"image_auroc": 0.9}})
    text = render(third_party_table([record], "image", metrics=["image-auroc"]), "csv")
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["AdaCLIP here"] == "90.0"
    assert (row["AdaCLIP lowest"], row["AdaCLIP highest"]) == ("90.7", "92.0")
    assert row["AdaCLIP count"] == "2"
    assert "92 VisualAD?" in row["notes"]


def test_the_spread_of_each_track_is_a_table_of_its_own(make_record):
    values = {"a": {"image_auroc": 0.9}}
    records = [
        make_record("AdaCLIP", "mvtec_ad", values),
        make_record("MuSc", "mvtec_ad", values, track=Track.TRANSDUCTIVE),
    ]
    table = third_party_table(records, "image")
    zero_shot, transductive = table.tracks
    assert [column.label for column in zero_shot.columns] == ["AdaCLIP"]
    assert transductive.title.endswith("transductive track")


def test_what_no_third_party_prints_is_refused(make_record):
    record = make_record("Mine", "mvtec_ad", {"a": {"image_auroc": 0.9}})
    with pytest.raises(UsageError, match="no third party prints"):
        third_party_table([record], "image")
    with pytest.raises(UsageError, match="layout of third-party numbers"):
        third_party_table([record], "breakdown")
