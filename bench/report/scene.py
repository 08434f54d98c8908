"""What a figure shows of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset
from ..errors import unknown_name
from ..names import normalize_name


@dataclass(frozen=True)
class Choice:
    """What of a run is drawn; empty means everything that fits.

    Attributes:
        metrics: names of `METRICS`.
        methods, datasets: by name or by label.
        category: one category, for tsne, curves and maps.
        option: what a sweep varies.
        panels: the most panels of a figure that has one for each method and category.
    """

    metrics: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    category: str | None = None
    option: str | None = None
    panels: int = 8


@dataclass(frozen=True)
class Scene:
    """A run with what was chosen from it: `matrix` has the chosen methods and datasets only."""

    run: Path
    matrix: Matrix
    choice: Choice

    def value(self, method: EvaluatedMethod, dataset: TargetDataset, metric: str) -> float | None:
        """A metric in percent."""
        value = self.matrix.value(method, dataset, metric).value
        return None if value is None else 100 * value

    def measured(
        self, method: EvaluatedMethod, dataset: TargetDataset, metric: str
    ) -> tuple[float, float] | None:
        """A metric and its standard deviation over seeds, in percent; 0 of a single seed."""
        found = self.matrix.value(method, dataset, metric)
        return None if found.value is None else (100 * found.value, 100 * (found.spread or 0.0))

    def categories(self) -> list[tuple[TargetDataset, str]]:
        """The chosen category, or all, of each chosen dataset.

        Raises:
            UsageError: no chosen dataset has the category.
        """
        known = [(d, name) for d in self.matrix.datasets for name in self.matrix.categories(d)]
        if self.choice.category is None:
            return known
        wanted = normalize_name(self.choice.category)
        found = [(d, name) for d, name in known if normalize_name(name) == wanted]
        if not found:
            names = [name for _, name in known]
            raise unknown_name("category of the chosen datasets", self.choice.category, names)
        return found
