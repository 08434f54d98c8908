"""LaTeX tables compile, and nothing of them lies outside the page of an article."""

import dataclasses
import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass

import pytest
from zsad.bench.analysis.compare import compare_runs
from zsad.bench.analysis.comparison_tables import (
    comparison_table,
    interval_table,
    ranking_table,
)
from zsad.bench.analysis.formats import render
from zsad.bench.analysis.latex import PACKAGES
from zsad.bench.analysis.latex_text import escape, points, slug
from zsad.bench.analysis.resampling import Settings
from zsad.bench.analysis.table_data import Column, Number, Row, Table, TableCell
from zsad.bench.analysis.tables import LAYOUTS, make_table
from zsad.bench.analysis.third_party import third_party_table
from zsad.bench.analysis.uncertainty import rank
from zsad.bench.records.record import read_records

ENGINE = shutil.which("pdflatex")
NEEDS_TEX = pytest.mark.skipif(
    ENGINE is None or shutil.which("kpsewhich") is None, reason="there is no pdflatex here"
)
MOST_OVERFULL = 2.0  # points
SMALLEST_FONT = 5.0  # points


@dataclass(frozen=True)
class Compiled:
    """What TeX says of a document.

    Attributes:
        overfull: by how many points boxes are too wide or too high.
        too_high: floats that are higher than the page.
        scales: of each table, how much it was shrunk.
    """

    overfull: list[float]
    too_high: list[str]
    scales: list[float]


@pytest.fixture
def compiled(tmp_path):
    """A function that sets tables in an article and measures them."""

    def compile_tables(text):
        lines = [
            r"\documentclass{article}",
            rf"\usepackage{{{','.join(PACKAGES)}}}",
            r"\newsavebox{\whole}\let\resized\resizebox",
            r"\renewcommand{\resizebox}[3]{\sbox{\whole}{#3}"
            r"\typeout{natural \the\wd\whole\space of \the\linewidth}\resized{#1}{#2}{#3}}",
            r"\begin{document}",
            text,
            r"\end{document}",
        ]
        (tmp_path / "t.tex").write_text("\n".join(lines), encoding="utf-8")
        line = [ENGINE, "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, timeout=120)
        log = (tmp_path / "t.log").read_text("utf-8", errors="replace")
        assert done.returncode == 0, log[-2000:]
        widths = re.findall(r"natural ([\d.]+)pt of ([\d.]+)pt", log)
        return Compiled(
            [float(x) for x in re.findall(r"Overfull \\.box \(([\d.]+)pt too", log)],
            re.findall(r"Float too large.*", log),
            [min(1.0, float(room) / float(width)) for width, room in widths],
        )

    return compile_tables


def assert_fits(found):
    assert [points for points in found.overfull if points > MOST_OVERFULL] == []
    assert found.too_high == []
    assert found.scales and min(found.scales) * 8 >= SMALLEST_FONT


@NEEDS_TEX
@pytest.mark.parametrize("printed", [False, True])
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "hyperparameters"])
def test_every_layout_with_nine_methods_fits_an_article(paper_run, compiled, layout, printed):
    table = make_table(paper_run, layout, published=printed, delta=printed)
    if layout in ("image", "pixel", "breakdown"):
        assert len(table.columns) == 9
    assert_fits(compiled(render(table, "latex")))


@NEEDS_TEX
def test_numbers_of_third_parties_fit_an_article(paper_run, compiled):
    assert_fits(compiled(render(third_party_table(paper_run, "image"), "latex")))


@NEEDS_TEX
def test_comparisons_intervals_and_ranks_of_nine_methods_fit_an_article(
    make_run, tmp_path, compiled
):
    run = make_run(tmp_path / "run", images=8, keep=0)
    records = read_records(run)
    few = Settings(replicates=20)
    (found,) = compare_runs(records, None, "faprompt", "clip", few)
    tables = [comparison_table(found), interval_table(records, "image_auroc", few)]
    if importlib.util.find_spec("scikit_posthocs"):
        tables.append(ranking_table(rank(records, "pixel_auroc"), "pixel_auroc"))
    assert_fits(compiled("\n".join(render(table, "latex") for table in tables)))


