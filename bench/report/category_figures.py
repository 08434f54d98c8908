"""ROC and PRO curves of single categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..analysis.matrix import EvaluatedMethod
from ..errors import UsageError
from ..metric_table import METRICS
from .canvas import LINE, Drawing, note, panels_of
from .curves import CURVE_KINDS, Curve, CurveKind, curves_of
from .palette import line_style
from .scene import Scene

MOST_ROWS = 12
LEGEND: Mapping[str, Any] = {  # small, and legible where curves pass behind it
    "fontsize": 6,
    "title_fontsize": 6,
    "handlelength": 1.6,
    "labelspacing": 0.35,
    "frameon": True,
    "framealpha": 0.75,
    "edgecolor": "none",
}
GRID_POINTS = 401  # false positive rates at which curves of several seeds are averaged


def curves(scene: Scene) -> Drawing:
    """ROC and PRO curves: a row per category, a line per method with the area under it.

    Of several seeds the mean curve is drawn, with a band of their standard deviation.
    """
    rows = [
        (dataset, category)
        for dataset, category in scene.categories()
        if any(curves_of(scene.matrix, dataset, category, name) for name in CURVE_KINDS)
    ]
    if not rows:
        raise UsageError("the records hold no curves for this choice: run these cells again")
    refuse_too_many(len(rows), MOST_ROWS, "curves")
    figure, panels = panels_of(10.8, 3.3 * len(rows) + 0.2, len(rows), len(CURVE_KINDS))
    for own, (dataset, category) in zip(panels, rows, strict=True):
        for panel, (name, kind) in zip(own, CURVE_KINDS.items(), strict=True):
            _curve_panel(panel, kind, curves_of(scene.matrix, dataset, category, name))
        own[0].set_ylabel(f"{dataset.title}, {category}\ntrue positive rate")
    return Drawing(figure, frozenset(dataset for dataset, _ in rows))


def _curve_panel(panel: Axes, kind: CurveKind, found: Sequence[Curve]) -> None:
    if kind.has_diagonal:
        panel.plot([0, 1], [0, 1], color=LINE, linewidth=0.8, linestyle="--")
    by_method: dict[EvaluatedMethod, list[Curve]] = {}
    for curve in found:
        by_method.setdefault(curve.method, []).append(curve)
    for own in sorted(by_method.values(), key=_mean_area, reverse=True):
        _draw_seeds(panel, kind, own)
    panel.set_title(kind.title)
    panel.set_xlim(0, kind.x_end)
    panel.set_ylim(0, 1.01)
    panel.set_xlabel("false positive rate")
    if by_method:
        title = f"{METRICS[kind.metric].label} in percent"
        panel.legend(loc="lower right", title=title, **LEGEND)
    else:
        note(panel, "undefined")


def _mean_area(own: Sequence[Curve]) -> float:
    areas = [curve.area for curve in own if curve.area is not None]
    return fmean(areas) if areas else -1.0


def _draw_seeds(panel: Axes, kind: CurveKind, own: Sequence[Curve]) -> None:
    """The curve of one method: as it is of a single seed, else the mean and a band."""
    style = line_style(own[0].method.index)
    areas = [100 * curve.area for curve in own if curve.area is not None]
    label = own[0].method.label
    if areas:
        spread = f"±{stdev(areas):.1f}" if len(areas) > 1 else ""
        label += f" {fmean(areas):.1f}{spread}"
    if len(own) == 1:
        panel.plot(own[0].x, own[0].y, linewidth=1.3, label=label, **style)
        return
    grid = np.linspace(0, kind.x_end, GRID_POINTS)
    heights = np.array([np.interp(grid, curve.x, curve.y) for curve in own])  # [seeds, points]
    mean, spread_at = heights.mean(axis=0), heights.std(axis=0, ddof=1)
    low, high = (mean - spread_at).clip(0, 1), (mean + spread_at).clip(0, 1)
    panel.fill_between(grid, low, high, color=style["color"], alpha=0.18, linewidth=0)
    panel.plot(grid, mean, linewidth=1.3, label=label, **style)


def refuse_too_many(count: int, most: int, shown: str) -> None:
    """Raise UsageError if more categories have something to show than one figure can hold."""
    if count > most:
        raise UsageError(
            f"{count} categories have {shown}, more than the {most} of one figure: choose with "
            "--dataset and --category, or see all of them in `zsad report`"
        )
