"""The report says what the records say, as inert text, and needs nothing but itself."""

import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner
from zsad.bench.analysis.costs import costs
from zsad.bench.analysis.matrix import Matrix
from zsad.bench.analysis.notices import BUILT_IN_NOTE
from zsad.bench.cli.app import app
from zsad.bench.errors import FileError, UsageError
from zsad.bench.files import write_text
from zsad.bench.metric_table import METRICS
from zsad.bench.records.gallery_choice import CHOICES
from zsad.bench.records.map_sheets import GalleryError
from zsad.bench.records.record import RecordError, read_records
from zsad.bench.report.curves import SIDE, curve_panels, svg_path
from zsad.bench.report.differences import differences
from zsad.bench.report.overview import cards, hardest
from zsad.bench.report.page import MEGABYTE, render_report
from zsad.bench.report.pictures import STEPS, gallery, stepped
from zsad.bench.report.tables import report_tables
from zsad.bench.track import Track

EVIL = '<script>alert("x")</script>'
VOID = {"meta", "link", "img", "input", "br"}


class Checker(HTMLParser):
    """Collects what a browser would fetch or run, and whether tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.scripts, self.links, self.handlers, self.text = [], 0, [], [], []

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                self.links.append(value)
            if name.startswith("on"):
                self.handlers.append(name)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text.append(data)


def checked(text):
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open in ([], ["html"])
    return checker


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_run):
    folder = tmp_path_factory.mktemp("run") / "evening"
    return make_run(
        folder,
        ["CLIP", "CoOp", "FAPrompt"],
        ["mvtec_ad", "visa", "elpv", "btad", "isic"],
        images=8,
        failing=("CoOp", "btad"),
    )


@pytest.fixture(scope="module")
def page(run):
    return render_report(run)


def test_page_is_well_formed_and_fetches_nothing(page):
    checker = checked(page)
    assert checker.scripts == 1
    assert checker.handlers == []
    assert checker.links
    assert all(link.startswith(("#", "data:")) for link in checker.links)
    assert not re.search(r"https?://(?!www\.w3\.org)", page)
    assert "url(" not in page and "@import" not in page


def test_content_policy_allows_only_the_own_script_and_embedded_pictures(page):
    import base64
    import hashlib

    script = re.search(r"<script>(.*)</script>", page, re.S).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1)
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_number_of_every_record_is_there(run, page):
    cells = page[page.index('id="cells"') :]
    for record in read_records(run):
        for result in record.categories:
            for value in result.metrics.values():
                assert f">{100 * value:.1f}</td>" in cells


def test_tables_are_readable_without_script(page):
    still = re.sub(r"<script>.*</script>", "", page, flags=re.S)
    assert all(name in still for name in ("MVTecAD", "FAPrompt", "Provenance", "carpet"))
    assert not re.search(r"<[^>]*\shidden[\s=>]", still)
    css = re.search(r"<style>(.*?)</style>", still, re.S).group(1)
    assert re.search(r"\.needs-js,[^{]*{ display: none", css)  # dead controls are not shown
    assert "≈" in still and "image F1-max" in still


def test_text_from_records_and_names_is_inert(tmp_path, make_run):
    folder = make_run(tmp_path / "run", [EVIL], [EVIL, "visa"], images=4, keep=1)
    for path in (folder / "cells").glob("*.json"):
        raw = json.loads(path.read_text())
        raw["protocol"]["note"] = EVIL
        raw["protocol"]["domain"] = EVIL
        raw["categories"][0]["category"] = EVIL
        raw["categories"][0]["undefined"] = {"pixel_ap": EVIL}
        raw["categories"][0]["metrics"].pop("pixel_ap", None)
        path.write_text(json.dumps(raw))
    (folder / "plan.json").write_text(json.dumps({"x": EVIL + "</pre>"}))
    text = render_report(folder, title=EVIL)
    checker = checked(text)
    assert checker.scripts == 1
    assert EVIL not in text
    assert html.escape(EVIL) in text.replace("&#34;", "&quot;")


def test_failures_are_listed_with_message_and_marked_in_the_table(page):
    assert "image 007.png of BTAD is cut off: copy it again" in page
    assert "1 failed" in page
    failures = page[page.index('id="failures"') :]
    assert "Traceback (most recent call last)" in failures


def test_built_in_set_is_named_as_such_and_only_then(tmp_path, page, make_run):
    assert BUILT_IN_NOTE not in page
    for backbone, dataset in (("tiny", "visa"), ("ViT-L-14-336", "synthetic")):
        folder = make_run(
            tmp_path / dataset, ["CLIP"], [dataset], images=4, keep=0, backbone=backbone
        )
        assert BUILT_IN_NOTE in render_report(folder)


def test_numbers_are_held_against_print_only_where_they_measure_the_same(tmp_path, make_run):
    cases = {
        "plain": ({}, "ViT-L-14-336", 4),
        "tiny": ({}, "tiny", 0),
        "options": ({"sigma": 8}, "ViT-L-14-336", 0),
    }
    for name, (option, backbone, expected) in cases.items():
        folder = make_run(
            tmp_path / name, ["CLIP"], ["visa"], [option], images=4, keep=0, backbone=backbone
        )
        matrix = Matrix.read(folder)
        assert len(differences(report_tables(matrix))) == expected, name


def test_limited_runs_are_not_held_against_print(tmp_path, make_run):
    folder = make_run(tmp_path, ["CLIP"], ["visa"], images=4, keep=0)
    (path,) = (folder / "cells").glob("*.json")
    raw = json.loads(path.read_text())
    raw["protocol"]["limit"] = 2
    path.write_text(json.dumps(raw))
    matrix = Matrix.read(folder)
    assert differences(report_tables(matrix)) == []
    assert "at most 2 for each category and label." in render_report(folder)


def test_a_run_that_repeats_the_paper_differs_nowhere(paper_run):
    matrix = Matrix.read(paper_run)
    tables = report_tables(matrix)
    found = differences(tables)
    assert len(found) == 486  # 117 and 126 pairs of Tables 1 and 2
    assert max(abs(d.points) for d in found) <= 0.2
    best = {card.title: card.entries[0].method.label for card in cards(tables)}
    assert best["Industrial, image AUROC"] == "FAPrompt"
    page = render_report(paper_run)
    checked(page)
    assert len(page) < 3 * MEGABYTE


def test_several_seeds_are_shown_with_their_spread(tmp_path, make_run):
    folder = make_run(tmp_path, ["FAPrompt"], ["visa"], seeds=(1, 2, 111), images=8, keep=0)
    page = render_report(folder)
    assert re.search(r"\d\.\d<span class=\"spread\">±\d+\.\d</span>", page)
    assert page.count('class="seed"') >= 3
    (categories,) = curve_panels(Matrix.read(folder)).values()
    assert len(categories["candle"][0]) == 3


def test_curves_are_drawn_for_every_cell_that_has_them(run):
    found = {dataset.title: own for dataset, own in curve_panels(Matrix.read(run)).items()}
    assert [len(panel) for panels in found["BTAD"].values() for panel in panels] == [2] * 6
    kinds = [panel[0].kind.metric for panel in found["ISIC"]["isic"]]
    assert kinds == ["pixel_auroc", "pixel_pro"]


def numbers_of(path):
    return [tuple(map(float, point.split(","))) for point in path[1:].split("L")]


def test_svg_path_keeps_ends_and_drops_points_on_a_line():
    assert svg_path([0, 0.25, 0.5, 1], [0, 0.25, 0.5, 1]) == "M0,120L120,0"
    assert numbers_of(svg_path([0, 0, 1], [0, 1, 1])) == [(0, SIDE), (0, 0), (SIDE, 0)]


def test_svg_path_is_cut_at_the_limit_by_interpolation():
    points = numbers_of(svg_path([0, 0.2, 0.4], [0, 0.5, 1.0], x_end=0.3))
    assert points == [(0, SIDE), (SIDE, pytest.approx(0.25 * SIDE))]


@pytest.mark.parametrize("x, y", [([], []), ([0.1], [0.5]), ([0.9], [0.9])])
def test_svg_path_of_too_few_points_is_empty(x, y):
    assert svg_path(x, y, 0.3) == ""


def test_costs_are_means_over_images(run):
    by_label = {cost.method.label: cost for cost in costs(Matrix.read(run))}
    assert by_label["FAPrompt"].ms_per_image == pytest.approx(31 + 2 + 12 * 1.7)
    assert by_label["FAPrompt"].train_seconds == 420
    assert by_label["CLIP"].train_seconds is None
    assert by_label["FAPrompt"].printed.infer_ms > 0 and by_label["CLIP"].printed is None


def test_gallery_shows_all_methods_for_each_image_in_the_order_of_choices(run):
    view = gallery(run, Matrix.read(run), 8 * MEGABYTE)
    dataset, categories = next(iter(view.groups.items()))
    rows = next(iter(categories.values()))
    assert dataset.title == "MVTecAD"
    for row in rows:
        assert [own.method.label for own in row.maps] == ["CLIP", "CoOp", "FAPrompt"]
    order = [row.choice for row in rows]
    assert order == sorted(order, key=list(CHOICES).index) and set(order) <= set(CHOICES)
    assert len({row.name for row in rows}) == len(rows)
    assert view.left_out == 0 and view.strips == {}


def test_values_below_a_map_are_those_of_the_record_and_of_its_pixels(run):
    matrix = Matrix.read(run)
    view = gallery(run, matrix, 8 * MEGABYTE)
    dataset = next(own for own in view.groups if own.title == "VisA")
    row = next(row for row in view.groups[dataset]["candle"] if row.label)
    own = row.maps[-1]
    (record,) = matrix.finished(own.method, dataset)
    images = record.by_category["candle"].images
    assert own.score == images.scores[images.names.index(row.name)]
    assert 0 <= own.pixel_auroc <= 1


def test_maps_of_the_page_keep_what_reaches_a_level():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    edges = [256, 251, 97, 3]
    shown = stepped(levels, edges)
    for edge in edges:
        assert ((shown >= edge) == (levels >= edge)).all()
    assert len(np.unique(shown)) <= STEPS + 3
    assert abs(shown.astype(int) - levels).max() <= 256 // STEPS + 1


def test_gallery_keeps_its_budget_and_says_what_it_left_out(run):
    matrix = Matrix.read(run)
    whole, view = gallery(run, matrix, 8 * MEGABYTE), gallery(run, matrix, 60_000)
    shown, every = (
        [row for categories in own.groups.values() for rows in categories.values() for row in rows]
        for own in (view, whole)
    )
    assert 0 < sum(row.size for row in shown) <= 60_000
    assert len(shown) + view.left_out == len(every)
    assert gallery(run, matrix, 0).groups == {}


def test_strips_of_runs_of_earlier_versions_still_show(tmp_path, make_run):
    folder = make_run(tmp_path, ["CLIP"], ["visa"], images=4, keep=0)
    (record,) = read_records(folder)
    place = folder / "gallery" / record.cell.key
    place.mkdir(parents=True)
    case = {"category": "candle", "kind": "best", "rank": 1, "name": "a", "label": 1}
    case |= {"score": 0.5, "quality": 0.75, "file": "candle-best-1.png"}
    (place / "candle.json").write_text(json.dumps({"cases": [case]}))
    Image.new("RGBA", (344, 112), (1, 2, 3, 255)).save(place / "candle-best-1.png")
    page = render_report(folder)
    checked(page)
    assert "anomalous, scored above 75% of the normal images" in page


def test_broken_picture_is_named(tmp_path, make_run):
    folder = make_run(tmp_path, ["CLIP"], ["visa"], images=4, keep=1)
    picture = next((folder / "gallery").glob("clip*/*.png"))
    picture.write_bytes(b"no picture")
    with pytest.raises(GalleryError, match=re.escape(picture.name)):
        render_report(folder)


def test_run_without_pictures_or_curves_still_has_a_page(tmp_path, make_record):
    from zsad.bench.records.record import write_record

    write_record(tmp_path, make_record("CLIP", "visa", {"pcb1": {"image_auroc": 0.5}}))
    page = render_report(tmp_path)
    checked(page)
    assert 'id="gallery"' not in page and 'id="curves"' not in page
    assert "50.0" in page


def test_run_in_which_everything_failed_says_so(tmp_path, make_run):
    folder = make_run(tmp_path, ["CoOp"], ["btad"], failing=("CoOp", "btad"))
    page = render_report(folder)
    checked(page)
    assert "copy it again" in page


def test_directory_without_cells_is_refused(tmp_path):
    with pytest.raises(RecordError, match="not a run directory"):
        render_report(tmp_path)
    (tmp_path / "cells").mkdir()
    with pytest.raises(UsageError, match="no records"):
        render_report(tmp_path)


def test_report_that_cannot_be_written_leaves_nothing_and_names_the_file(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="report.html cannot be written .*choose another place"):
        write_text(tmp_path / "file" / "report.html", render_report(run))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_command_writes_into_the_run_or_where_it_is_told(run, tmp_path):
    runner = CliRunner()
    out = tmp_path / "deep" / "page.html"
    result = runner.invoke(app, ["report", str(run), "-o", str(out), "--title", "Evening"])
    assert result.exit_code == 0, result.output
    assert "<h1>Evening</h1>" in out.read_text("utf-8")
    assert runner.invoke(app, ["report", str(run)]).exit_code == 0
    assert (run / "report.html").exists()


def test_incomplete_datasets_are_told_and_not_held_against_print(tmp_path, make_run):
    folder = make_run(tmp_path, ["CLIP"], ["visa"], images=4, keep=0)
    (path,) = (folder / "cells").glob("*.json")
    raw = json.loads(path.read_text())
    raw["completeness"] = {"found": 4, "expected": 2162, "differing_categories": ["candle"]}
    path.write_text(json.dumps(raw))
    for allowed, count in ((False, 0), (True, 4)):
        matrix = Matrix.read(folder, allowed)
        assert len(differences(report_tables(matrix))) == count
        page = render_report(folder, allow_incomplete=allowed)
        assert "VisA: incomplete: 4 of 2162 images." in page


def test_tracks_have_tables_cards_and_best_numbers_of_their_own(tmp_path, make_run):
    titles, datasets = ["CLIP", "FAPrompt"], ["btad", "visa"]
    folder = make_run(tmp_path / "run", titles, datasets, images=8, keep=0)
    alone = report_tables(Matrix.read(folder))
    make_run(folder, ["MuSc"], datasets, images=8, keep=0, track=Track.TRANSDUCTIVE)
    tables = report_tables(Matrix.read(folder))
    first, other = tables[: len(alone)], tables[len(alone) :]
    assert [own.table for own in first] == [own.table for own in alone]
    assert [own.rows for own in first] == [own.rows for own in alone]
    for own in other:
        assert [head.label for head in own.heads] == ["MuSc (transductive)"]
        assert not any(entry.mark for row in own.rows for entry in row.entries)
    found = {card.title: [e.method.label for e in card.entries] for card in cards(tables)}
    assert set(found["Industrial, image AUROC"]) == set(titles)
    assert found["Industrial, image AUROC, transductive track"] == ["MuSc (transductive)"]
    hard = hardest(Matrix.read(folder).of_track(Track.TRANSDUCTIVE), METRICS["image_auroc"])
    assert {own.best for own in hard} == {"MuSc (transductive)"}
    page = render_report(folder)
    checked(page)
    assert "<h3>Image-level AUROC in percent, transductive track</h3>" in page
    assert "<h3>Where methods fail, by image AUROC, transductive track</h3>" in page
    assert Track.TRANSDUCTIVE.meaning in page


def test_a_page_of_the_zero_shot_track_alone_says_nothing_of_tracks(page):
    assert "track:" not in page[: page.index("<script>")]
    assert "of 2 tracks" not in page


def test_categories_on_which_even_the_best_method_fails_come_first(run):
    matrix = Matrix.read(run)
    found = hardest(matrix, METRICS["image_auroc"])
    values = [hard.value for hard in found]
    assert values == sorted(values) and len(found) >= 5
    (lowest,) = (d for d in matrix.datasets if d.title == found[0].dataset.title)
    own = [matrix.value(m, lowest, "image_auroc", found[0].category).value for m in matrix.methods]
    assert found[0].value == 100 * max(value for value in own if value is not None)


def test_the_largest_difference_from_print_comes_first(run):
    found = differences(report_tables(Matrix.read(run)))
    sizes = [abs(own.points) for own in found]
    assert len(found) > 10 and sizes == sorted(sizes, reverse=True)
    page = render_report(run)
    widths = [float(w) for w in re.findall(r'<i style="width:([\d.]+)%"></i></span>', page)]
    assert widths[0] == 100.0


def test_what_is_not_held_against_print_is_told_with_its_reason(tmp_path, make_run):
    folder = make_run(tmp_path / "a", ["CLIP"], ["visa"], images=4, keep=0, backbone="tiny")
    page = render_report(folder)
    assert "No number of this run is compared with a printed one." in page
    assert "Not compared because of a built-in dataset or the built-in backbone: VisA." in page
    folder = make_run(tmp_path / "b", ["CLIP"], ["visa"], images=4, keep=0, backbone="RN50")
    page = render_report(folder)
    assert "On another backbone than the printed numbers: CLIP (RN50)." in page