@NEEDS_TEX
def test_whatever_a_record_says_compiles(compiled):
    hostile = '\\input{x}\\end{table} 中 → \0 €|"<&%$#_{}^~[*] \u202e é ß' + "x" * 90
    cell = TableCell((Number(-1.0, 0.1, 2.0, rank=1),), notes=(hostile,))
    row = Row(hostile, (cell, TableCell(text=hostile[:30])), hostile, (hostile,))
    columns = (Column(hostile, ("AUROC",)), Column("[c]"))
    table = Table("image", hostile, ("A", "B"), columns, (row, row), (hostile,), True, True)
    found = compiled(render(table, "latex"))
    assert found.too_high == []


@pytest.mark.parametrize(
    ("columns", "rows", "environment", "tables"),
    [
        (2, 5, "table", 1),  # fits as it is
        (9, 1, "table", 1),  # fits with rows and columns exchanged
        (8, 19, "table", 2),  # fits with one metric in a table
        (9, 19, "sidewaystable", 1),
        (30, 19, "sidewaystable", 4),  # parted by columns, each metric by itself
        (2, 80, "table", 2),  # parted by rows
    ],
)
def test_a_table_is_arranged_to_be_readable(columns, rows, environment, tables):
    text = render(wide_table(columns, rows), "latex")
    assert re.findall(r"\\begin\{((?:sideways)?table)\}", text) == [environment] * tables
    numbers = re.findall(r"\b\d{2,4}\.\d\b", text)
    assert len(numbers) == len(set(numbers)) == 2 * columns * rows
    labels = re.findall(r"\\label\{(.*)\}", text)
    assert len(labels) == len(set(labels)) == tables


def wide_table(columns, rows):
    """A table whose numbers are all different."""
    numbers = iter(range(100, 100 + 2 * columns * rows))

    def pair():
        return TableCell((Number(next(numbers) / 10), Number(next(numbers) / 10)))

    return Table(
        "image",
        "Image-level (AUROC, AP) in percent",
        ("Domain", "Dataset"),
        tuple(Column(f"Method{i:02}", ("AUROC", "AP")) for i in range(columns)),
        tuple(
            Row(f"Dataset {i}", tuple(pair() for _ in range(columns)), "industrial")
            for i in range(rows)
        ),
    )


def test_every_mark_of_a_part_has_its_note_and_remarks_stand_once():
    table = wide_table(30, 19)
    cell = dataclasses.replace(table.rows[4].cells[20], notes=("odd", "rare"))
    cells = (*table.rows[4].cells[:20], cell, *table.rows[4].cells[21:])
    rows = (*table.rows[:4], dataclasses.replace(table.rows[4], cells=cells), *table.rows[5:])
    text = render(dataclasses.replace(table, rows=rows, remarks=("Told once.",)), "latex")
    for part in text.split(r"\end{sidewaystable}"):
        used = {m for own in re.findall(r"textsuperscript\{(.*?)\}", part) for m in own.split(",")}
        assert used == set(re.findall(r"\\item\[(.*?)\]", part))
    assert text.count(r"\item[i1] odd") == 2  # for both metrics
    assert text.count("Told once.") == 2


def test_best_numbers_of_an_exchanged_table_are_those_of_a_column():
    cells = tuple(TableCell((Number(float(i), rank=i),)) for i in range(9))
    columns = tuple(Column(f"WithoutAnySpace{i}") for i in range(9))
    row = Row("VisA", cells, "industrial")
    text = render(Table("image", "T", ("Domain", "Dataset"), columns, (row,)), "latex")
    assert r"\multicolumn{1}{c}{industrial}" in text
    assert r"WithoutAnySpace1 & \textbf{1.0} \\" in text
    assert "Bold: the best of a column" in text


def test_text_is_escaped_for_any_engine():
    assert escape("a_b & 5 % of\n±1") == r"a\_b \& 5 \% of $\pm$1"
    assert escape("{-6.5, +2}") == r"\{$-$6.5, +2\}"
    assert escape("ViT-B-16-plus") == "ViT-B-16-plus"
    assert escape("中é\0") == "[U+4E2D]é[U+0000]"


def test_widths_do_not_count_commands():
    assert points(r"\textbf{85.0}\textsuperscript{i1}") == points("85.0i1")
    assert points(r"a\_b\%") == points("a_b%")


def test_slug_names_any_title():
    assert slug("a = CLIP, b = WinCLIP (mine)") == "a-clip-b-winclip-mine"
    assert slug("中") == "table"
