"""Scores over datasets: as dots, and as a radar."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.projections.polar import PolarAxes

from ..analysis.matrix import TargetDataset
from ..errors import UsageError
from ..metric_table import METRICS
from .canvas import bottom, legend, panels_of
from .palette import colour, line_style, marker
from .scene import Scene


def scatter(scene: Scene) -> Figure:
    """A dot per method on every dataset, a panel per metric."""
    shown = _shown(scene, any)
    if not shown:
        raise UsageError("no chosen dataset has a value of the chosen metrics: choose others")
    rows = sum(len(datasets) for _, datasets in shown)
    height = 1.1 + 0.34 * rows + 0.5 * len(shown)
    ratios = [len(datasets) + 0.8 for _, datasets in shown]
    figure, panels = panels_of(7.2, height, len(shown), 1, height_ratios=ratios)
    for panel, (metric, datasets) in zip(panels[:, 0], shown, strict=True):
        _scatter_panel(scene, panel, metric, datasets)
    legend(figure, panels[0, 0])
    return figure


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
    lowest = 100.0
    for method in scene.matrix.methods:
        values = [scene.value(method, dataset, metric) for dataset in datasets]
        known = {row: value for row, value in enumerate(values) if value is not None}
        lowest = min([lowest, *known.values()])
        panel.scatter(
            [*known.values()],
            [*known],
            s=30,
            marker=marker(method.index),
            color=colour(method.index),
            edgecolors="white",
            linewidths=0.5,
            label=method.label,
            zorder=3,
        )
    panel.set_title(f"{METRICS[metric].title} in percent")
    panel.set_yticks(range(len(datasets)), [dataset.title for dataset in datasets])
    panel.set_ylim(len(datasets) - 0.5, -0.5)
    panel.set_xlim(bottom(lowest), 100.8)
    panel.tick_params(length=0)
    panel.spines["left"].set_visible(False)


def radar(scene: Scene) -> Figure:
    """A closed line per method around an axis per dataset, a panel per metric.

    Only datasets on which every chosen method has a value: a line with a gap would mislead.
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
    return figure


def _radar_panel(
    scene: Scene, panel: PolarAxes, metric: str, datasets: Sequence[TargetDataset]
) -> None:
    angles = np.linspace(0, 2 * np.pi, len(datasets), endpoint=False)
    lowest = 100.0
    for method in scene.matrix.methods:
        values = [scene.value(method, dataset, metric) or 0.0 for dataset in datasets]
        lowest = min([lowest, *values])
        panel.plot(
            [*angles, angles[0]],
            [*values, values[0]],
            linewidth=1.5,
            marker=marker(method.index),
            markersize=3.5,
            label=method.label,
            **line_style(method.index),
        )
    panel.set_title(f"{METRICS[metric].title} in percent", pad=18)
    panel.set_theta_offset(np.pi / 2)
    panel.set_theta_direction(-1)
    panel.set_xticks(angles, [dataset.title for dataset in datasets])
    for label, side in zip(panel.get_xticklabels(), np.sin(angles), strict=True):
        label.set_horizontalalignment(
            "center" if abs(side) < 0.2 else "left" if side > 0 else "right"
        )
    panel.set_ylim(max(0.0, bottom(lowest) - 10), 100)
    panel.spines["polar"].set_visible(False)
    panel.tick_params(axis="x", pad=4)
    panel.tick_params(axis="y", labelsize=7)
    # between two axes, where no line ends
    panel.set_rlabel_position(180 / len(datasets))
