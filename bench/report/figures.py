"""Figures of a run: scores over datasets, sweeps of options, prompts, curves and maps.

Every kind says what it needs, and how to get it where a run lacks it.
"""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..analysis.matrix import is_incomplete, options_words
from ..analysis.overview import Entrant, Overview, Target, result_of
from ..analysis.published import LEFT_OUT_OF_MEANS
from ..errors import UsageError, unknown_name
from ..files import output_file
from ..metric_table import HEADLINES, METRICS, checked_metrics
from ..names import normalize_name, registry_name
from ..records.gallery import KINDS, GalleryError, read_gallery, strip_path
from ..records.prompt_scores import (
    PROMPT_SCORES,
    PromptScores,
    prompt_scores_path,
    read_prompt_scores,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".pdf", ".svg")
NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
COLOURS = (
    "#0068a8",
    "#d65a00",
    "#00a078",
    "#c2559a",
    "#c99a1a",
    "#57b4e8",
    "#8a9296",
    "#4b2f8f",
    "#8f1d2c",
    "#14201f",
)
"""They differ without colour vision too; markers and dashes differ besides."""
MARKERS = "osD^vPXh<>"
DASHES = ("-", "--", ":")
INK, SOFT, LINE = "#1c2426", "#566267", "#d9dddb"
MAX_POINTS = 3000  # t-SNE slows down faster than it shows more
CURVES: Mapping[str, tuple[str, float]] = {
    "image_roc": ("image ROC", 1.0),
    "pixel_roc": ("pixel ROC", 1.0),
    "pixel_pro": ("PRO", 0.3),
}


@dataclass(frozen=True)
class Choice:
    """What of a run is drawn; empty means everything that fits.

    Attributes:
        metrics: names of `METRICS`.
        methods, datasets: by name or by label.
        category: one category, for tsne, curves and maps.
        option: what a sweep varies.
    """

    metrics: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    category: str | None = None
    option: str | None = None


@dataclass(frozen=True)
class Scene:
    """A run with what was chosen from it."""

    run: Path
    overview: Overview
    entrants: Sequence[Entrant]
    targets: Sequence[Target]
    choice: Choice

    def metrics(self, default: Sequence[str]) -> tuple[str, ...]:
        """The chosen metrics, or the default ones."""
        return self.choice.metrics or tuple(default)

    def value(self, entrant: Entrant, target: Target, metric: str) -> float | None:
        """A metric in percent."""
        value = self.overview.value(entrant, target, metric).value
        return None if value is None else 100 * value


def draw(run: Path, kind: str, out: Path, choice: Choice | None = None) -> Path:
    """Draw a figure of a run.

    Args:
        run: a run directory.
        kind: scatter, radar, sweep, tsne, curves or maps.
        out: a .png, .pdf or .svg file.
        choice: what of the run; everything if None.

    Raises:
        RecordError: the directory is no run, or a record is broken.
        UsageError: an unknown kind, suffix or name, or the run lacks what the figure needs.
        GalleryError, PromptScoresError: a file beside the records is broken.
    """
    choice = choice or Choice()
    if kind not in KINDS_OF_FIGURE:
        raise unknown_name("kind of figure", kind, KINDS_OF_FIGURE)
    if out.suffix.lower() not in FORMATS:
        raise UsageError(f"a figure is written as {', '.join(FORMATS)}, not as '{out.name}'")
    choice = _with_known_metrics(choice)
    overview = Overview.read(run)
    if not overview.records:
        raise UsageError(f"every cell of {run} has failed: there is nothing to draw")
    scene = Scene(
        run,
        overview,
        overview.select_entrants(choice.methods),
        overview.select_targets(choice.datasets),
        choice,
    )
    from matplotlib import rc_context

    with rc_context(_style()):
        figure = KINDS_OF_FIGURE[kind](scene)
        notices = "\n".join(overview.notices_of(scene.entrants, scene.targets))
        figure.text(0.01, -0.01, notices, fontsize=6.5, color=SOFT, va="top")
        _save(figure, out)
    return out


def _with_known_metrics(choice: Choice) -> Choice:
    metrics = checked_metrics(choice.metrics)
    return Choice(metrics, choice.methods, choice.datasets, choice.category, choice.option)


