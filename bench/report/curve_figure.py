"""ROC and PRO curves of categories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..analysis.matrix import TargetDataset
from ..errors import UsageError
from .canvas import LINE, canvas, legend, note
from .curves import CURVE_KINDS, curves_of
from .palette import line_style
from .scene import Scene, refuse_too_many

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def curves(scene: Scene) -> Figure:
    """ROC and PRO curves: a row per category, a line per method."""
    rows = [
        (dataset, category)
        for dataset, category in scene.categories()
        if any(
            curves_of(scene.matrix, scene.methods, dataset, category, name) for name in CURVE_KINDS
        )
    ]
    if not rows:
        raise UsageError("the records hold no curves for this choice: run these cells again")
    refuse_too_many(len(rows), 12, "curves")
    figure = canvas(8.6, 2.75 * len(rows) + 0.5)
    panels = figure.subplots(len(rows), len(CURVE_KINDS), squeeze=False)
    for own, (dataset, category) in zip(panels, rows, strict=True):
        for panel, name in zip(own, CURVE_KINDS, strict=True):
            _panel(scene, panel, dataset, category, name)
        own[0].set_ylabel(f"{dataset.title}, {category}\ntrue positive rate")
    full = max(panels.ravel(), key=lambda panel: len(panel.get_legend_handles_labels()[1]))
    legend(figure, full)
    return figure


def _panel(scene: Scene, panel: Axes, dataset: TargetDataset, category: str, name: str) -> None:
    kind = CURVE_KINDS[name]
    if kind.has_diagonal:
        panel.plot([0, 1], [0, 1], color=LINE, linewidth=0.8, linestyle="--")
    named = set()
    for curve in curves_of(scene.matrix, scene.methods, dataset, category, name):
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
