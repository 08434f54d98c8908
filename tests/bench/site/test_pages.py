"""The site: what its pages say, that its links lead somewhere, and that it needs no network."""

import csv
import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from zsad.bench.analysis.matrix import NoRecordsError, arrange
from zsad.bench.errors import UsageError
from zsad.bench.records.record import read_record
from zsad.bench.records.repository import read_source
from zsad.bench.site.catalogue import Catalogue
from zsad.bench.site.pages import Wishes, write_site


class Page(HTMLParser):
    """The links, the sources, the ids and the rows of tables of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.rows, self.cell = [], set(), [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.links += [found[name] for name in ("href", "src") if found.get(name)]
        self.ids |= {found["id"]} if "id" in found else set()
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.cell = []

    def handle_data(self, data):
        if self.cell is not None:
            self.cell.append(data)

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self.cell is not None:
            self.rows[-1].append(" ".join("".join(self.cell).split()))
            self.cell = None


@pytest.fixture(scope="module")
def pages(site):
    return {p.relative_to(site).as_posix(): Page(p.read_text()) for p in site.rglob("*.html")}


def test_every_method_dataset_pair_and_record_has_its_place(pages, site):
    assert {"index.html", "comparisons/index.html", "records/index.html"} <= pages.keys()
    methods = {"clip", "winclip", "faprompt", "musc"}
    assert {f"methods/{name}.html" for name in methods} <= pages.keys()
    assert {f"datasets/{name}.html" for name in ("visa", "elpv", "synthetic")} <= pages.keys()
    pairs = [name for name in pages if "--against--" in name]
    assert len(pairs) == 6  # of four evaluated methods of one track; MuSc is alone in its own
    assert not any("musc" in name for name in pairs)
    assert len(list((site / "records").rglob("*.json"))) == 11


def test_every_link_within_the_site_leads_somewhere(pages, site):
    for name, page in pages.items():
        for link in page.links:
            if link.startswith(("https:", "http:", "data:")):
                continue
            path, _, place = link.partition("#")
            target = (site / name).parent / unquote(path) if path else site / name
            assert target.resolve().is_file(), f"{name}: {link}"
            if place and target.suffix == ".html":
                found = pages[target.resolve().relative_to(site.resolve()).as_posix()]
                assert place in found.ids, f"{name}: {link}"


def test_nothing_is_loaded_from_elsewhere(site):
    for path in site.rglob("*.html"):
        text = path.read_text()
        assert "default-src 'none'" in text
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="([^"]*)"', text)
        assert loaded
        assert not [place for place in loaded if place.startswith(("http", "//"))]
    for name in ("style.css", "script.js"):
        assert not re.search(r"https?://(?!www\.w3\.org)", (site / name).read_text())


def test_tracks_have_leaderboards_of_their_own(pages, shown_records):
    rows = pages["index.html"].rows
    heads = [row for row in rows if row[0] == "Method"]
    by_method = {row[0]: row for row in rows}
    assert heads[0][:2] == ["Method", "Backbone"]
    assert heads[0][3:6] == ["VisA", "ELPV", "synthetic"]  # after the mean
    assert "MuSc (transductive)" in by_method
    first, second = (next(i for i, row in enumerate(rows) if row == head) for head in heads[:2])
    assert "MuSc (transductive)" not in {row[0] for row in rows[first:second]}


def test_a_method_with_two_backbones_is_two_methods(pages, shown_records):
    labels = {row[0] for row in pages["index.html"].rows}
    for name in ("CLIP (ViT-L-14-336)", "CLIP (ViT-B-16-plus-240)", "FAPrompt"):
        assert any(label.startswith(name) for label in labels)  # after it stand footnote marks
    names = [row[0] for row in pages["methods/clip.html"].rows]
    assert {"CLIP (ViT-L-14-336)", "CLIP (ViT-B-16-plus-240)"} <= set(names)


def test_numbers_are_those_of_the_records(site, shown_records):
    rows = list(csv.DictReader((site / "numbers.csv").open()))
    records = [r for r in shown_records if r.cell.method == "faprompt"]
    matrix = arrange(records)
    found = {
        (r["dataset"], r["metric"]): float(r["value"])
        for r in rows
        if r["title"] == "FAPrompt" and r["value"]
    }
    for dataset in matrix.datasets:
        value = matrix.value(matrix.methods[0], dataset, "image_auroc").value
        assert found[dataset.name, "image_auroc"] == pytest.approx(value, abs=1e-12)


def test_the_best_of_a_leaderboard_comes_first(pages):
    rows = pages["index.html"].rows
    start = next(i for i, row in enumerate(rows) if row[0] == "Method")
    values = []
    for row in rows[start + 1 :]:
        if row[0] == "Method":
            break
        values.append(row[2])
    assert rows[start][2].startswith("Mean of 2 of 8")
    assert values[3] == "–"  # CLIP with the other backbone has not all of the mean's datasets
    means = [float(value.split(" ")[-1].strip("≈best:")) for value in values[:3]]
    assert means == sorted(means, reverse=True)


def test_a_method_page_says_what_it_changes_and_where_it_differs(site):
    text = (site / "methods" / "faprompt.html").read_text()
    assert "many learned abnormal prompts built on one normal prompt" in text
    assert "9\u202f612\u202f256" in text
    assert "patches of the prior" in text  # of its table in docs/fidelity.md
    assert "Axes:" not in text
    winclip = (site / "methods" / "winclip.html").read_text()
    assert "two sets of numbers" in winclip
    assert "shown k normal training images" not in winclip  # that is WinCLIP+


def test_a_dataset_page_has_counts_terms_and_samples(site):
    visa = (site / "datasets" / "visa.html").read_text()
    assert "962 normal, 1,200 anomalous" in visa
    assert "CC BY 4.0" in visa
    assert 'href="https://github.com/amazon-science/spot-diff"' in visa
    assert not (site / "datasets" / "visa.jpg").exists()  # its images are not here
    assert (site / "datasets" / "synthetic.jpg").stat().st_size > 10_000


def test_a_wrong_record_does_not_count_and_is_named(pages, site):
    assert not any("AnoVL" in row[0] for row in pages["index.html"].rows)
    text = (site / "records" / "index.html").read_text()
    assert "anovl--official--elpv--seed111" in text
    assert "image-f1max is 0.123" in text


def test_the_newer_record_of_a_cell_counts(sources, shown_records):
    records = read_source(sources[0])
    older = {**records[0].provenance, "started": "2020-01-01T00:00:00+00:00"}
    twice = [dataclasses.replace(records[0], provenance=older), *records]
    catalogue = Catalogue.of(twice)
    assert [r.provenance["started"] for r in catalogue.gathered.left_out] == [older["started"]]
    assert len(catalogue.matrix.records) == len(records)


def test_records_on_the_site_are_records(site, shown_records):
    paths = list((site / "records").rglob("*.json"))
    read = {read_record(path).cell.key for path in paths}
    assert read <= {record.cell.key for record in shown_records}


def test_hostile_texts_are_shown_as_texts(shown_records, tmp_path):
    record = next(r for r in shown_records if r.cell.method == "clip")
    bad = '<img src=x onerror="alert(1)">'
    cell = dataclasses.replace(record.cell, method=bad, label="../../up")
    write_site(
        Catalogue.of([dataclasses.replace(record, cell=cell, title=bad)]),
        tmp_path / "s",
        Wishes(settings=None),
    )
    for path in (tmp_path / "s").rglob("*.html"):
        assert "<img src=x" not in path.read_text()
    written = [p.resolve() for p in tmp_path.rglob("*") if p.is_file()]
    assert all((tmp_path / "s").resolve() in p.parents for p in written)
    assert not (tmp_path / "s" / "comparisons").exists()


def test_a_site_is_written_again_and_nothing_else_is_overwritten(shown_records, tmp_path):
    catalogue, wishes = Catalogue.of(shown_records[:1]), Wishes(settings=None)
    first = write_site(catalogue, tmp_path / "site", wishes)
    assert write_site(catalogue, tmp_path / "site", wishes) == first
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("words")
    with pytest.raises(UsageError, match="not a site"):
        write_site(catalogue, tmp_path / "thesis", wishes)


def test_a_site_needs_records(wrong_run):
    with pytest.raises(NoRecordsError):
        Catalogue.of([])
    with pytest.raises(UsageError, match="all 1 records are wrong"):
        Catalogue.of(read_source(Path(wrong_run)))
