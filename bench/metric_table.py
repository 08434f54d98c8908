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
        source: where the definition is from.
        headline: shown, compared and plotted unless others are chosen; two for each level, as the
            paper's tables have them.
        higher_is_better: which of two values is the better one.
        version: grows when the definition changes, so that values of different definitions differ.
            A further metric changes the version of no other.
        scores_further_images: its threshold is learned from images that are scored for it alone, so
            a run measures it only where it is named.
    """

    name: str
    label: str
    definition: str
    source: str
    headline: bool = False
    higher_is_better: bool = True
    version: int = 1
    scores_further_images: bool = False

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
_TPR = (
    "greatest share of anomalous {0}s found at a threshold that reports at most {1} of normal ones"
)
_FPR = "least share of normal {0}s reported at a threshold that finds 95 % of anomalous ones"
_RECALL = (
    "mean share found of the regions {0} of their image, where 1 % of normal pixels are reported"
)
_FURTHER = "(scores further images: measured where it is named)"
_F1 = (
    "F1 score of {0}s at the threshold that is best on the auxiliary dataset, else at mean + 3 "
    f"standard deviations of normal training images {_FURTHER}"
)

_ROC = "Fawcett, An introduction to ROC analysis, PRL 2006"
_PR = "Davis and Goadrich, ICML 2006; scikit-learn, average_precision_score"
_F1_SOURCE = "van Rijsbergen, Information Retrieval, 1979"
_BERGMANN = "Bergmann et al., The MVTec Anomaly Detection Dataset, IJCV 2021, section 5.2"
_MVTEC_AD_2 = "Heckler-Kram et al., The MVTec AD 2 Dataset, arXiv:2503.21622"
_COCO = "this package, with the areas of COCO (Lin et al., ECCV 2014)"


def _over_all_thresholds(level: Level) -> tuple[Metric, ...]:
    """Metrics that images and pixels have in common: no threshold is chosen."""
    ap = _AP.format(f"anomalous {level}")
    return (
        Metric(f"{level}_auroc", "AUROC", _AUROC.format(level), _ROC, headline=True),
        Metric(f"{level}_ap", "AP", ap, _PR, headline=level == "image"),
        Metric(f"{level}_f1max", "F1-max", _F1_MAX.format(level), _F1_SOURCE),
    )


def _at_a_threshold(level: Level) -> tuple[Metric, ...]:
    """Metrics that images and pixels have in common: at one threshold."""
    tpr, fpr = _TPR.format(level, "{0}"), _FPR.format(level)
    return (
        Metric(f"{level}_tpr_at_1e2", "TPR at FPR 0.01", tpr.format("1 %"), _ROC),
        Metric(f"{level}_tpr_at_1e3", "TPR at FPR 0.001", tpr.format("0.1 %"), _ROC),
        Metric(f"{level}_fpr_at_95", "FPR at TPR 0.95", fpr, _ROC, higher_is_better=False),
        Metric(
            f"{level}_f1_learned",
            "F1 (learned threshold)",
            _F1.format(level),
            _F1_SOURCE,
            scores_further_images=True,
        ),
    )


_PIXEL_ONLY = (
    Metric("pixel_pro", "PRO", f"{_PRO} up to 0.3, every threshold", _BERGMANN, headline=True),
    Metric(
        "pixel_pro_official200",
        "PRO (200 thresholds)",
        f"{_PRO} up to 0.3, as the released codes compute it from 200 thresholds",
        "cal_pro_score in metrics.py of AnomalyCLIP's released code",
    ),
    Metric("pixel_pro_05", "PRO (limit 0.05)", f"{_PRO} up to 0.05, every threshold", _MVTEC_AD_2),
    Metric(
        "pixel_aupimo",
        "AUPIMO",
        "mean share found of each image's anomalous pixels, averaged over the logarithms of false "
        "positive rates of normal images from 1e-5 to 1e-4, every threshold",
        "Bertoldo et al., AUPIMO, BMVC 2024, arXiv:2401.01984",
    ),
    Metric("pixel_recall_small", "recall of small regions", _RECALL.format("below 1/300"), _COCO),
    Metric(
        "pixel_recall_medium",
        "recall of medium regions",
        _RECALL.format("from 1/300 to below 3 %"),
        _COCO,
    ),
    Metric("pixel_recall_large", "recall of large regions", _RECALL.format("from 3 %"), _COCO),
    Metric(
        "pixel_segf1",
        "SegF1",
        "F1 score of pixels at mean + 3 standard deviations of the maps of the category's normal "
        f"training images {_FURTHER}",
        _MVTEC_AD_2,
        scores_further_images=True,
    ),
)

METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric
    for metric in (
        *(*_over_all_thresholds("image"), *_at_a_threshold("image")),
        *(*_over_all_thresholds("pixel"), *_PIXEL_ONLY, *_at_a_threshold("pixel")),
    )
}
"""All metrics by name, in the order of records, tables and reports."""

HEADLINES: Final = tuple(metric.name for metric in METRICS.values() if metric.headline)
DEFAULT_METRICS: Final = tuple(
    metric.name for metric in METRICS.values() if not metric.scores_further_images
)
"""What a run measures unless metrics are named."""
ALL = "all"


def of_level(level: Level, names: Iterable[str] = METRICS) -> tuple[str, ...]:
    """Those of some metrics that belong to a level, in their order.

    >>> of_level("image", HEADLINES), of_level("pixel", HEADLINES)
    (('image_auroc', 'image_ap'), ('pixel_auroc', 'pixel_pro'))
    """
    return tuple(name for name in names if METRICS[name].level == level)


def checked_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Metrics' names as a user writes them, with hyphens or underscores, as records have them.

    Raises:
        UsageError: no such metric.
    """
    return tuple(known_name("metric", name, METRICS) for name in names)


def chosen_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """The metrics that a run measures, in their order; "all" is what is measured without names.

    Raises:
        UsageError: no such metric.
    """
    named = list(names)
    chosen = set(checked_metrics(name for name in named if name != ALL))
    if not named or ALL in named:
        chosen |= {*DEFAULT_METRICS}
    return tuple(name for name in METRICS if name in chosen)


def changed_versions() -> dict[str, int]:
    """The versions of the metrics whose definition has changed since they were added."""
    return {metric.name: metric.version for metric in METRICS.values() if metric.version != 1}