def _style() -> Any:  # matplotlib's type of the keys differs between its versions
    """Quiet axes; text stays text in vector files."""
    return {
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "axes.edgecolor": SOFT,
        "axes.labelcolor": SOFT,
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LINE,
        "grid.linewidth": 0.6,
        "text.color": INK,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "svg.fonttype": "none",
        "svg.hashsalt": "zsad",
        "pdf.fonttype": 42,
        "text.usetex": False,
        "text.parse_math": False,  # a title may hold a dollar sign
    }


def _save(figure: Figure, out: Path) -> None:
    """Write the figure; equal figures give equal files."""
    kind = out.suffix.removeprefix(".").lower()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind, {})
    drawn = io.BytesIO()
    figure.savefig(
        drawn, format=kind, dpi=200, bbox_inches="tight", facecolor="white", metadata=metadata
    )
    content = drawn.getvalue()
    if kind == "svg":  # a title may hold characters that no XML file may
        content = NOT_IN_XML.sub("", content.decode()).encode()
    with output_file(out) as file:
        file.write(content)


def _canvas(width: float, height: float) -> Figure:
    """A figure that no global state knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _dash(index: int) -> str:
    return DASHES[index // len(COLOURS) % len(DASHES)]


def _marker(index: int) -> str:
    return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


def _bottom(values: Sequence[float]) -> float:
    """The round number below all values; AUROC has no natural zero."""
    return 10.0 * (min(values) // 10)


# -- scores over datasets -----------------------------------------------------------------------


def scatter(scene: Scene) -> Figure:
    """A dot per method on every dataset, a panel per metric."""
    shown = []
    for metric in scene.metrics(("image_auroc", "pixel_auroc")):
        targets = [t for t in scene.targets if _has_values(scene, t, metric)]
        if targets:
            shown.append((metric, targets))
    if not shown:
        raise UsageError("no chosen dataset has a value of the chosen metrics: choose others")
    rows = sum(len(targets) for _, targets in shown)
    figure = _canvas(7.2, 1.1 + 0.34 * rows + 0.5 * len(shown))
    heights = [len(targets) + 0.8 for _, targets in shown]
    panels = figure.subplots(len(shown), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (metric, targets) in zip(panels, shown, strict=True):
        _scatter_panel(scene, panel, metric, targets)
    _legend(figure, panels[0])
    return figure


def _scatter_panel(scene: Scene, panel: Axes, metric: str, targets: Sequence[Target]) -> None:
    everything = []
    for entrant in scene.entrants:
        points = [
            (value, row)
            for row, target in enumerate(targets)
            if (value := scene.value(entrant, target, metric)) is not None
        ]
        everything += [value for value, _ in points]
        panel.scatter(
            [value for value, _ in points],
            [row for _, row in points],
            s=30,
            marker=_marker(entrant.index),
            color=_colour(entrant.index),
            edgecolors="white",
            linewidths=0.5,
            label=entrant.label,
            zorder=3,
        )
    panel.set_title(f"{METRICS[metric].title} in percent")
    panel.set_yticks(range(len(targets)), [target.title for target in targets])
    panel.set_ylim(len(targets) - 0.5, -0.5)
    panel.set_xlim(_bottom(everything), 100.8)
    panel.tick_params(length=0)
    panel.spines["left"].set_visible(False)


def _legend(figure: Figure, panel: Axes) -> None:
    handles, names = panel.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=min(5, max(1, len(names))))


def _has_values(scene: Scene, target: Target, metric: str) -> bool:
    return any(scene.value(entrant, target, metric) is not None for entrant in scene.entrants)


def radar(scene: Scene) -> Figure:
    """A closed line per method around an axis per dataset, a panel per metric.

    Only datasets on which every chosen method has a value: a line with a gap would deceive.
    """
    shown = []
    for metric in scene.metrics(("image_auroc", "pixel_auroc")):
        targets = [
            t
            for t in scene.targets
            if all(scene.value(entrant, t, metric) is not None for entrant in scene.entrants)
        ]
        if len(targets) >= 3:
            shown.append((metric, targets))
    if not shown:
        raise UsageError(
            "a radar needs three datasets on which every chosen method has a value: "
            "run more datasets, choose fewer methods with --method, or take --kind scatter"
        )
    figure = _canvas(4.6 * len(shown), 5.0)
    panels = figure.subplots(
        1,
        len(shown),
        squeeze=False,
        subplot_kw={"projection": "polar"},
        gridspec_kw={"wspace": 0.3},
    )[0]
    for panel, (metric, targets) in zip(panels, shown, strict=True):
        angles = np.linspace(0, 2 * np.pi, len(targets), endpoint=False)
        lowest = 100.0
        for entrant in scene.entrants:
            values = [scene.value(entrant, target, metric) or 0.0 for target in targets]
            lowest = min([lowest, *values])
            panel.plot(
                [*angles, angles[0]],
                [*values, values[0]],
                color=_colour(entrant.index),
                linestyle=_dash(entrant.index),
                linewidth=1.5,
                marker=_marker(entrant.index),
                markersize=3.5,
                label=entrant.label,
            )
        panel.set_title(f"{METRICS[metric].title} in percent", pad=18)
        panel.set_theta_offset(np.pi / 2)
        panel.set_theta_direction(-1)
        panel.set_xticks(angles, [target.title for target in targets])
        for label, angle in zip(panel.get_xticklabels(), angles, strict=True):
            side = np.sin(angle)
            label.set_horizontalalignment(
                "center" if abs(side) < 0.2 else "left" if side > 0 else "right"
            )
        panel.set_ylim(max(0.0, _bottom([lowest]) - 10), 100)
        panel.spines["polar"].set_visible(False)
        panel.tick_params(axis="x", pad=4)
        panel.tick_params(axis="y", labelsize=7)
        panel.set_rlabel_position(180 / len(targets))  # between two axes, where no line ends
    _legend(figure, panels[0])
    return figure


# -- sweeps -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sweep:
    """One method with one option, or several together, at several values; all else is equal.

    Attributes:
        option: its name, or the names of those that move together, "n_normal, n_abnormal".
        values: as people write them, in order; numbers in numerical order.
        entrants: one for each value.
        numeric: the values, where they are single numbers.
    """

    title: str
    option: str
    values: list[str]
    entrants: list[Entrant]
    numeric: list[float] | None


def find_sweeps(
    overview: Overview, entrants: Sequence[Entrant], together: Sequence[str] = ()
) -> list[Sweep]:
    """All options that take at least two values while everything else stays the same.

    Options that only ever change together, as E and E' in Figure 5 of the FAPrompt paper, are one
    sweep over their pairs. An entrant without an option has the variant's default, as its protocol
    states it.

    Args:
        overview: of the run.
        entrants: among which to look.
        together: look for these options only, and as one.
    """
    sets = list(dict.fromkeys(tuple(sorted(e.options)) for e in entrants if e.options))
    if together:
        return _sweeps_of(overview, entrants, tuple(together))
    single = dict.fromkeys(name for names in sets for name in names)
    found = [s for name in single for s in _sweeps_of(overview, entrants, (name,))]
    covered = {sweep.option for sweep in found}
    for names in sets:
        if len(names) > 1 and not covered.intersection(names):
            found += _sweeps_of(overview, entrants, names)
    return found


def _sweeps_of(
    overview: Overview, entrants: Sequence[Entrant], names: tuple[str, ...]
) -> list[Sweep]:
    """A sweep for each group of entrants that differ in these options and in nothing else."""
    groups: dict[tuple[str, str, str, str], list[tuple[tuple[Any, ...], Entrant]]] = {}
    for entrant in entrants:
        options = _effective(overview, entrant)
        if all(name in options for name in names):
            rest = {k: v for k, v in options.items() if k not in names}
            c = entrant.contender
            who = c.method, c.title, c.variant, _json(rest)
            groups.setdefault(who, []).append((tuple(options[n] for n in names), entrant))
    found = []
    for (_, _, variant, _), members in groups.items():
        unique = list({_json(value): (value, e) for value, e in members}.values())
        if len(unique) > 1:
            rest = {k: v for k, v in unique[0][1].options.items() if k not in names}
            words = f", {options_words(_json(rest))}" if rest else ""
            title = f"{unique[0][1].contender.title} ({variant}{words})"
            found.append(_sweep(title, names, unique))
    return found


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _effective(overview: Overview, entrant: Entrant) -> Mapping[str, Any]:
    """An entrant's options, those that were not set included where the protocol states them."""
    for record in overview.grid.of_column(entrant.contender):
        stated = record.protocol.get("options")
        if isinstance(stated, Mapping):
            return {**stated, **entrant.options}
    return entrant.options


