"""The figure of a study: metrics against the values of a choice, a line per method."""

from __future__ import annotations

import itertools
from pathlib import Path

from matplotlib import style
from matplotlib.axes import Axes

from ..analysis.matrix import TargetDataset
from ..analysis.notices import notices
from ..analysis.study import Study
from ..metric_table import METRICS
from .canvas import SOFT, STYLE, check_format, legend, panels_of, percentages, save
from .palette import marked_line


def draw_study(study: Study, out: Path) -> Path:
    """Draw a study, a panel per dataset and metric.

    Args:
        study: what was measured.
        out: a .png, .pdf or .svg file.

    Raises:
        UsageError: another suffix.
        FileError: the figure cannot be written.
    """
    check_format(out)
    datasets = list(dict.fromkeys(dataset for dataset, _ in study.places))
    width, height = 4.4 * len(study.metrics), 3.2 * len(datasets) + 0.4
    with style.context(STYLE):
        figure, panels = panels_of(width, height, len(datasets), len(study.metrics))
        places = itertools.product(datasets, study.metrics)
        for panel, (dataset, metric) in zip(panels.flat, places, strict=True):
            _panel(panel, study, dataset, metric)
        legend(figure, panels[0, 0])
        text = "\n".join([*notices(study.matrices[0]), *study.told])
        figure.text(0.01, -0.01, text, fontsize=6.5, color=SOFT, va="top", wrap=True)
        save(figure, out)
    return out


def _panel(panel: Axes, study: Study, dataset: TargetDataset, metric: str) -> None:
    """A line for each method; every method has a handle, so that one panel's legend serves all."""
    methods = list(dict.fromkeys(method for _, method in study.places))
    ends: list[float] = []
    for i, method in enumerate(methods):
        found = [matrix.value(method, dataset, metric).value for matrix in study.matrices]
        points = [float("nan") if value is None else 100 * value for value in found]
        ends += [100 * value for value in found if value is not None]
        panel.plot(range(len(points)), points, label=method.label, **marked_line(i))
    choice = study.choice
    panel.set_title(f"{METRICS[metric].title}, {dataset.title}"[:110])
    panel.set_xlabel(choice.title + (f" ({choice.unit})" if choice.unit else ""))
    panel.set_xticks(range(len(study.values)), study.values)
    percentages(panel, ends)
