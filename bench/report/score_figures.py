"""Scores over datasets: as dots, and as a radar."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

from ..analysis.matrix import TargetDataset
from ..errors import UsageError
from ..metric_table import METRICS
from .canvas import Drawing, bottom, legend, limits, panels_of
from .palette import colour, marked_line, marker
from .scene import Scene

LANES = 0.74  # share of a dataset's row that the lanes of its methods take
STRIPE = "#f3f5f4"


def scatter(scene: Scene) -> Drawing:
    """A mark per method on every dataset, with its deviation over seeds, a panel per metric.

    Every method has a lane of its own, so that no mark hides another one.
    """
    shown = _shown(scene, any)
    if not shown:
        raise UsageError("no chosen dataset has a value of the chosen metrics: choose others")
    row = 0.16 + 0.115 * len(scene.matrix.methods)
    height = 1.1 + row * sum(len(datasets) for _, datasets in shown) + 0.6 * len(shown)
    ratios = [len(datasets) + 0.6 / row for _, datasets in shown]
    figure, panels = panels_of(7.2, height, len(shown), 1, height_ratios=ratios)
    for panel, (metric, datasets) in zip(panels[:, 0], shown, strict=True):
        _scatter_panel(scene, panel, metric, datasets)
    legend(figure, panels[0, 0])
    return _drawing(figure, shown)


def _drawing(figure: Figure, shown: Sequence[tuple[str, Sequence[TargetDataset]]]) -> Drawing:
    return Drawing(figure, frozenset(d for _, datasets in shown for d in datasets))


def _shown(
    scene: Scene, enough: Callable[[Iterable[bool]], bool], least: int = 1
) -> list[tuple[str, list[TargetDataset]]]:
    """The metrics that can be shown, each with the datasets on which enough methods have a value.

    Args:
        scene: the run.
        enough: any or all.
        least: how many datasets a metric needs.
    """
    shown, methods = [], scene.matrix.methods
    for metric in scene.choice.metrics or ("image_auroc", "pixel_auroc"):
        datasets = [
            dataset
            for dataset in scene.matrix.datasets
            if enough(scene.value(method, dataset, metric) is not None for method in methods)
        ]
        if len(datasets) >= least:
            shown.append((metric, datasets))
    return shown


def _scatter_panel(
    scene: Scene, panel: Axes, metric: str, datasets: Sequence[TargetDataset]
) -> None:
    ends: list[float] = []
    count = len(scene.matrix.methods)
    for lane, method in enumerate(scene.matrix.methods):
        place = LANES * ((lane + 0.5) / count - 0.5)
        values = [scene.measured(method, dataset, metric) for dataset in datasets]
        known = [(row, *own) for row, own in enumerate(values) if own is not None]
        rows = [row + place for row, *_ in known]
        means = [value for _, value, _ in known]
        ends += [end for _, value, sd in known for end in (value - sd, value + sd)]
        look: dict[str, Any] = {"color": colour(method.index), "zorder": 3}
        panel.errorbar(means, rows, xerr=[sd for *_, sd in known], fmt="none", lw=1, **look)
        panel.scatter(
            means,
            rows,
            s=26,
            marker=marker(method.index),
            edgecolors="white",
            linewidths=0.4,
            label=method.label,
            **look,
        )
    for row in range(1, len(datasets), 2):
        panel.axhspan(row - 0.5, row + 0.5, color=STRIPE, zorder=0)
    panel.set_title(f"{METRICS[metric].title} in percent")
    panel.set_yticks(range(len(datasets)), [dataset.title for dataset in datasets])
    panel.set_ylim(len(datasets) - 0.5, -0.5)
    panel.set_xlim(*limits(ends))
    panel.grid(visible=False, axis="y")
    panel.tick_params(length=0)
    panel.spines["left"].set_visible(False)


def radar(scene: Scene) -> Drawing:
    """A closed line per method around an axis per dataset, a panel per metric.

    Only datasets on which every chosen method has a value: a line with a gap would mislead. A band
    is the deviation over seeds.
    """
    shown = _shown(scene, all, least=3)
    if not shown:
        raise UsageError(
            "a radar needs three datasets on which every chosen method has a value: "
            "run more datasets, choose fewer methods with --method, or take --kind scatter"
        )
    look = {"subplot_kw": {"projection": "polar"}, "gridspec_kw": {"wspace": 0.3}}
    figure, panels = panels_of(4.6 * len(shown), 5.0, 1, len(shown), **look)
    for panel, (metric, datasets) in zip(panels[0], shown, strict=True):
        _radar_panel(scene, panel, metric, datasets)
    legend(figure, panels[0, 0])
    return _drawing(figure, shown)


def _radar_panel(
    scene: Scene, panel: PolarAxes, metric: str, datasets: Sequence[TargetDataset]
) -> None:
    angles = np.linspace(0, 2 * np.pi, len(datasets), endpoint=False)
    around = [*angles, angles[0]]
    ends: list[float] = []
    for method in scene.matrix.methods:
        measured = [scene.measured(method, d, metric) or (0.0, 0.0) for d in datasets]
        means, spreads = np.array([*measured, measured[0]]).T
        low, high, shade = means - spreads, means + spreads, colour(method.index)
        ends += [*low, *high]
        if spreads.any():
            panel.fill_between(around, low, high, color=shade, alpha=0.15, lw=0)
        panel.plot(around, means, label=method.label, **marked_line(method.index, 3.5))
    panel.set_title(f"{METRICS[metric].title} in percent", pad=18)
    panel.set_theta_offset(np.pi / 2)
    panel.set_theta_direction(-1)
    panel.set_xticks(angles, [dataset.title for dataset in datasets])
    for label, side in zip(panel.get_xticklabels(), np.sin(angles), strict=True):
        label.set_horizontalalignment(
            "center" if abs(side) < 0.2 else "left" if side > 0 else "right"
        )
    # ten points inside the lowest one, so that a weak method does not collapse to the centre
    panel.set_ylim(max(0.0, bottom(min(ends)) - 10), min(100.0, 10.0 * math.ceil(max(ends) / 10)))
    panel.spines["polar"].set_visible(False)
    panel.tick_params(axis="x", pad=4)
    panel.tick_params(axis="y", labelsize=7)
    # between two axes, where no line ends
    panel.set_rlabel_position(180 / len(datasets))
