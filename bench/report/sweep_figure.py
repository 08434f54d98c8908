"""Metrics against the value of an option."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from matplotlib.axes import Axes

from ..analysis.matrix import EvaluatedMethod, TargetDataset
from ..analysis.published import LEFT_OUT_OF_MEANS
from ..analysis.sweeps import Sweep, find_sweeps
from ..analysis.values import is_incomplete, measure
from ..errors import UsageError, unknown_name
from ..metric_table import HEADLINES, METRICS
from ..names import display_name, normalize_name, registry_name
from .canvas import Drawing, legend, panels_of, percentages
from .palette import colour, marker
from .scene import Scene


def sweep(scene: Scene) -> Drawing:
    """A line per metric against the value of an option: Figures 4, 5 and 7 of the FAPrompt paper.

    A point is the mean over the datasets of a domain (industrial without MVTecAD, if it has
    others) on which every value of the option has the metric; a bar is its deviation over seeds.
    """
    sweeps = _chosen_sweeps(scene)
    domains = list(dict.fromkeys(dataset.domain for dataset in scene.matrix.datasets))
    width, height = 4.2 * len(domains), 3.3 * len(sweeps) + 0.4
    figure, panels = panels_of(width, height, len(sweeps), len(domains))
    places = itertools.product(sweeps, domains)
    for panel, (found, domain) in zip(panels.flat, places, strict=True):
        _panel(scene, panel, found, domain)
    legend(figure, panels[0, 0])
    return Drawing(
        figure,
        frozenset(d for domain in domains for d in _averaged(scene, domain)),
        frozenset(method for found in sweeps for method in found.methods),
    )


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
    ends: list[float] = []
    for i, metric in enumerate(scene.choice.metrics or HEADLINES):
        means = _means(scene, found.methods, datasets, metric)
        if means:
            values, spreads = [value for value, _ in means], [sd for _, sd in means]
            ends += [end for value, sd in means for end in (value - sd, value + sd)]
            style: dict[str, Any] = {"color": colour(i), "linewidth": 1.5}
            name = METRICS[metric].title
            panel.plot(positions, values, marker=marker(i), markersize=5, label=name, **style)
            if any(spreads):
                panel.errorbar(positions, values, yerr=spreads, fmt="none", capsize=2, **style)
    panel.set_title(f"{found.title}\n{domain}, {', '.join(d.title for d in datasets)}"[:110])
    panel.set_xlabel(display_name(found.option))
    panel.set_xticks(positions, found.values)
    percentages(panel, ends)


def _averaged(scene: Scene, domain: str) -> list[TargetDataset]:
    """The datasets of a domain whose mean is drawn: complete ones, if there are any."""
    own = [d for d in scene.matrix.datasets if d.domain == domain]
    whole = [d for d in own if not is_incomplete(scene.matrix.of_dataset(d))] or own
    left_out = normalize_name(LEFT_OUT_OF_MEANS)
    return [d for d in whole if normalize_name(d.name) != left_out] or whole


def _means(
    scene: Scene, methods: Sequence[EvaluatedMethod], datasets: Sequence[TargetDataset], metric: str
) -> list[tuple[float, float]]:
    """Mean and deviation over seeds for each method, in percent; [] without any.

    The mean is over the datasets that all methods have.
    """
    complete = [d for d in datasets if all(scene.value(m, d, metric) is not None for m in methods)]
    if not complete:
        return []
    found = []
    for method in methods:
        mean = fmean(scene.value(method, d, metric) or 0.0 for d in complete)
        by_seed = _means_by_seed(scene, method, complete, metric)
        found.append((mean, stdev(by_seed) if len(by_seed) > 1 else 0.0))
    return found


def _means_by_seed(
    scene: Scene, method: EvaluatedMethod, datasets: Sequence[TargetDataset], metric: str
) -> list[float]:
    """The means over datasets of each seed that all of them have, in percent."""
    records = [
        {record.cell.seed: record for record in scene.matrix.finished(method, d)} for d in datasets
    ]
    common = sorted(set.intersection(*(set(own) for own in records)))
    values = [[measure([own[seed]], metric).value for own in records] for seed in common]
    return [100 * fmean(v for v in row if v is not None) for row in values if None not in row]
