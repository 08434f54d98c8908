"""Metrics against the value of an option."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset, options_words
from ..analysis.published import LEFT_OUT_OF_MEANS
from ..analysis.values import is_incomplete
from ..errors import UsageError, unknown_name
from ..metric_table import HEADLINES, METRICS
from ..names import display_name, normalize_name, registry_name
from .canvas import legend, note, panels_of
from .palette import colour, marker
from .scene import Scene


@dataclass(frozen=True)
class Sweep:
    """One method with one option, or several together, at several values; all else is equal.

    Attributes:
        option: its name, or the names of those that change together, "n_normal, n_abnormal".
        values: as text, in order; numbers in numerical order.
        methods: one for each value.
        numeric: the values, where they are single numbers.
    """

    title: str
    option: str
    values: list[str]
    methods: list[EvaluatedMethod]
    numeric: list[float] | None


def find_sweeps(matrix: Matrix, together: Sequence[str] = ()) -> list[Sweep]:
    """All options that take at least two values while everything else stays the same.

    Options that only ever change together, as E and E' in Figure 5 of the FAPrompt paper, are one
    sweep over their pairs. A method without an option has the variant's default, as its protocol
    states it.

    Args:
        matrix: of the run.
        together: look for these options only, and as one.
    """
    if together:
        return _sweeps_of(matrix, tuple(together))
    sets = list(dict.fromkeys(tuple(sorted(m.options)) for m in matrix.methods if m.options))
    single = dict.fromkeys(name for names in sets for name in names)
    found = [s for name in single for s in _sweeps_of(matrix, (name,))]
    covered = {sweep.option for sweep in found}
    for names in sets:
        if len(names) > 1 and not covered.intersection(names):
            found += _sweeps_of(matrix, names)
    return found


def _sweeps_of(matrix: Matrix, names: tuple[str, ...]) -> list[Sweep]:
    """A sweep for each group of methods that differ in these options and in nothing else."""
    groups: dict[tuple[str, ...], dict[str, tuple[Any, EvaluatedMethod]]] = {}
    for method in matrix.methods:
        options = _effective(matrix, method)
        if all(name in options for name in names):
            rest = _json({k: v for k, v in options.items() if k not in names})
            values = [options[name] for name in names]
            who = method.method, method.title, method.variant, rest
            value = values if len(names) > 1 else values[0]
            groups.setdefault(who, {})[_json(value)] = value, method
    return [_sweep(names, list(group.values())) for group in groups.values() if len(group) > 1]


def _sweep(names: tuple[str, ...], members: Sequence[tuple[Any, EvaluatedMethod]]) -> Sweep:
    """The sweep over the values of these options, each with the method that has it."""
    first = members[0][1]
    rest = {k: v for k, v in first.options.items() if k not in names}
    words = f", {options_words(rest)}" if rest else ""
    values, methods = zip(*sorted(members, key=lambda member: _rank(member[0])), strict=True)
    return Sweep(
        f"{first.title} ({display_name(first.variant)}{words})",
        ", ".join(names),
        [_option_text(value) for value in values],
        [*methods],
        [float(v) for v in values] if all(type(v) in (int, float) for v in values) else None,
    )


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _effective(matrix: Matrix, method: EvaluatedMethod) -> Mapping[str, Any]:
    """A method's options, those that were not set included where the protocol states them."""
    for record in matrix.of_method(method):
        stated = record.protocol.get("options")
        if isinstance(stated, Mapping):
            return {**stated, **method.options}
    return method.options


def _rank(value: Any) -> tuple[int, float, str, list[Any]]:
    """A sorting key: numbers in numerical order, then texts, then lists by their parts."""
    if isinstance(value, list | tuple):
        return 2, 0.0, "", [_rank(part) for part in value]
    if isinstance(value, int | float):
        return 0, float(value), "", []
    return 1, 0.0, str(value), []


def _option_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(_option_text, value)) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)


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
