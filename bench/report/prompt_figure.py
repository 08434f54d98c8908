"""Prompt-wise anomaly scores in two dimensions, by t-SNE."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from ..analysis.matrix import EvaluatedMethod, TargetDataset
from ..errors import UsageError
from ..records.prompt_scores import PromptScores, read_prompt_scores
from ..records.run_folder import PROMPT_SCORES, prompt_scores_path
from .canvas import SOFT, Drawing, panels_of
from .palette import COLOURS, colour, marker
from .scene import Scene

MAX_POINTS = 3000  # t-SNE slows down faster than it shows more

_Place = tuple[EvaluatedMethod, TargetDataset, str, Path]  # with its category and file


def tsne(scene: Scene) -> Drawing:
    """Prompt-wise anomaly scores in two dimensions: Figures 3 and 6 of the FAPrompt paper.

    A point is an image's patch scores under one prompt; colours are prompts, filled points
    anomalous images. Of many categories the first ones of each method are drawn.
    """
    places = scene.categories()
    found = [
        (method, dataset, category, path)
        for dataset in scene.matrix.datasets
        for method in scene.matrix.methods
        for record in scene.matrix.finished(method, dataset)[:1]  # the first seed
        for category in (name for d, name in places if d == dataset)
        if (path := prompt_scores_path(scene.run, record.cell, category)).exists()
    ]
    if not found:
        raise UsageError(
            f"the run keeps no prompt-wise scores ({scene.run / PROMPT_SCORES}) for this choice: "
            "run faprompt or anomalyclip with --save-prompt-scores (and --retry always where its "
            "cells are finished), or choose another method or category"
        )
    shown = _first_of_each(found, scene.choice.panels)
    columns = min(4 if len(shown) > 6 else 3, len(shown))
    rows = -(-len(shown) // columns)
    figure, panels = panels_of(3.1 * columns, 3.2 * rows + 0.5, rows, columns)
    prompts = 0
    for panel, (method, dataset, category, path) in zip(panels.flat, shown, strict=False):
        scores = read_prompt_scores(path)
        prompts = max(prompts, scores.scores.shape[1])
        _panel(panel, scores)
        panel.set_title(f"{method.label}\n{dataset.title}, {category}")
    for panel in panels.flat[len(shown) :]:
        panel.set_visible(False)
    _legend(figure, prompts)
    left_out = (
        f"{len(found) - len(shown)} further panels are left out: choose with --method, --dataset "
        "or --category, or give --panels."
    )
    datasets = frozenset(dataset for _, dataset, _, _ in shown)
    methods = frozenset(method for method, *_ in shown)
    return Drawing(figure, datasets, methods, left_out if len(found) > len(shown) else "")


def _first_of_each(found: Sequence[_Place], most: int) -> list[_Place]:
    """At most so many panels, in order: the first categories of every method."""
    by_method: dict[EvaluatedMethod, list[_Place]] = {}
    for place in found:
        by_method.setdefault(place[0], []).append(place)
    in_turn = [p for own in itertools.zip_longest(*by_method.values()) for p in own if p]
    kept = in_turn[:most]
    return [place for place in found if place in kept]


def _panel(panel: Axes, found: PromptScores) -> None:
    points, prompts, labels = embed(found)
    for prompt, label in itertools.product(range(int(prompts.max()) + 1), (0, 1)):
        chosen = (prompts == prompt) & (labels == label)
        panel.scatter(
            points[chosen, 0],
            points[chosen, 1],
            s=11,
            linewidths=0.8,
            marker=marker(prompt // len(COLOURS)),
            edgecolors=colour(prompt),
            facecolors=colour(prompt) if label else "none",
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
        Points [N * K, 2], the prompt of each [N * K], the label of each [N * K], of the N images
        that were taken.

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


def _legend(figure: Figure, prompts: int) -> None:
    """The colours of the prompts, then what a filled mark is."""
    shapes = [(marker(k // len(COLOURS)), colour(k), colour(k)) for k in range(prompts)]
    shapes += [("o", SOFT, "none"), ("o", SOFT, SOFT)]
    handles = [
        Line2D([], [], linestyle="none", marker=m, markersize=4.5, color=edge, markerfacecolor=fill)
        for m, edge, fill in shapes
    ]
    names = [*(f"prompt {k + 1}" for k in range(prompts)), "normal image", "anomalous image"]
    figure.legend(handles, names, loc="outside upper left", ncols=min(6, len(names)))