def _sweep(
    title: str, names: tuple[str, ...], members: Sequence[tuple[tuple[Any, ...], Entrant]]
) -> Sweep:
    plain = [(value[0] if len(names) == 1 else list(value), entrant) for value, entrant in members]
    ordered = sorted(plain, key=lambda member: _rank(member[0]))
    numbers = [v for v, _ in ordered if isinstance(v, int | float) and not isinstance(v, bool)]
    return Sweep(
        title,
        ", ".join(names),
        [_option_text(value) for value, _ in ordered],
        [entrant for _, entrant in ordered],
        [float(v) for v in numbers] if len(numbers) == len(ordered) else None,
    )


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
    wanted = tuple(registry_name(name) for name in (scene.choice.option or "").split(","))
    everything = find_sweeps(scene.overview, scene.entrants)
    sweeps = everything
    if scene.choice.option:
        sweeps = find_sweeps(scene.overview, scene.entrants, wanted)
        if everything and not sweeps:
            known = sorted({found.option for found in everything})
            raise unknown_name("swept option of this run", scene.choice.option, known)
    if not sweeps:
        raise UsageError(
            "no option takes several values in this run: put a sweep into a plan file, for example "
            '[[methods]] name = "faprompt", sweep = { n_prompts = [1, 5, 10] }, and run that'
        )
    domains = list(dict.fromkeys(target.domain for target in scene.targets))
    figure = _canvas(4.2 * len(domains), 3.3 * len(sweeps) + 0.4)
    panels = figure.subplots(len(sweeps), len(domains), squeeze=False)
    for (i, found), (j, domain) in itertools.product(enumerate(sweeps), enumerate(domains)):
        _sweep_panel(scene, panels[i, j], found, domain)
    _legend(figure, panels[0, 0])
    return figure


