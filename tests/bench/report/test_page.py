"""The report says what the records say, as inert text, and needs nothing but itself."""

import html
import json
import re
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner
from zsad.bench.analysis.costs import costs
from zsad.bench.analysis.matrix import Matrix
from zsad.bench.analysis.notices import BUILT_IN_NOTE
from zsad.bench.errors import FileError, UsageError
from zsad.bench.files import write_text
from zsad.bench.records.cases import read_cases
from zsad.bench.records.map_sheets import GalleryError
from zsad.bench.records.record import RecordError, read_records
from zsad.bench.report.curves import SIDE, curve_panels, svg_path
from zsad.bench.report.differences import differences
from zsad.bench.report.page import MEGABYTE, render_report
from zsad.bench.report.pictures import gallery
from zsad.bench.report.tables import rankings, report_tables
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
    assert ".needs-js { display: none" in css  # dead controls are not shown


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
    best = {p.title: p.means[0][0].label for p in rankings(tables)}
    assert best["Industrial, image level"] == "FAPrompt"
    page = render_report(paper_run)
    checked(page)
    assert len(page) < 3 * MEGABYTE


def test_several_seeds_are_shown_with_their_spread(tmp_path, make_run):
    folder = make_run(tmp_path, ["FAPrompt"], ["visa"], seeds=(1, 2, 111), images=8, keep=0)
    page = render_report(folder)
    assert re.search(r"\d\.\d±\d+\.\d", page)
    assert ">Seed</th>" in page
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


def test_gallery_shows_best_before_worst_side_by_side(run):
    view = gallery(run, Matrix.read(run), 8 * MEGABYTE)
    dataset, categories = next(iter(view.groups.items()))
    columns = next(iter(categories.values()))
    assert dataset.title == "MVTecAD"
    assert [method.label for method in columns] == ["CLIP", "CoOp", "FAPrompt"]
    kinds = [(case.kind, case.rank) for case, _ in next(iter(columns.values()))]
    assert kinds == [("best", 1), ("best", 2), ("worst", 1), ("worst", 2)]
    assert view.left_out == 0


def test_gallery_keeps_its_budget_and_says_what_it_left_out(run):
    matrix = Matrix.read(run)
    view = gallery(run, matrix, 60_000)
    pictures = [
        picture
        for categories in view.groups.values()
        for columns in categories.values()
        for own in columns.values()
        for picture in own
    ]
    assert 0 < sum(len(uri) for _, uri in pictures) <= 60_000
    cells = [record.cell for record in matrix.finished_records]
    assert len(pictures) + view.left_out == sum(len(read_cases(run, cell)) for cell in cells)
    assert all(case.rank == 1 for case, _ in pictures)
    assert gallery(run, matrix, 0).groups == {}


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
    from zsad.bench.cli.app import app

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
    before = report_tables(Matrix.read(folder))
    make_run(folder, ["MuSc"], datasets, images=8, keep=0, track=Track.TRANSDUCTIVE)
    matrix = Matrix.read(folder)
    tables = report_tables(matrix)
    for (zero_shot, other), (alone,) in zip(tables, before, strict=True):
        assert zero_shot.table == alone.table, "methods of another track change nothing"
        assert [column.label for column in other.table.columns] == ["MuSc (transductive)"]
        assert not any(n.rank for row in other.table.rows for c in row.cells for n in c.numbers)
    means = {r.title: [method.label for method, _ in r.means] for r in rankings(tables)}
    assert set(means["Industrial, image level"]) == set(titles)
    assert means["Industrial, image level, transductive track"] == ["MuSc (transductive)"]
    page = render_report(folder)
    checked(page)
    assert "<h3>Image-level (AUROC, AP) in percent, transductive track</h3>" in page
    assert page.count(Track.TRANSDUCTIVE.meaning) == len(tables)


def test_a_page_of_the_zero_shot_track_alone_says_nothing_of_tracks(page):
    assert "track:" not in page
    assert "of 2 tracks" not in page
