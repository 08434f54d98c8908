"""Figures look as those in tests/bench/data/figures, which a person has looked at.

They are compared by structural similarity, so that another version of a font or of matplotlib may
move a pixel. ZSAD_UPDATE_GOLDEN=1 writes them again.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from zsad.bench.report.figures import draw
from zsad.bench.report.scene import Choice

GOLDEN = Path(__file__).parents[1] / "data" / "figures"
WIDTH = 480  # pixels
SIMILAR = 0.957  # of at most 1
CHOICES = {
    "scatter": Choice(metrics=("image_auroc", "pixel_pro")),
    "radar": Choice(metrics=("pixel_auroc",)),
    "curves": Choice(category="pcb4"),
    "maps": Choice(category="candle"),
    "sweep": Choice(metrics=("pixel_auroc", "pixel_pro")),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, make_run):
    """A run of three methods and seeds, and one that varies an option, by kind of figure."""
    folder = tmp_path_factory.mktemp("golden")
    methods, datasets = ["CLIP", "WinCLIP", "FAPrompt"], ["visa", "btad", "isic"]
    plain = make_run(folder / "plain", methods, datasets, seeds=(1, 2, 3), images=10, keep=1)
    options = [{"n_prompts": k} for k in (1, 5, 10)]
    swept = make_run(folder / "swept", ["FAPrompt"], ["visa"], options, seeds=(1, 2), images=10)
    return {kind: swept if kind == "sweep" else plain for kind in CHOICES}


def small(path):
    """A picture as it is stored: narrow, of few colours."""
    with Image.open(path) as image:
        height = round(WIDTH * image.height / image.width)
        narrow = image.convert("RGB").resize((WIDTH, height), Image.Resampling.BOX)
    return narrow.quantize(32, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)


def similarity(a, b):
    """The structural similarity of two pictures, 0 where their shapes differ by much."""
    metrics = pytest.importorskip("skimage.metrics")
    if max(abs(a.width - b.width), abs(a.height - b.height)) > 0.03 * a.height:
        return 0.0
    first = np.asarray(a.convert("RGB"))
    second = np.asarray(b.convert("RGB").resize(a.size))
    return float(metrics.structural_similarity(first, second, channel_axis=2))


@pytest.mark.parametrize("kind", CHOICES)
def test_a_figure_looks_as_the_one_that_was_looked_at(runs, tmp_path, kind):
    drawn = small(draw(runs[kind], kind, tmp_path / f"{kind}.png", CHOICES[kind]))
    golden = GOLDEN / f"{kind}.png"
    if os.environ.get("ZSAD_UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        drawn.save(golden, optimize=True)
    with Image.open(golden) as expected:
        assert similarity(expected, drawn) > SIMILAR


def test_a_figure_with_other_values_does_not_look_like_it(runs, tmp_path):
    other = Choice(metrics=("image_ap", "pixel_auroc"))
    drawn = small(draw(runs["scatter"], "scatter", tmp_path / "s.png", other))
    with Image.open(GOLDEN / "scatter.png") as expected:
        assert similarity(expected, drawn) < SIMILAR


@pytest.mark.parametrize("kind", ["radar", "curves", "maps"])
def test_a_figure_without_one_of_the_methods_does_not_look_like_it(runs, tmp_path, kind):
    fewer = dataclasses.replace(CHOICES[kind], methods=("CLIP", "WinCLIP"))
    drawn = small(draw(runs[kind], kind, tmp_path / f"{kind}.png", fewer))
    with Image.open(GOLDEN / f"{kind}.png") as expected:
        assert similarity(expected, drawn) < SIMILAR


def test_golden_figures_are_small():
    assert sum(path.stat().st_size for path in GOLDEN.glob("*.png")) < 100_000