def _sweep_panel(scene: Scene, panel: Axes, found: Sweep, domain: str) -> None:
    own = [t for t in scene.targets if t.domain == domain]
    whole = [t for t in own if not is_incomplete(scene.overview.grid.of_row(t.name))] or own
    targets = [
        t for t in whole if normalize_name(t.name) != normalize_name(LEFT_OUT_OF_MEANS)
    ] or whole
    positions = found.numeric or list(range(len(found.values)))
    drawn = False
    for i, metric in enumerate(scene.metrics(HEADLINES)):
        means = _means(scene, found.entrants, targets, metric)
        if not means:
            continue
        drawn = True
        panel.plot(
            positions,
            means,
            color=_colour(i),
            marker=_marker(i),
            markersize=5,
            linewidth=1.5,
            label=METRICS[metric].title,
        )
    panel.set_title(f"{found.title}\n{domain}, {', '.join(t.title for t in targets)}"[:110])
    panel.set_xlabel(found.option)
    panel.set_ylabel("percent")
    panel.set_xticks(positions, found.values)
    low, high = panel.get_ylim()
    middle = (low + high) / 2  # a span of less than two points would make noise look like a trend
    panel.set_ylim(min(low, middle - 1), min(max(high, middle + 1), 100.4))
    if not drawn:
        panel.text(0.5, 0.5, "no value", transform=panel.transAxes, ha="center", color=SOFT)


def _means(
    scene: Scene, entrants: Sequence[Entrant], targets: Sequence[Target], metric: str
) -> list[float]:
    """The mean over the targets that all entrants have, for each entrant; [] without any."""
    values = [[scene.value(entrant, t, metric) for entrant in entrants] for t in targets]
    complete = [[v for v in row if v is not None] for row in values if None not in row]
    return [fmean(column) for column in zip(*complete, strict=True)] if complete else []


# -- prompts ------------------------------------------------------------------------------------


