import csv
from pathlib import Path

import pytest
from zsad.bench.data.check import benchmark_names, known_names
from zsad.bench.names import display_name, normalize_name
from zsad.bench.registry import dataset_class
from zsad.bench.running.plan import make_plan

# FAPrompt, Table 5 and the totals of Table 4 (with 84 anomalous tiles, as released)
TESTED = {
    "MVTecAD": (467, 1258),
    "VisA": (962, 1200),
    "SDD": (286, 54),
    "BTAD": (451, 290),
    "MPDD": (176, 282),
    "AITEX": (564, 183),
    "DAGM": (6996, 1054),
    "DTD-Synthetic": (357, 947),
    "ELPV": (377, 715),
    "BrainMRI": (98, 155),
    "HeadCT": (100, 100),
    "LAG": (786, 1711),
    "Br35H": (1500, 1500),
    "CVC-ColonDB": (0, 380),
    "CVC-ClinicDB": (0, 612),
    "Kvasir": (0, 1000),
    "Endo": (0, 200),
    "ISIC": (0, 379),
    "TN3K": (0, 614),
}
# what their releases have, see docs/datasets.md for the sources; None is not established
NEWER = {
    "KSDD2": (894, 110),
    "MVTec AD 2": (379, 705),
    "MVTec LOCO": (575, 993),
    "Real-IAD": (63256, 51329),
    "BMAD-Brain": (640, 3075),
    "BMAD-Liver": (833, 660),
    "BMAD-RESC": (1041, 764),
    "BMAD-OCT2017": (None, None),
    "BMAD-Chest": (None, None),
    "BMAD-Histopathology": (None, None),
    "GoodsAD": (1328, 1660),
    "3CAD": (5084, 11462),
}
CLASSES = [dataset_class(name) for name in benchmark_names()]
NEWER_CLASSES = [dataset_class(n) for n in known_names() if n not in benchmark_names()]


@pytest.fixture(params=CLASSES, ids=[c.name for c in CLASSES])
def dataset(request):
    return request.param


@pytest.fixture(params=NEWER_CLASSES, ids=[c.name for c in NEWER_CLASSES])
def newer(request):
    return request.param


def test_newer_datasets_are_known_and_not_meant_by_all():
    assert {c.title for c in NEWER_CLASSES} == set(NEWER)
    for asked in ("all", "all-known", "all_known"):
        names = [plan.name for plan in make_plan(["clip"], [asked]).datasets]
        assert names == (known_names() if "known" in asked else benchmark_names())
    assert not {"folder", "synthetic", "synthetic_aux"} & set(known_names())


def test_newer_datasets_state_counts_terms_and_tree(newer):
    total = newer.expected()
    assert (total.test_normal, total.test_anomalous) == NEWER[newer.title]
    source = newer.source
    assert source.page.startswith("http")
    assert source.download
    assert source.licence
    assert source.tree.count("\n") >= 2
    assert source.citation == source.citation.lower()
    assert newer.auxiliary == "mvtec_ad"
    assert all(i.official_name and i.readable_name for i in newer.categories.values())
    counted = " / ".join(str(n) for n in NEWER[newer.title]).replace("None", "?")
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    assert f"\n### {newer.title}\n" in text
    row = next(line for line in text.splitlines() if f"| {newer.title} |" in line)
    assert row.startswith(f"| `{display_name(newer.name)}` |")
    assert f"| {len(newer.categories)} | {counted} |" in row
    assert row.rstrip(" |").endswith(newer.source.licence)


def test_paper_has_these_nineteen():
    assert {c.title for c in CLASSES} == set(TESTED)


def test_expected_counts_are_the_papers(dataset):
    total = dataset.expected()
    assert (total.test_normal, total.test_anomalous) == TESTED[dataset.title]


def test_terms_and_tree_are_stated(dataset):
    source = dataset.source
    assert source.page.startswith("http")
    assert source.download
    assert source.licence
    assert source.tree.count("\n") >= 2
    assert source.citation == source.citation.lower()
    assert any(c.isdigit() for c in source.citation)
    assert normalize_name(dataset.title) == normalize_name(dataset.name)


def test_what_can_be_measured_is_stated(dataset):
    pixels_only = {"CVC-ColonDB", "CVC-ClinicDB", "Kvasir", "Endo", "ISIC", "TN3K"}
    assert dataset.has_image_labels == (dataset.title not in pixels_only)
    images_only = {"ELPV", "BrainMRI", "HeadCT", "LAG", "Br35H"}
    assert dataset.has_masks == (dataset.title not in images_only)
    assert dataset.domain == ("medical" if TESTED[dataset.title][0] == 0 else dataset.domain)
    assert dataset.auxiliary == ("visa" if dataset.name == "mvtec_ad" else "mvtec_ad")
    assert all(i.official_name and i.readable_name for i in dataset.categories.values())


def test_counts_of_mvtec_and_visa_are_those_printed():
    table = Path(__file__).parents[2] / "results" / "published" / "dataset_stats.csv"
    if not table.exists():
        pytest.skip("no published tables here")
    with table.open(newline="") as file:
        printed = [row for row in csv.DictReader(file) if row["category"]]
    assert len(printed) == 27
    by_title = {c.title: c for c in CLASSES}
    wrong = []
    for row in printed:
        counts = by_title[row["dataset"]].categories[row["category"]].counts
        ours = (counts.train_normal, counts.test_normal, counts.test_anomalous)
        keys = ("train_normal", "test_normal", "test_anomalous")
        if ours != tuple(int(row[key]) for key in keys):
            wrong.append(row["category"])
    assert wrong == ["tile"]  # the paper prints 83, the release has 84


def test_documentation_states_every_dataset_with_its_counts(dataset):
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    row = next(line for line in text.splitlines() if f"| {dataset.title} |" in line)
    total = dataset.expected()
    assert f"| `{display_name(dataset.name)}` |" in row
    assert f"| {len(dataset.categories)} | {total.test_normal} / {total.test_anomalous} |" in row
    assert row.rstrip(" |").endswith(dataset.source.licence)
