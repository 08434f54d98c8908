"""Whatever format a comparison is written in, each note of it is there."""

import csv
import dataclasses
import html
import io
import json
import re

import pytest
from zsad.bench.analysis.compare import compare_runs
from zsad.bench.analysis.comparison_tables import render_findings
from zsad.bench.analysis.formats import FORMATS
from zsad.bench.analysis.latex_text import escape
from zsad.bench.analysis.resampling import Settings
from zsad.bench.analysis.uncertainty import rank
from zsad.bench.data.completeness import Completeness
from zsad.bench.track import Track

FAST = Settings(replicates=30)
GAP = Completeness(2, 15, 15, missing_categories=("bottle",))
DATASETS = ("visa", "btad", "mpdd", "sdd")


@pytest.fixture(scope="module")
def records(scored_record):
    """Three methods; one dataset is incomplete, one of another map size, one without scores."""
    titles = {"FAPrompt": 1.2, "CLIP": 0.4, "CoOp": 0.9}
    made = [
        scored_record(title, name, i, separation)
        for title, separation in titles.items()
        for i, name in enumerate(DATASETS)
    ]
    made.append(scored_record("CoOp", "isic", 5, 1.0))

    def odd(record):
        if record.cell.dataset == "sdd":
            return dataclasses.replace(record, completeness=GAP)
        if record.cell.dataset == "btad" and record.cell.method == "clip":
            protocol = {**record.protocol, "map_size": 224}
            (result,) = record.categories
            categories = [dataclasses.replace(result, images=None)]
            return dataclasses.replace(record, protocol=protocol, categories=categories)
        return record

    return [odd(record) for record in made]


@pytest.fixture(scope="module")
def findings(records):
    """What `render_findings` is given, but for the format; and notes that all must hold."""
    pytest.importorskip("scikit_posthocs")
    comparisons = compare_runs(records, None, "coop", "clip", FAST)
    ranking = rank(records, "image_auroc")
    assert ranking.left_out == (
        "SDD (incomplete)",
        "ISIC (no value of CLIP, FAPrompt)",
    )
    notes = [
        "no interval: per-image scores were not kept",
        "map_size is 518 in a, 224 in b",
        "incomplete: 1 of 15 categories missing",
        "ISIC",
        "SDD (incomplete)",
        "No ranks by pixel-pro: why.",
    ]
    given = (comparisons, {(Track.ZERO_SHOT, "image_auroc"): ranking}, records)
    return given, notes


def written(findings, fmt):
    (comparisons, rankings, records), _ = findings
    remarks = ["No ranks by pixel-pro: why."]
    return render_findings(comparisons, rankings, records, ["image_auroc"], FAST, fmt, remarks)


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_note_is_in_every_format(findings, fmt):
    text = written(findings, fmt).decode()
    for note in findings[1]:
        shown = {"latex": escape, "html": html.escape, "json": lambda t: json.dumps(t)[1:-1]}
        looked_for = shown.get(fmt, str)(note)
        if fmt == "md":
            text, looked_for = re.sub(r"\\(.)", r"\1", text), note
        assert looked_for in text, note


def test_rows_hold_what_the_json_holds(findings):
    rows = list(csv.DictReader(io.StringIO(written(findings, "csv").decode())))
    raw = json.loads(written(findings, "json"))
    assert raw["settings"]["replicates"] == 30
    by_kind = {kind: [r for r in rows if r["kind"] == kind] for kind in {r["kind"] for r in rows}}
    assert set(by_kind) == {"interval", "difference", "summary", "rank", "pair", "remark"}
    assert len(by_kind["interval"]) == len(raw["intervals"])
    (comparison,) = raw["comparisons"]
    differences = comparison["differences"]
    for row, expected in zip(by_kind["difference"], differences, strict=False):
        both = expected["a"] is not None and expected["b"] is not None
        assert (row["difference"] != "") == both
        if both:
            assert float(row["difference"]) == expected["a"] - expected["b"]
        assert (row["p"] == "") == (expected["test"] is None)
        if expected["test"]:
            assert float(row["low"]) == expected["test"]["difference"]["low"]
    only = by_kind["difference"][len(differences) :]
    assert [(row["dataset"], row["notes"]) for row in only] == [("ISIC", "only in a")]
    (summary, *_) = by_kind["summary"]
    assert summary["wins"] == str(comparison["over_datasets"][0]["wins"])
    assert float(summary["difference"]) == comparison["over_datasets"][0]["mean"]
    assert len(by_kind["pair"]) == 3 and len(by_kind["rank"]) == 3
    assert len({row["a"] for row in rows} & {"CoOp"}) == 1


def test_rows_are_parquet_too(findings):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pd.read_parquet(io.BytesIO(written(findings, "parquet")))
    expected = pd.read_csv(io.BytesIO(written(findings, "csv")))
    assert list(frame.kind) == list(expected.kind)
    assert frame.difference.astype(float).equals(expected.difference.astype(float))
