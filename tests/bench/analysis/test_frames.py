"""The numbers of tables as DataFrames: those of a run meet those that are printed."""

import pytest
from zsad.bench import published_frame, scores_frame
from zsad.bench.analysis import published
from zsad.bench.records.record import write_record

KEYS = ["method", "dataset", "metric"]


@pytest.fixture(scope="module")
def printed():
    return published_frame()


def test_a_run_that_repeats_the_paper_meets_its_numbers(paper_run, printed):
    main = printed[printed["table"].isin((1, 2)) & printed["dataset_name"].notna()]
    main = main.drop(columns="dataset").rename(columns={"dataset_name": "dataset"})
    joined = scores_frame(paper_run).merge(main, on=KEYS, suffixes=("", "_printed"))
    assert len(joined) == len(published.main_results())
    differing = joined[(joined["value"] - joined["value_printed"]).abs() > 0.00051]
    assert set(differing["dataset"]) <= {"mvtec_ad", "visa"}  # means over printed categories
    assert len(differing) < len(joined) / 50
    assert (joined["domain"] == joined["domain_printed"]).all()


def test_what_has_no_number_says_why(tmp_path, make_record):
    write_record(tmp_path, make_record(categories={"a": {"image_auroc": 0.5}, "b": {}}))
    write_record(tmp_path, make_record(categories={"a": {"image_auroc": 0.9}, "b": {}}, seed=7))
    write_record(tmp_path, make_record("WinCLIP", error="no weights"))
    frame = scores_frame(tmp_path).set_index(["method", "metric"])
    row = frame.loc[("clip", "image_auroc")]
    assert row["value"] == pytest.approx(0.7)
    assert row["spread"] == pytest.approx(0.4 / 2**0.5)
    assert (row["seeds"], row["categories"], row["n_anomalous"]) == (2, 2, 40)
    assert "over 1 of 2 categories" in row["notes"]
    failed = frame.loc[("winclip", "image_auroc")]
    assert failed["notes"] == "failed: DataError: no weights"
    assert failed.isna()["value"]


def test_doubtful_printed_values_say_why(printed):
    doubtful = printed[printed["doubt"] != ""]
    assert 0 < len(doubtful) < len(printed) / 10
    assert printed["value"].between(0, 1).all()
