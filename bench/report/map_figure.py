"""The strips of the gallery side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..analysis.matrix import EvaluatedMethod, TargetDataset
from ..errors import UsageError
from ..records.cell import Cell
from ..records.gallery import KINDS, Case, read_strip
from .canvas import SOFT, canvas
from .pictures import cases_of
from .scene import Scene, refuse_too_many

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Column = tuple[EvaluatedMethod, list[tuple[Cell, Case]]]  # a method, its cases with their cells


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
    refuse_too_many(len(blocks), 8, "pictures")
    width = max(len(columns) for _, columns in blocks)
    figure = canvas(2.5 * width + 0.8, (0.85 * len(KINDS) + 0.25) * len(blocks) + 0.2)
    panels = figure.subplots(len(blocks) * len(KINDS), width, squeeze=False)
    for panel in panels.ravel():
        panel.axis("off")
    for i, (name, columns) in enumerate(blocks):
        _draw(scene, panels[i * len(KINDS) : (i + 1) * len(KINDS)], name, columns)
    return figure


def _columns(scene: Scene, dataset: TargetDataset, category: str) -> list[_Column]:
    """The methods that have cases in a category."""
    found = []
    for method in scene.methods:
        cases = cases_of(scene.run, scene.matrix, method, dataset)
        own = [(cell, case) for cell, case in cases if case.category == category and case.rank == 1]
        if own:
            found.append((method, own))
    return found


def _draw(scene: Scene, panels: NDArray[Any], name: str, columns: Sequence[_Column]) -> None:
    """Fill the panels [kinds, methods] of one category."""
    for kind, (first, *_) in zip(KINDS, panels, strict=True):
        first.text(
            -0.04,
            0.5,
            f"{name}\n{kind}",
            transform=first.transAxes,
            ha="right",
            va="center",
            fontsize=7,
            color=SOFT,
        )
    for own, (method, cases) in zip(panels.T, columns, strict=False):
        own[0].set_title(method.label, fontsize=8)
        for cell, case in cases:
            strip = np.asarray(read_strip(scene.run, cell, case))
            own[KINDS.index(case.kind)].imshow(strip, interpolation="nearest")
