"""The curves that records hold, and their panels on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset

SIDE = 120.0  # of a panel, in SVG units


@dataclass(frozen=True)
class CurveKind:
    """One kind of curve against the false positive rate.

    Attributes:
        title: above a panel of it.
        metric: the name of the area under it.
        x_end: the false positive rate at which it ends.
    """

    title: str
    metric: str
    x_end: float = 1.0

    @property
    def has_diagonal(self) -> bool:
        """Whether a method that guesses lies on the diagonal."""
        return self.metric.endswith("auroc")


CURVE_KINDS: Mapping[str, CurveKind] = {
    "image_roc": CurveKind("image ROC", "image_auroc"),
    "pixel_roc": CurveKind("pixel ROC", "pixel_auroc"),
    "pixel_pro": CurveKind("PRO", "pixel_pro", 0.3),
}
"""By the name of the curve in a record."""


@dataclass(frozen=True)
class Curve:
    """The curve of one record; `area` is its metric, in [0, 1] where it is defined."""

    kind: CurveKind
    method: EvaluatedMethod
    x: Sequence[float]
    y: Sequence[float]
    area: float | None

    @cached_property
    def path(self) -> str:
        """The line as `svg_path` gives it, "" of too few points."""
        return svg_path(self.x, self.y, self.kind.x_end)


def curves_of(matrix: Matrix, dataset: TargetDataset, category: str, name: str) -> list[Curve]:
    """The curves of a category, one for each method and seed.

    Args:
        matrix: the run.
        dataset: of the run.
        category: of the dataset.
        name: a key of `CURVE_KINDS`.
    """
    kind, found = CURVE_KINDS[name], []
    for method in matrix.methods:
        for record in matrix.finished(method, dataset):
            result = record.by_category.get(category)
            if result is not None and name in result.curves:
                curve, area = result.curves[name], result.metrics.get(kind.metric)
                found.append(Curve(kind, method, curve["x"], curve["y"], area))
    return found


def curve_panels(matrix: Matrix) -> dict[TargetDataset, dict[str, list[list[Curve]]]]:
    """The curves of a run by dataset and category: a list for each kind that has any."""
    found: dict[TargetDataset, dict[str, list[list[Curve]]]] = {}
    for dataset in matrix.datasets:
        for category in matrix.categories(dataset):
            for kind in CURVE_KINDS:
                every = curves_of(matrix, dataset, category, kind)
                panel = [curve for curve in every if curve.path]
                if panel:
                    found.setdefault(dataset, {}).setdefault(category, []).append(panel)
    return found


def svg_path(x: Sequence[float], y: Sequence[float], x_end: float = 1.0) -> str:
    """A curve as an SVG path in a square of `SIDE` units, cut at `x_end`.

    Points that change the line by less than a quarter unit are left out.
    """
    points: list[tuple[float, float]] = []
    for a, b in zip(x, y, strict=True):
        if a > x_end:
            if points:
                left, height = points[-1]
                share = (x_end - left) / (a - left)
                points.append((x_end, height + share * (b - height)))
            break
        points.append((float(a), float(b)))
    if len(points) < 2:
        return ""
    scaled = [(SIDE * a / x_end, SIDE * (1 - min(max(b, 0.0), 1.0))) for a, b in points]
    return "M" + "L".join(f"{_short(a)},{_short(b)}" for a, b in _thinned(scaled, 0.25))


def _thinned(points: Sequence[tuple[float, float]], tolerance: float) -> list[tuple[float, float]]:
    """The Ramer-Douglas-Peucker simplification of a line of at least two points."""
    line = np.array(points)  # [N, 2]
    keep = {0, len(points) - 1}
    spans = [(0, len(points) - 1)]
    while spans:
        start, end = spans.pop()
        if end - start < 2:
            continue
        (x0, y0), (x1, y1) = line[start], line[end]
        x, y = line[start + 1 : end].T
        length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-9)
        distance = np.abs((x1 - x0) * (y0 - y) - (x0 - x) * (y1 - y0)) / length
        if distance.max() > tolerance:
            farthest = start + 1 + int(distance.argmax())
            keep.add(farthest)
            spans += [(start, farthest), (farthest, end)]
    return [points[i] for i in sorted(keep)]


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
