"""The printed numbers: complete, in the paper's order, and their contradictions are known."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

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


@dataclass(frozen=True)
class Mismatch:
    """A printed mean that its printed parts do not give.

    Attributes:
        where: table, model and what the mean is over.
        printed, recomputed: percent.
    """

    where: str
    printed: float
    recomputed: float

    @property
    def gap(self) -> float:
        """Recomputed minus printed, percentage points."""
        return self.recomputed - self.printed


def mismatches(tolerance: float = 0.05) -> list[Mismatch]:
    """Printed means that differ by more than `tolerance` (percentage points) from their parts.

    Compared are the mean rows of Tables 12-19 with the categories, Tables 1 and 2 with the mean
    rows, and the averages of Table 3 with Tables 1, 2, 20 and 21.
    """
    compared = [*_category_means(), *_dataset_values(), *_domain_means()]
    return [pair for pair in compared if abs(pair.gap) > tolerance + 1e-9]


def _category_means() -> Iterator[Mismatch]:
    groups: dict[tuple[int, str, str], dict[str, float]] = {}
    for row in published.breakdown():
        groups.setdefault((row.table, row.dataset, row.model), {})[row.category] = row.value
    for (table, dataset, model), values in groups.items():
        parts = [value for name, value in values.items() if name != published.DATASET_MEAN]
        if parts:
            where = f"Table {table}, {model}, mean over the categories of {dataset}"
            yield Mismatch(where, values[published.DATASET_MEAN], fmean(parts))


def _dataset_values() -> Iterator[Mismatch]:
    means = {
        (row.dataset, row.model, row.metric): row
        for row in published.breakdown()
        if row.category == published.DATASET_MEAN
    }
    for printed in published.main_results():
        mean = means.get((printed.dataset, printed.model, printed.metric))
        if mean is not None:
            where = (
                f"Table {printed.table}, {printed.model}, {printed.metric} of {printed.dataset} "
                f"against the mean row of Table {mean.table}"
            )
            yield Mismatch(where, printed.value, mean.value)


def _domain_means() -> Iterator[Mismatch]:
    parts = [p for p in (*published.main_results(), *published.ablations()) if p.dataset]
    for average in published.ablations():
        if average.table != 3:
            continue
        covered = published.mean_datasets(average.level, average.domain)
        for table in (published.MAIN_TABLE[average.level], 20 if average.level == "image" else 21):
            values = [
                p.value
                for p in parts
                if (p.table, p.model, p.metric) == (table, average.model, average.metric)
                and p.dataset in covered
            ]
            if len(values) == len(covered):
                where = (
                    f"Table 3, {average.model}, {average.metric} of {average.domain} datasets "
                    f"against Table {table}"
                )
                yield Mismatch(where, average.value, fmean(values))


def test_printed_means_follow_from_their_parts_but_for_the_known_ones():
    found = {m.where: (m.printed, m.recomputed) for m in mismatches()}
    assert found.keys() == KNOWN_MISMATCHES.keys()
    for where, pair in KNOWN_MISMATCHES.items():
        assert found[where] == pytest.approx(pair, abs=0.005)


def test_all_means_are_compared():
    every = mismatches(tolerance=-1)
    assert len(every) == 64 + 72 + 64
    assert sum("mean over the categories" in m.where for m in every) == 64
    assert sum("against the mean row" in m.where for m in every) == 72


def test_every_mismatch_is_among_the_doubtful_values():
    doubtful = {e.method for e in published.errata() if e.kind in published.DOUBTFUL}
    for where in KNOWN_MISMATCHES:
        assert where.split(", ")[1] in doubtful


def test_tables_one_and_two_are_complete():
    printed = published.main_results()
    assert len([p for p in printed if p.level == "image"]) == 13 * 9 * 2
    assert len([p for p in printed if p.level == "pixel"]) == 14 * 9 * 2
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
    every = (*published.main_results(), *published.ablations(), *published.breakdown())
    values = [printed.value for printed in every]
    assert all(0 <= value <= 100 for value in values)
    assert all(round(value, 1) == value for value in values)


def test_registry_names_find_their_printed_names():
    from zsad.bench import registry

    normalized = {normalize_name(name) for name in published.datasets()}
    known = {normalize_name(name) for name in registry.names("dataset")}
    assert normalized <= known


def test_a_doubtful_value_is_found_by_any_spelling():
    erratum = published.erratum_of(1, "brainmri", "coop")
    assert erratum is not None
    assert "anomaly share" in erratum.reason
    assert published.erratum_of(1, "brainmri", "clip") is None
    assert published.erratum_of(2, "aitex", "cocoop") is None, "read with certainty"
    assert published.erratum_of(20, "lag", "anomalyclip") is not None


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
