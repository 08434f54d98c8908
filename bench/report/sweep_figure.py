"""Metrics against the value of an option."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import fmean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis.matrix import EvaluatedMethod, TargetDataset
from ..analysis.published import LEFT_OUT_OF_MEANS
from ..analysis.sweeps import Sweep, find_sweeps
from ..analysis.values import is_incomplete
from ..errors import UsageError, unknown_name
from ..metric_table import HEADLINES, METRICS
from ..names import display_name, normalize_name, registry_name
from .canvas import legend, note, panels_of
from .palette import colour, marker
from .scene import Scene


def sweep(scene: Scene) -> Figure:
    """A line per metric against the value of an option: Figures 4, 5 and 7 of the FAPrompt paper.

    A point is the mean over the datasets of a domain (industrial without MVTecAD, if it has
    others) on which every value of the option has the metric.
    """
    sweeps = _chosen_sweeps(scene)
    domains = list(dict.fromkeys(dataset.domain for dataset in scene.matrix.datasets))
    width, height = 4.2 * len(domains), 3.3 * len(sweeps) + 0.4
    figure, panels = panels_of(width, height, len(sweeps), len(domains))
    places = itertools.product(sweeps, domains)
    for panel, (found, domain) in zip(panels.flat, places, strict=True):
        _panel(scene, panel, found, domain)
    legend(figure, panels[0, 0])
    return figure


def _chosen_sweeps(scene: Scene) -> list[Sweep]:
    found = everything = find_sweeps(scene.matrix)
    option = scene.choice.option
    if option:
        names = [registry_name(name) for name in option.split(",")]
        found = find_sweeps(scene.matrix, names)
        if everything and not found:
            known = sorted({sweep.option for sweep in everything})
            raise unknown_name("swept option of this run", option, map(display_name, known))
    if not found:
        raise UsageError(
            "no option takes several values in this run: put a sweep into a plan file, for example "
            '[[methods]] name = "faprompt", sweep = { n_prompts = [1, 5, 10] }, and run that'
        )
    return found


def _panel(scene: Scene, panel: Axes, found: Sweep, domain: str) -> None:
    datasets = _averaged(scene, domain)
    positions = found.numeric or list(range(len(found.values)))
    drawn = False
    for i, metric in enumerate(scene.choice.metrics or HEADLINES):
        means = _means(scene, found.methods, datasets, metric)
        if means:
            drawn = True
            panel.plot(
                positions,
                means,
                color=colour(i),
                marker=marker(i),
                markersize=5,
                linewidth=1.5,
                label=METRICS[metric].title,
            )
    panel.set_title(f"{found.title}\n{domain}, {', '.join(d.title for d in datasets)}"[:110])
    panel.set_xlabel(display_name(found.option))
    panel.set_ylabel("percent")
    panel.set_xticks(positions, found.values)
    low, high = panel.get_ylim()
    middle = (low + high) / 2  # a span of less than two points would make noise look like a trend
    panel.set_ylim(min(low, middle - 1), min(max(high, middle + 1), 100.4))
    if not drawn:
        note(panel, "no value")


def _averaged(scene: Scene, domain: str) -> list[TargetDataset]:
    """The datasets of a domain whose mean is drawn: complete ones, if there are any."""
    own = [d for d in scene.matrix.datasets if d.domain == domain]
    whole = [d for d in own if not is_incomplete(scene.matrix.of_dataset(d))] or own
    left_out = normalize_name(LEFT_OUT_OF_MEANS)
    return [d for d in whole if normalize_name(d.name) != left_out] or whole


def _means(
    scene: Scene, methods: Sequence[EvaluatedMethod], datasets: Sequence[TargetDataset], metric: str
) -> list[float]:
    """The mean over the datasets that all methods have, for each method; [] without any."""
    values = [[scene.value(method, d, metric) for method in methods] for d in datasets]
    complete = [[v for v in row if v is not None] for row in values if None not in row]
    return [fmean(column) for column in zip(*complete, strict=True)] if complete else []