def tsne(scene: Scene) -> Figure:
    """Prompt-wise anomaly scores in two dimensions: Figures 3 and 6 of the FAPrompt paper.

    A point is an image's patch scores under one prompt; colours are prompts, filled points
    anomalous images.
    """
    found = [
        (f"{entrant.label}\n{target.title}, {category}", path)
        for target in scene.targets
        for entrant in scene.entrants
        for record in scene.overview.finished(entrant, target)[:1]  # the first seed
        for category in _categories(scene, target)
        if (path := prompt_scores_path(scene.run, record.cell, category)).exists()
    ]
    if not found:
        raise UsageError(
            f"the run keeps no prompt-wise scores ({scene.run / PROMPT_SCORES}) for this choice: "
            "run faprompt or anomalyclip with --save-prompt-scores (and --retry always where its "
            "cells are finished), or choose another method or category"
        )
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    figure = _canvas(3.6 * columns, 3.6 * rows + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (title, path) in zip(panels, found, strict=False):
        _tsne_panel(panel, read_prompt_scores(path))
        panel.set_title(title)
    for panel in panels[len(found) :]:
        panel.set_visible(False)
    _legend_of_labels(figure)
    return figure


def _tsne_panel(panel: Axes, found: PromptScores) -> None:
    points, prompts, labels = embed(found)
    for prompt, label in itertools.product(range(int(prompts.max()) + 1), (0, 1)):
        chosen = (prompts == prompt) & (labels == label)
        panel.scatter(
            points[chosen, 0],
            points[chosen, 1],
            s=11,
            linewidths=0.8,
            marker=_marker(prompt // len(COLOURS)),
            edgecolors=_colour(prompt),
            facecolors=_colour(prompt) if label else "none",
        )
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_aspect("equal", adjustable="datalim")


def embed(
    found: PromptScores, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Two coordinates for each image under each prompt, by t-SNE.

    Args:
        found: scores [N, K, L]; of many images an evenly spaced part is taken.
        seed: of the embedding.

    Returns:
        Points [P, 2], the prompt of each [P], the label of each [P].

    Raises:
        UsageError: there are fewer than three points.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    images, prompts, patches = found.scores.shape
    if images * prompts < 3:
        raise UsageError("t-SNE needs three points: run more images")
    kept = np.unique(np.linspace(0, images - 1, min(images, max(MAX_POINTS // prompts, 2))).round())
    chosen = kept.astype(int)
    flat = found.scores[chosen].reshape(-1, patches).astype(np.float64)
    size = min(50, *flat.shape)
    if patches > size:
        flat = PCA(size, random_state=seed).fit_transform(flat)
    perplexity = min(30.0, (len(flat) - 1) / 3)
    start = "pca" if min(flat.shape) >= 2 else "random"
    points = TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(flat)
    return (
        np.asarray(points, np.float64),
        np.tile(np.arange(prompts), len(chosen)),
        np.repeat(found.labels[chosen], prompts),
    )


def _legend_of_labels(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=SOFT, linestyle="none", marker="o", markersize=4, markerfacecolor=fill)
        for fill in ("none", SOFT)
    ]
    figure.legend(handles, ("normal", "anomalous"), loc="outside upper left", ncols=2)


# -- curves -------------------------------------------------------------------------------------


def curves(scene: Scene) -> Figure:
    """ROC and PRO curves: a row per category, a line per method."""
    rows = [
        (target, category)
        for target in scene.targets
        for category in _categories(scene, target)
        if _has_curves(scene, target, category)
    ]
    if not rows:
        raise UsageError("the records hold no curves for this choice: run these cells again")
    if len(rows) > 12:
        raise UsageError(
            f"{len(rows)} categories have curves, more than one figure can show: choose with "
            "--dataset and --category, or see all of them in `zsad report`"
        )
    figure = _canvas(8.6, 2.75 * len(rows) + 0.5)
    panels = figure.subplots(len(rows), len(CURVES), squeeze=False)
    for i, (target, category) in enumerate(rows):
        for j, kind in enumerate(CURVES):
            _curve_panel(scene, panels[i, j], target, category, kind)
        panels[i, 0].set_ylabel(f"{target.title}, {category}\nhit rate")
    full = max(panels.ravel(), key=lambda panel: len(panel.get_legend_handles_labels()[1]))
    _legend(figure, full)
    return figure


def _curve_panel(scene: Scene, panel: Axes, target: Target, category: str, kind: str) -> None:
    title, end = CURVES[kind]
    if kind != "pixel_pro":
        panel.plot([0, 1], [0, 1], color=LINE, linewidth=0.8, linestyle="--")
    for entrant in scene.entrants:
        label: str | None = entrant.label
        for record in scene.overview.finished(entrant, target):
            result = result_of(record, category)
            if result is None or kind not in result.curves:
                continue
            curve = result.curves[kind]
            panel.plot(
                curve["x"],
                curve["y"],
                color=_colour(entrant.index),
                linestyle=_dash(entrant.index),
                linewidth=1.3,
                label=label,
            )
            label = None  # further seeds look the same
    panel.set_title(title)
    panel.set_xlim(0, end)
    panel.set_ylim(0, 1.01)
    panel.set_xlabel("false positive rate")
    if not panel.get_legend_handles_labels()[1]:
        panel.text(0.5, 0.5, "undefined", transform=panel.transAxes, ha="center", color=SOFT)


def _has_curves(scene: Scene, target: Target, category: str) -> bool:
    for entrant in scene.entrants:
        for record in scene.overview.finished(entrant, target):
            result = result_of(record, category)
            if result is not None and result.curves:
                return True
    return False


# -- maps ---------------------------------------------------------------------------------------


def maps(scene: Scene) -> Figure:
    """The galleries' strips side by side: a column per method, the best and the worst cases."""
    from PIL import Image

    walls = []
    for target in scene.targets:
        for category in _categories(scene, target):
            columns = []
            for entrant in scene.entrants:
                records = scene.overview.finished(entrant, target)[:1]
                cases = [
                    (record.cell.key, case)
                    for record in records
                    for case in read_gallery(scene.run, record.cell.key)
                    if case.category == category and case.rank == 1
                ]
                if cases:
                    columns.append((entrant, cases))
            if columns:
                walls.append((target, category, columns))
    if not walls:
        raise UsageError(
            "the run keeps no pictures for this choice: run it with --gallery 2 "
            "(and --retry always where its cells are finished)"
        )
    if len(walls) > 8:
        raise UsageError(
            f"{len(walls)} categories have pictures, more than one figure can show: choose with "
            "--dataset and --category, or see all of them in `zsad report`"
        )
    width = max(len(columns) for _, _, columns in walls)
    figure = _canvas(2.5 * width + 0.8, (0.85 * len(KINDS) + 0.25) * len(walls) + 0.2)
    grid = figure.subplots(len(walls) * len(KINDS), width, squeeze=False)
    for panel in grid.ravel():
        panel.axis("off")
    for i, (target, category, columns) in enumerate(walls):
        for j, (entrant, cases) in enumerate(columns):
            for key, case in cases:
                panel = grid[i * len(KINDS) + KINDS.index(case.kind), j]
                path = strip_path(scene.run, key, case)
                try:
                    with Image.open(path, formats=("PNG",)) as image:
                        panel.imshow(np.asarray(image.convert("RGBA")), interpolation="nearest")
                except (OSError, ValueError, Image.DecompressionBombError) as error:
                    raise GalleryError(f"{path} is no readable picture ({error})") from error
            grid[i * len(KINDS), j].set_title(entrant.label, fontsize=8)
        for kind in KINDS:
            grid[i * len(KINDS) + KINDS.index(kind), 0].text(
                -0.04,
                0.5,
                f"{target.title}\n{category}\n{kind}",
                transform=grid[i * len(KINDS) + KINDS.index(kind), 0].transAxes,
                ha="right",
                va="center",
                fontsize=7,
                color=SOFT,
            )
    return figure


def _categories(scene: Scene, target: Target) -> list[str]:
    """The chosen category, or all of a dataset.

    Raises:
        UsageError: no chosen dataset has the category.
    """
    own = scene.overview.categories(target)
    wanted = scene.choice.category
    if wanted is None:
        return own
    known = [name for t in scene.targets for name in scene.overview.categories(t)]
    if normalize_name(wanted) not in map(normalize_name, known):
        raise unknown_name("category of the chosen datasets", wanted, known)
    return [name for name in own if normalize_name(name) == normalize_name(wanted)]


KINDS_OF_FIGURE: Mapping[str, Callable[[Scene], Figure]] = {
    "scatter": scatter,
    "radar": radar,
    "sweep": sweep,
    "tsne": tsne,
    "curves": curves,
    "maps": maps,
}
