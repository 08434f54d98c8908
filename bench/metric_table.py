"""The table of metrics: what is measured, in which order it is listed, and what it is called.

`metrics` computes them; records, tables, figures, comparisons and the report take their lists and
labels from here. Nothing heavy is imported, so that a command line can list them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from .names import known_name

Level = Literal["image", "pixel"]
LEVELS: Final[tuple[Level, ...]] = ("image", "pixel")


@dataclass(frozen=True)
class Metric:
    """One metric; its value is a fraction in [0, 1].

    Attributes:
        name: as records have it: the level, an underscore and a short name.
        label: as tables print it beside others of its level.
        definition: how it is computed, in words.
        headline: shown, compared and plotted unless others are chosen; two for each level, as the
            paper's tables have them.
        higher_is_better: which of two values is the better one.
    """

    name: str
    label: str
    definition: str
    headline: bool = False
    higher_is_better: bool = True

    @property
    def level(self) -> Level:
        """What is ranked: whole images, or the pixels of all images of a category."""
        return "image" if self.name.startswith("image_") else "pixel"

    @property
    def title(self) -> str:
        """The label where metrics of both levels are listed ("image AUROC")."""
        return f"{self.level} {self.label}"


_AUROC = "area under the ROC curve: how often an anomalous {0} scores above a normal one, ties half"
_AP = "average precision: precision at every distinct score, weighted by the {0}s found there"
_F1_MAX = "greatest F1 score of {0}s over all thresholds"
_PRO = "mean share of each anomalous region that is found, averaged over false positive rates"

METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric("image_auroc", "AUROC", _AUROC.format("image"), headline=True),
        Metric("image_ap", "AP", _AP.format("anomalous image"), headline=True),
        Metric("image_f1max", "F1-max", _F1_MAX.format("image")),
        Metric("pixel_auroc", "AUROC", _AUROC.format("pixel"), headline=True),
        Metric("pixel_ap", "AP", _AP.format("anomalous pixel")),
        Metric("pixel_f1max", "F1-max", _F1_MAX.format("pixel")),
        Metric("pixel_pro", "PRO", f"{_PRO} up to 0.3, every threshold", headline=True),
        Metric(
            "pixel_pro_official200",
            "PRO (200 thresholds)",
            f"{_PRO} up to 0.3, as the released codes compute it from 200 thresholds",
        ),
    )
}
"""All metrics by name, in the order of records, tables and reports."""

HEADLINES: Final = tuple(metric.name for metric in METRICS.values() if metric.headline)


def of_level(level: Level, names: Iterable[str] = METRICS) -> tuple[str, ...]:
    """Those of some metrics that belong to a level, in their order.

    >>> of_level("image"), of_level("pixel", HEADLINES)
    (('image_auroc', 'image_ap', 'image_f1max'), ('pixel_auroc', 'pixel_pro'))
    """
    return tuple(name for name in names if METRICS[name].level == level)


def checked_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Metrics' names as a user writes them, with hyphens or underscores, as records have them.

    Raises:
        UsageError: no such metric.
    """
    return tuple(known_name("metric", name, METRICS) for name in names)
