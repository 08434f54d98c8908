"""Figures of a run: scores over datasets, sweeps of options, prompts, curves and maps.

Every kind says what it needs, and how to get it where a run lacks it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib import style

from ..analysis.matrix import Matrix
from ..analysis.notices import notices
from ..errors import UsageError, unknown_name
from ..metric_table import checked_metrics
from .canvas import SOFT, STYLE, Drawing, check_format, save
from .category_figures import curves
from .map_figure import maps
from .prompt_figure import tsne
from .scene import Choice, Scene
from .score_figures import radar, scatter
from .sweep_figure import sweep

KINDS_OF_FIGURE: Mapping[str, Callable[[Scene], Drawing]] = {
    drawn.__name__: drawn for drawn in (scatter, radar, sweep, tsne, curves, maps)
}


def draw(run: Path, kind: str, out: Path, choice: Choice | None = None) -> Path:
    """Draw a figure of a run; all but maps show one track, the first of the chosen methods.

    Args:
        run: a run directory.
        kind: scatter, radar, sweep, tsne, curves or maps.
        out: a .png, .pdf or .svg file.
        choice: what of the run; everything if None.

    Raises:
        RecordError: the directory is not a run, or a record is broken.
        UsageError: an unknown kind, suffix or name, or the run lacks what the figure needs.
        GalleryError, PromptScoresError: a file beside the records is broken.
        FileError: the figure cannot be written.
    """
    choice = choice or Choice()
    if kind not in KINDS_OF_FIGURE:
        raise unknown_name("kind of figure", kind, KINDS_OF_FIGURE)
    check_format(out)
    choice = dataclasses.replace(choice, metrics=checked_metrics(choice.metrics))
    matrix = Matrix.read(run)
    if not matrix.finished_records:
        raise UsageError(f"every cell of {run} has failed: there is nothing to draw")
    chosen = dataclasses.replace(
        matrix,
        methods=tuple(matrix.select_methods(choice.methods)),
        datasets=tuple(matrix.select_datasets(choice.datasets)),
    )
    shown = chosen if kind == "maps" or not chosen.tracks else chosen.of_track(chosen.tracks[0])
    with style.context(STYLE):
        drawing = KINDS_OF_FIGURE[kind](Scene(run, shown, choice))
        lines = [drawing.remark, *notices(_drawn(shown, drawing)), *_left_out(chosen, shown)]
        text = "\n".join(line for line in lines if line)
        drawing.figure.text(0.01, -0.01, text, fontsize=6.5, color=SOFT, va="top")
        save(drawing.figure, out)
    return out


def _drawn(shown: Matrix, drawing: Drawing) -> Matrix:
    """What of the chosen methods and datasets is in the figure."""
    methods, datasets = drawing.methods, drawing.datasets
    return dataclasses.replace(
        shown,
        methods=tuple(m for m in shown.methods if methods is None or m in methods),
        datasets=tuple(d for d in shown.datasets if datasets is None or d in datasets),
    )


def _left_out(chosen: Matrix, shown: Matrix) -> list[str]:
    """A line on the methods of other tracks, whose numbers are not set beside those shown."""
    others = [method.label for method in chosen.methods if method not in shown.methods]
    return [f"Of another track, to be chosen by --method: {', '.join(others)}."] if others else []
