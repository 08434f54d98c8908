"""The printed numbers: complete, in the paper's order, and their contradictions are known."""

import csv

import pytest
from zsad.bench.analysis import published
from zsad.bench.names import normalize_name

# Every printed mean that its printed parts do not give to within the last digit. All of them are
# listed with their reasons in results/published/suspicious_values.csv.
KNOWN_MISMATCHES = {
    "Table 1, WinCLIP, image_auroc of VisA against the mean row of Table 16": (78.8, 78.70),
    "Table 3, AnomalyCLIP, image_auroc of medical datasets against Table 1": (87.7, 88.15),
    "Table 3, AnomalyCLIP, image_auroc of medical datasets against Table 20": (87.7, 88.15),
    "Table 3, AnomalyCLIP, image_ap of medical datasets against Table 1": (90.6, 90.85),
    "Table 3, AnomalyCLIP, image_ap of medical datasets against Table 20": (90.6, 90.85),
    "Table 3, +CAP w/o L_oc, image_ap of industrial datasets against Table 20": (86.3, 88.49),
}


def test_printed_means_follow_from_their_parts_but_for_the_known_ones():
    found = {m.where: (m.printed, m.recomputed) for m in published.mismatches()}
    assert found.keys() == KNOWN_MISMATCHES.keys()
    for where, pair in KNOWN_MISMATCHES.items():
        assert found[where] == pytest.approx(pair, abs=0.005)


def test_all_means_are_compared():
    every = published.mismatches(tolerance=-1)
    assert len(every) == 64 + 72 + 64
    assert sum("mean over the categories" in m.where for m in every) == 64
    assert sum("against the mean row" in m.where for m in every) == 72


def test_every_mismatch_is_among_the_doubtful_values():
    doubts = {(d.table, d.model) for d in published.doubts() if d.kind in published.DOUBTS}
    for where in KNOWN_MISMATCHES:
        model = where.split(", ")[1]
        assert any(name == model for _, name in doubts)


def test_tables_one_and_two_are_complete():
    printed = published.main_results()
    assert len([p for p in printed if p.level == "image"]) == 13 * 9
    assert len([p for p in printed if p.level == "pixel"]) == 14 * 9
    assert published.models()[0] == "CLIP"
    assert published.models()[-1] == "FAPrompt"
    assert len(published.datasets()) == 19
    assert len(published.counts()) == 15 + 12 + 17
    assert len(published.breakdown()) == 936


@pytest.mark.parametrize(
    ("level", "domain", "size"),
    [
        ("image", "industrial", 8),
        ("image", "medical", 4),
        ("pixel", "industrial", 7),
        ("pixel", "medical", 6),
    ],
)
def test_domain_means_cover_what_the_papers_means_cover(level, domain, size):
    names = published.mean_datasets(level, domain)
    assert len(names) == size
    assert "MVTecAD" not in names


def test_all_numbers_are_percent_with_one_decimal():
    values = [
        v for p in (*published.main_results(), *published.ablations()) for v in (p.auroc, p.second)
    ]
    values += [row.value for row in published.breakdown()]
    assert all(0 <= value <= 100 for value in values)
    assert all(round(value, 1) == value for value in values)


def test_registry_names_find_their_printed_names():
    from zsad.bench import registry

    normalized = {normalize_name(name) for name in published.datasets()}
    known = {normalize_name(name) for name in registry.names("dataset")}
    assert normalized <= known


def test_a_doubtful_value_is_found_by_any_spelling():
    doubt = published.doubt_about(1, "brainmri", "coop")
    assert doubt is not None
    assert "anomaly share" in doubt.reason
    assert published.doubt_about(1, "brainmri", "clip") is None
    assert published.doubt_about(2, "aitex", "cocoop") is None, "read with certainty"
    assert published.doubt_about(20, "lag", "anomalyclip") is not None


def test_every_file_is_described_in_its_readme():
    folder = published.folder()
    text = (folder / "README.md").read_text(encoding="utf-8")
    for path in folder.glob("*.csv"):
        assert path.name in text
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        assert len({len(row) for row in rows}) == 1, f"{path.name} has ragged rows"


def test_missing_files_are_told(monkeypatch):
    published.folder.cache_clear()
    monkeypatch.setattr(published, "PACKAGE", "zsad.nowhere")
    try:
        with pytest.raises(published.PublishedError, match="reinstall"):
            published.folder()
    finally:
        published.folder.cache_clear()
