"""Figures show what the records hold, and say what is missing where they cannot."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from PIL import Image
from typer.testing import CliRunner
from zsad.bench.analysis.matrix import Matrix
from zsad.bench.analysis.notices import BUILT_IN_NOTE
from zsad.bench.analysis.sweeps import find_sweeps
from zsad.bench.errors import UsageError
from zsad.bench.records.cell import Cell
from zsad.bench.records.map_sheets import GalleryError
from zsad.bench.records.prompt_scores import (
    PromptScores,
    PromptScoresError,
    read_prompt_scores,
    write_prompt_scores,
)
from zsad.bench.records.record import read_records, write_record
from zsad.bench.report import prompt_figure
from zsad.bench.report.category_figures import curves
from zsad.bench.report.figures import draw
from zsad.bench.report.map_figure import maps
from zsad.bench.report.palette import COLOURS, line_style, marker
from zsad.bench.report.prompt_figure import embed, tsne
from zsad.bench.report.scene import Choice, Scene
from zsad.bench.report.score_figures import radar, scatter
from zsad.bench.report.sweep_figure import sweep
from zsad.bench.track import Track

MAGIC = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_run):
    folder = tmp_path_factory.mktemp("run")
    return make_run(
        folder, ["CLIP", "WinCLIP"], ["visa", "elpv", "brainmri", "isic"], images=8, keep=1
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory, make_run):
    options = [{"n_prompts": k} for k in (10, 1, 2)] + [{"sizes": s} for s in ([10, 4], [2, 1])]
    folder = tmp_path_factory.mktemp("swept")
    return make_run(folder, ["FAPrompt"], ["visa", "mvtec_ad"], options, images=8, keep=0)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory, make_run):
    """A run of three seeds, with pictures."""
    folder = tmp_path_factory.mktemp("seeds")
    make_run(folder, ["CLIP", "WinCLIP", "FAPrompt"], ["visa", "isic"], seeds=(1, 2, 3), images=8)
    return folder


def scene(run, choice=None):
    matrix = Matrix.read(run)
    return Scene(run, matrix, choice or Choice())


def lines_by_label(panel):
    return {line.get_label(): line for line in panel.get_lines()}


@pytest.mark.parametrize("kind", ["scatter", "radar", "curves", "maps"])
@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_every_kind_is_written_in_every_format(run, tmp_path, kind, suffix):
    out = draw(run, kind, tmp_path / "deep" / f"figure{suffix}")
    assert out.read_bytes().startswith(MAGIC[suffix])
    if suffix == ".png":
        with Image.open(out) as image:
            assert image.width > 600 and len(image.convert("RGB").getcolors(2**20)) > 20


def test_equal_figures_are_equal_files(run, tmp_path):
    first, second = (draw(run, "scatter", tmp_path / f"{i}.svg").read_bytes() for i in "ab")
    assert first == second


def test_scatter_shows_each_value_once_and_no_undefined_one(run):
    shown = scene(run)
    image, pixel = scatter(shown).figure.axes
    assert [label.get_text() for label in image.get_yticklabels()] == ["VisA", "ELPV", "BrainMRI"]
    assert [label.get_text() for label in pixel.get_yticklabels()] == ["VisA", "ISIC"]
    marks = [own for own in image.collections if isinstance(own, PathCollection)]
    for method, dots in zip(shown.matrix.methods, marks, strict=True):
        expected = [shown.value(method, d, "image_auroc") for d in shown.matrix.datasets[:3]]
        assert dots.get_offsets()[:, 0].tolist() == pytest.approx(expected)
    low, high = image.get_xlim()
    every = np.concatenate([dots.get_offsets() for dots in marks])
    assert low < every[:, 0].min() and every[:, 0].max() < high
    assert high - low < 1.2 * max(np.ptp(every[:, 0]), 2)
    assert len({*every[:, 1]}) == len(every)  # no mark hides another one


def test_scatter_shows_the_deviation_over_seeds(seeds):
    shown = scene(seeds, Choice(metrics=("pixel_pro",)))
    (panel,) = scatter(shown).figure.axes
    bars = [own for own in panel.collections if isinstance(own, LineCollection)]
    for method, bar in zip(shown.matrix.methods, bars, strict=True):
        for dataset, (start, end) in zip(shown.matrix.datasets, bar.get_segments(), strict=True):
            value = shown.matrix.value(method, dataset, "pixel_pro")
            assert value.spread > 0
            assert end[0] - start[0] == pytest.approx(200 * value.spread)


def test_a_figure_shows_one_track_and_names_what_it_leaves_out(tmp_path, make_record):
    values = {"candle": {"image_auroc": 0.9, "pixel_auroc": 0.8}}
    write_record(tmp_path, make_record("CLIP", "visa", values))
    write_record(tmp_path, make_record("MuSc", "visa", values, track=Track.TRANSDUCTIVE))
    shown = {}
    for methods in ((), ("MuSc",)):
        drawn = draw(tmp_path, "scatter", tmp_path / "dots.svg", Choice(methods=methods))
        shown[methods] = drawn.read_text("utf-8")
    assert "to be chosen by --method: MuSc (transductive)" in shown[()]
    assert "to be chosen" not in shown[("MuSc",)]


def test_radar_leaves_out_datasets_without_every_method(run):
    (panel,) = radar(scene(run)).figure.axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["VisA", "ELPV", "BrainMRI"]
    line = lines_by_label(panel)["WinCLIP"]
    assert line.get_ydata()[0] == line.get_ydata()[-1]


def test_radar_with_too_few_common_datasets_says_what_to_do(run):
    with pytest.raises(UsageError, match="three datasets"):
        draw(run, "radar", Path("unused.png"), Choice(metrics=("pixel_auroc",)))


def test_colours_and_markers_tell_methods_apart():
    looks = {(*line_style(i).values(), marker(i)) for i in range(30)}
    assert len(looks) == 30
    assert all(len(set(theme)) == len(COLOURS) for theme in zip(*COLOURS, strict=True))


# -- sweeps


def test_sweeps_are_found_in_numerical_order(swept):
    matrix = Matrix.read(swept)
    found = {own.option: own for own in find_sweeps(matrix)}
    assert found["n_prompts"].values == ["1", "2", "10"]
    assert found["n_prompts"].numeric == [1, 2, 10]
    assert found["sizes"].values == ["(2, 1)", "(10, 4)"]
    assert found["sizes"].numeric is None


def test_sweep_draws_a_line_per_metric_over_the_paper_s_datasets(swept):
    shown = scene(swept, Choice(option="n-prompts"))
    (panel,) = sweep(shown).figure.axes
    assert panel.get_xlabel() == "n-prompts"
    assert "VisA" in panel.get_title() and "MVTecAD" not in panel.get_title()
    line = lines_by_label(panel)["image AUROC"]
    assert line.get_xdata().tolist() == [1, 2, 10]
    (own,) = (s for s in find_sweeps(shown.matrix) if s.option == "n_prompts")
    visa = next(d for d in shown.matrix.datasets if d.name == "visa")
    expected = [shown.value(method, visa, "image_auroc") for method in own.methods]
    assert line.get_ydata().tolist() == pytest.approx(expected)


def test_value_that_was_not_set_is_the_one_the_protocol_states(tmp_path, make_run):
    folder = make_run(tmp_path, ["CLIP"], ["visa"], [{}, {"sigma": 8}], images=4, keep=0)
    for path in (folder / "cells").glob("*.json"):
        raw = json.loads(path.read_text())
        raw["protocol"]["options"] = {"sigma": raw["cell"]["options"].get("sigma", 4)}
        path.write_text(json.dumps(raw))
    matrix = Matrix.read(folder)
    (found,) = find_sweeps(matrix)
    assert found.numeric == [4, 8]


def test_options_that_move_together_are_one_sweep(tmp_path, make_run):
    sizes = [(10, 4), (2, 1)]
    options = [{}, *({"n_normal": n, "n_abnormal": a} for n, a in sizes)]
    folder = make_run(tmp_path, ["FAPrompt"], ["visa"], options, images=4, keep=0)
    for path in (folder / "cells").glob("*.json"):
        raw = json.loads(path.read_text())
        raw["protocol"]["options"] = {"n_normal": 5, "n_abnormal": 2, **raw["cell"]["options"]}
        path.write_text(json.dumps(raw))
    matrix = Matrix.read(folder)
    (found,) = find_sweeps(matrix)
    assert found.option == "n_abnormal, n_normal"
    (asked,) = find_sweeps(matrix, ("n_normal", "n_abnormal"))
    assert asked.values == ["(2, 1)", "(5, 2)", "(10, 4)"]
    out = draw(folder, "sweep", tmp_path / "f.svg", Choice(option="n_normal,n_abnormal"))
    assert ">(10, 4)<" in out.read_text("utf-8")


def test_a_grid_of_two_options_is_a_sweep_of_each(tmp_path, make_run):
    options = [{"n_prompts": k, "n_selected": m} for k in (1, 10) for m in (5, 20)]
    folder = make_run(tmp_path, ["FAPrompt"], ["visa"], options, images=4, keep=0)
    matrix = Matrix.read(folder)
    found = [(s.option, s.values) for s in find_sweeps(matrix)]
    assert sorted(found) == [("n_prompts", ["1", "10"])] * 2 + [("n_selected", ["5", "20"])] * 2


def test_sweep_without_a_swept_option_says_how_to_get_one(run, swept):
    with pytest.raises(UsageError, match="plan file"):
        draw(run, "sweep", Path("unused.png"))
    with pytest.raises(UsageError, match="n-prompts"):
        draw(swept, "sweep", Path("unused.png"), Choice(option="n_prompt"))


# -- prompts


def cell_of(run, method="clip", dataset="visa"):
    cells = (record.cell for record in read_records(run))
    return next(c for c in cells if (c.method, c.dataset) == (method, dataset))


def clusters(images=12, prompts=4, patches=30, seed=0):
    """Scores in which every prompt has its own pattern, and anomalous images are shifted."""
    generator = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    patterns = generator.normal(size=(prompts, patches)) * 3
    noise = generator.normal(size=(images, prompts, patches)) * 0.2
    return PromptScores((patterns + noise + labels[:, None, None]).astype("f4"), labels)


def test_prompt_scores_are_read_as_they_were_written(tmp_path):
    found = clusters()
    path = write_prompt_scores(tmp_path, Cell("faprompt", "paper", "btad", 111), "01", found)
    again = read_prompt_scores(path)
    assert np.array_equal(again.scores, found.scores)
    assert np.array_equal(again.labels, found.labels)


def test_embedding_keeps_prompts_apart_and_repeats():
    found = clusters()
    points, prompts, labels = embed(found)
    assert points.shape == (48, 2)
    assert prompts[:5].tolist() == [0, 1, 2, 3, 0]
    assert labels[:8].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (prompts[distance.argmin(axis=1)] == prompts).mean() > 0.95
    assert np.array_equal(embed(found)[0], points)


def test_embedding_of_many_images_takes_an_even_part(monkeypatch):
    monkeypatch.setattr(prompt_figure, "MAX_POINTS", 40)
    points, _, labels = embed(clusters(images=101))
    assert len(points) == 40 and labels.min() == 0


def test_embedding_of_too_few_points_is_refused():
    with pytest.raises(UsageError, match="three points"):
        embed(clusters(images=2, prompts=1))


def test_tsne_has_a_panel_per_stored_category(tmp_path, make_run):
    folder = make_run(tmp_path, ["CLIP"], ["visa"], images=4, keep=0)
    with pytest.raises(UsageError, match="prompt_scores"):
        draw(folder, "tsne", tmp_path / "t.png")
    write_prompt_scores(folder, cell_of(folder), "pcb4", clusters())
    (panel,) = tsne(scene(folder)).figure.axes
    assert panel.get_title() == "CLIP\nVisA, pcb4"
    assert sum(len(dots.get_offsets()) for dots in panel.collections) == 48
    figure = tsne(scene(folder)).figure
    figure.canvas.draw()
    (legend,) = figure.legends
    assert legend.get_window_extent().y0 > figure.axes[0].get_window_extent().y1
    assert draw(folder, "tsne", tmp_path / "t.png").exists()


@pytest.mark.parametrize(
    "arrays",
    [
        {"scores": np.zeros((3, 2, 5), "f4")},
        {"scores": np.zeros((3, 5), "f4"), "labels": np.zeros(3, int)},
        {"scores": np.zeros((3, 2, 5), "f4"), "labels": np.zeros(4, int)},
        {"scores": np.full((3, 2, 5), np.nan, "f4"), "labels": np.zeros(3, int)},
        {"scores": np.zeros((3, 2, 5), "f4"), "labels": np.full(3, 7)},
        {"scores": np.array([{}], dtype=object), "labels": np.zeros(1, int)},
    ],
)
def test_broken_prompt_scores_are_named_and_never_unpickled(tmp_path, arrays):
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    with pytest.raises(PromptScoresError, match=r"x\.npz"):
        read_prompt_scores(path)


def test_file_that_is_no_archive_is_named(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(PromptScoresError, match=r"x\.npz"):
        read_prompt_scores(tmp_path / "x.npz")


# -- curves and maps


def test_curves_are_those_of_the_record(run):
    choice = Choice(category="pcb4", datasets=("VisA",))
    figure = curves(scene(run, choice)).figure
    assert len(figure.axes) == 3
    record = next(r for r in read_records(run) if r.cell == cell_of(run))
    result = next(r for r in record.categories if r.category == "pcb4")
    line = lines_by_label(figure.axes[2])[f"CLIP {100 * result.metrics['pixel_pro']:.1f}"]
    assert line.get_ydata().tolist() == result.curves["pixel_pro"]["y"]


def test_curves_of_several_seeds_are_their_mean_with_a_band_and_the_mean_area(seeds):
    shown = scene(seeds, Choice(category="candle"))
    pixel = curves(shown).figure.axes[1]
    (clip, *_) = shown.matrix.methods
    (visa, _) = shown.matrix.datasets
    value = shown.matrix.value(clip, visa, "pixel_auroc", "candle")
    name = f"CLIP {100 * value.value:.1f}±{100 * value.spread:.1f}"
    line = lines_by_label(pixel)[name]
    assert name in [text.get_text() for text in pixel.get_legend().get_texts()]
    records = shown.matrix.finished(clip, visa)
    own = [record.by_category["candle"].curves["pixel_roc"] for record in records]
    middle = line.get_xdata()[200]
    expected = np.mean([np.interp(middle, curve["x"], curve["y"]) for curve in own])
    assert line.get_ydata()[200] == pytest.approx(expected)
    assert len(pixel.collections) == 3  # a band for each method


def test_undefined_curve_is_said_to_be_so(run):
    elpv = curves(scene(run, Choice(category="elpv"))).figure
    assert [text.get_text() for text in elpv.axes[1].texts] == ["undefined"]


def test_maps_shows_all_methods_on_the_same_images(run):
    shown = scene(run, Choice(category="pcb4"))
    figure = maps(shown).figure
    panels = [panel for panel in figure.axes if panel.get_images()]
    titles = [panel.get_title() for panel in panels if panel.get_title()]
    assert titles == ["image", "CLIP", "WinCLIP"]
    assert len(panels) % 3 == 0 and len(panels) > 0
    (visa, *_) = shown.matrix.datasets
    (record, *_) = shown.matrix.finished(shown.matrix.methods[0], visa)
    scores = record.by_category["pcb4"].images
    told = {f"{score:.3g}" for score in scores.scores}
    assert all(panel.get_xlabel().split(",")[0] in told for panel in panels[1::3])
    assert any("AUROC" in panel.get_xlabel() for panel in panels)
    assert any(panel.collections for panel in panels)  # outlines
    assert figure.axes[-1].get_ylabel() == "of the method's maps in the category"


def test_captions_are_about_the_data_that_is_shown(tmp_path, make_run):
    folder = make_run(tmp_path, ["CLIP"], ["visa", "synthetic"], images=4, keep=0)
    out = draw(folder, "curves", tmp_path / "c.svg", Choice(category="candle"))
    assert BUILT_IN_NOTE not in out.read_text("utf-8")
    assert BUILT_IN_NOTE in draw(folder, "curves", tmp_path / "d.svg").read_text("utf-8")


def test_tsne_names_prompts_and_draws_at_most_the_panels_that_are_asked_for(tmp_path, make_run):
    folder = make_run(tmp_path, ["CLIP", "CoOp"], ["visa", "mvtec_ad"], images=4, keep=0)
    for record in read_records(folder):
        for result in record.categories:
            write_prompt_scores(folder, record.cell, result.category, clusters(images=4))
    drawn = tsne(scene(folder))
    shown = [panel for panel in drawn.figure.axes if panel.get_visible()]
    assert len(shown) == 8
    assert {panel.get_title().split("\n")[0] for panel in shown} == {"CLIP", "CoOp"}
    assert drawn.remark.startswith("2 further panels are left out")
    (legend,) = drawn.figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [*(f"prompt {k}" for k in range(1, 5)), "normal image", "anomalous image"]
    few = tsne(scene(folder, Choice(panels=1)))
    assert len([panel for panel in few.figure.axes if panel.get_visible()]) == 1
    assert {dataset.name for dataset in few.datasets} == {"mvtec_ad"}


def test_sweep_shows_the_deviation_over_seeds(tmp_path, make_run):
    options = [{"n_prompts": k} for k in (1, 5)]
    folder = make_run(tmp_path, ["FAPrompt"], ["visa"], options, seeds=(1, 2), images=8, keep=0)
    shown = scene(folder, Choice(metrics=("pixel_pro",)))
    (panel,) = sweep(shown).figure.axes
    (bars,) = panel.collections
    (dataset,) = shown.matrix.datasets
    (own,) = find_sweeps(shown.matrix)
    for method, (start, end) in zip(own.methods, bars.get_segments(), strict=True):
        spread = shown.matrix.value(method, dataset, "pixel_pro").spread
        assert spread > 0 and end[1] - start[1] == pytest.approx(200 * spread)


def test_run_without_pictures_says_how_to_keep_them(swept):
    with pytest.raises(UsageError, match="--gallery"):
        draw(swept, "maps", Path("unused.png"))


def test_broken_sheet_of_maps_is_named(tmp_path, make_run):
    folder = make_run(tmp_path, ["CLIP"], ["visa"], images=4, keep=1)
    sheet = next((folder / "gallery").glob("clip*/*.png"))
    sheet.write_bytes(b"nothing")
    with pytest.raises(GalleryError, match=sheet.name):
        draw(folder, "maps", tmp_path / "maps.png")


@pytest.mark.parametrize("kind", ["curves", "maps"])
def test_more_than_a_figure_can_show_is_refused_with_a_way_out(tmp_path, kind, make_run):
    folder = make_run(tmp_path, ["CLIP"], [f"set{i:02}" for i in range(13)], images=4, keep=1)
    with pytest.raises(UsageError, match="--category"):
        draw(folder, kind, tmp_path / "f.png")


# -- unknown names and unusual titles


@pytest.mark.parametrize(
    "kind, name, choice, hint",
    [
        ("scater", "f.png", Choice(), "scatter"),
        ("scatter", "f.jpg", Choice(), r"\.svg"),
        ("scatter", "f.png", Choice(metrics=("image_auc",)), "image-auroc"),
        ("scatter", "f.png", Choice(methods=("klip",)), "CLIP"),
        ("scatter", "f.png", Choice(datasets=("viza",)), "visa"),
        ("curves", "f.png", Choice(category="pcb5"), "pcb4"),
    ],
)
def test_unknown_names_are_answered_with_known_ones(run, tmp_path, kind, name, choice, hint):
    with pytest.raises(UsageError, match=hint):
        draw(run, kind, tmp_path / name, choice)
    assert list(tmp_path.iterdir()) == []


def test_titles_are_text_and_no_formulas(tmp_path, make_run):
    title = r"<script>$\frac{1}{0}$ & _x_"
    folder = make_run(tmp_path, [title], ["visa"], images=4, keep=0)
    out = draw(folder, "scatter", tmp_path / "f.svg")
    assert "<script>" not in out.read_text("utf-8")
    assert r"&lt;script&gt;$\frac{1}{0}$ &amp; _x_" in out.read_text("utf-8")


def test_titles_with_control_characters_give_svg_files_that_programs_read(tmp_path, make_run):
    folder = make_run(tmp_path, ["a\0b\x1b[31m\uffff"], ["visa"], images=4, keep=0)
    out = draw(folder, "scatter", tmp_path / "f.svg")
    texts = "".join(ElementTree.parse(out).getroot().itertext())
    assert "ab[31m" in texts


def test_built_in_set_is_named_on_the_figure(tmp_path, run, make_run):
    folder = make_run(tmp_path, ["CLIP"], ["synthetic"], images=4, keep=0)
    assert BUILT_IN_NOTE in draw(folder, "scatter", tmp_path / "f.svg").read_text("utf-8")
    assert BUILT_IN_NOTE not in draw(run, "scatter", tmp_path / "g.svg").read_text("utf-8")


def test_run_in_which_everything_failed_has_no_figure(tmp_path, make_run):
    folder = make_run(tmp_path, ["CLIP"], ["visa"], failing=("CLIP", "visa"))
    with pytest.raises(UsageError, match="has failed"):
        draw(folder, "scatter", tmp_path / "f.png")


def test_drawing_leaves_matplotlib_s_settings_alone(run, tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    draw(run, "scatter", tmp_path / "f.png")
    assert dict(mpl.rcParams) == before


def test_command_draws_what_is_chosen(run, tmp_path):
    from zsad.bench.cli.app import app

    out = tmp_path / "f.svg"
    line = ["figure", str(run), "--kind", "scatter", "-o", str(out), "--method", "winclip"]
    result = CliRunner().invoke(app, [*line, "--metric", "image-ap"])
    assert result.exit_code == 0, result.output
    text = out.read_text("utf-8")
    assert "image AP" in text and ">WinCLIP<" in text and ">CLIP<" not in text


def test_the_caveat_of_built_in_data_stands_under_figures_of_them_alone(tmp_path, make_run):
    folder = make_run(tmp_path / "run", ["CLIP", "CoOp"], ["visa", "synthetic"], images=4, keep=0)
    for name, expected in (("visa", False), ("synthetic", True)):
        out = draw(folder, "scatter", tmp_path / f"{name}.svg", Choice(datasets=(name,)))
        assert ("says nothing about real data" in out.read_text()) is expected
