"""Figures of single categories: ROC and PRO curves, and the strips of the gallery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..analysis.matrix import EvaluatedMethod, TargetDataset
from ..errors import UsageError
from ..records.cases import KINDS, Case, read_strip
from ..records.cell import Cell
from .canvas import LINE, SOFT, legend, note, panels_of
from .curves import CURVE_KINDS, Curve, CurveKind, curves_of
from .palette import line_style
from .pictures import cases_of
from .scene import Scene

_Column = tuple[EvaluatedMethod, list[tuple[Cell, Case]]]  # a method, its cases with their cells


def curves(scene: Scene) -> Figure:
    """ROC and PRO curves: a row per category, a line per method."""
    rows = [
        (dataset, category)
        for dataset, category in scene.categories()
        if any(curves_of(scene.matrix, dataset, category, name) for name in CURVE_KINDS)
    ]
    if not rows:
        raise UsageError("the records hold no curves for this choice: run these cells again")
    _refuse_too_many(len(rows), 12, "curves")
    figure, panels = panels_of(8.6, 2.75 * len(rows) + 0.5, len(rows), len(CURVE_KINDS))
    for own, (dataset, category) in zip(panels, rows, strict=True):
        for panel, (name, kind) in zip(own, CURVE_KINDS.items(), strict=True):
            _curve_panel(panel, kind, curves_of(scene.matrix, dataset, category, name))
        own[0].set_ylabel(f"{dataset.title}, {category}\ntrue positive rate")
    legend(figure, max(panels.flat, key=lambda panel: len(panel.get_legend_handles_labels()[1])))
    return figure


def _curve_panel(panel: Axes, kind: CurveKind, found: Sequence[Curve]) -> None:
    if kind.has_diagonal:
        panel.plot([0, 1], [0, 1], color=LINE, linewidth=0.8, linestyle="--")
    named = set()
    for curve in found:
        label = curve.method.label
        panel.plot(
            curve.x,
            curve.y,
            linewidth=1.3,
            label=None if label in named else label,  # further seeds look the same
            **line_style(curve.method.index),
        )
        named.add(label)
    panel.set_title(kind.title)
    panel.set_xlim(0, kind.x_end)
    panel.set_ylim(0, 1.01)
    panel.set_xlabel("false positive rate")
    if not named:
        note(panel, "undefined")


def maps(scene: Scene) -> Figure:
    """Image, mask and map of the best and the worst case of each category, a column per method."""
    blocks = [
        (f"{dataset.title}\n{category}", columns)
        for dataset, category in scene.categories()
        if (columns := _columns(scene, dataset, category))
    ]
    if not blocks:
        raise UsageError(
            "the run keeps no pictures for this choice: run it with --gallery 2 "
            "(and --retry always where its cells are finished)"
        )
    _refuse_too_many(len(blocks), 8, "pictures")
    width = max(len(columns) for _, columns in blocks)
    height = (0.85 * len(KINDS) + 0.25) * len(blocks) + 0.2
    figure, panels = panels_of(2.5 * width + 0.8, height, len(blocks) * len(KINDS), width)
    for panel in panels.flat:
        panel.axis("off")
    for i, (name, columns) in enumerate(blocks):
        _draw_strips(scene, panels[i * len(KINDS) : (i + 1) * len(KINDS)], name, columns)
    return figure


def _columns(scene: Scene, dataset: TargetDataset, category: str) -> list[_Column]:
    """The methods that have cases in a category."""
    found = []
    for method in scene.matrix.methods:
        cases = cases_of(scene.run, scene.matrix, method, dataset)
        own = [(cell, case) for cell, case in cases if case.category == category and case.rank == 1]
        if own:
            found.append((method, own))
    return found


def _draw_strips(scene: Scene, panels: NDArray[Any], name: str, columns: Sequence[_Column]) -> None:
    """Fill the panels [kinds, methods] of one category."""
    look = {"ha": "right", "va": "center", "fontsize": 7, "color": SOFT}
    for kind, (first, *_) in zip(KINDS, panels, strict=True):
        first.text(-0.04, 0.5, f"{name}\n{kind}", transform=first.transAxes, **look)
    for own, (method, cases) in zip(panels.T, columns, strict=False):
        own[0].set_title(method.label, fontsize=8)
        for cell, case in cases:
            strip = np.asarray(read_strip(scene.run, cell, case))
            own[KINDS.index(case.kind)].imshow(strip, interpolation="nearest")


def _refuse_too_many(count: int, most: int, shown: str) -> None:
    """Raise UsageError if more categories have something to show than one figure can hold."""
    if count > most:
        raise UsageError(
            f"{count} categories have {shown}, more than the {most} of one figure: choose with "
            "--dataset and --category, or see all of them in `zsad report`"
        )
