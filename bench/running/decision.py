"""How `zsad predict` tells normal images from anomalous ones: what is asked, and what follows.

Images whose truth is known are scored beside those in question, so that what holds for the ones
holds for the others in every track.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import registry
from ..dataset import Dataset, Sample
from ..errors import UsageError
from ..records.predictions import Decision
from ..thresholds import conformal_threshold, f1_threshold, quantile_threshold
from .own_images import image_files

OWN_FOLDERS = "folder"  # the dataset that reads a user's normal and anomalous images and masks
DEFAULT_ALPHA = 0.05
MOST_PIXELS = 4_000_000  # of labelled maps, from which the threshold of maps is chosen


@dataclass(frozen=True)
class DecisionRule:
    """What a user asks for; at most one of `threshold`, `normal` and `labelled`.

    Attributes:
        threshold: images with a greater score are anomalous.
        map_threshold: pixels with a greater value are outlined, whatever else is asked.
        normal: files or folders of normal images.
        quantile: of the normal images' scores that is the threshold.
        alpha: the share of normal images that may be false alarms; 0.05 beside normal images
            without a quantile.
        labelled: a folder with normal and anomalous images, and masks if there are any.
    """

    threshold: float | None = None
    map_threshold: float | None = None
    normal: Sequence[Path] = ()
    quantile: float | None = None
    alpha: float | None = None
    labelled: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            UsageError: two rules, or a part of a rule that is not asked for.
        """
        given = [self.threshold is not None, bool(self.normal), self.labelled is not None]
        if sum(given) > 1:
            raise UsageError("give one of --threshold, --normal and --labelled")
        if self.quantile is not None and self.alpha is not None:
            raise UsageError("give --quantile or --alpha, not both")
        for flag, value in (("--quantile", self.quantile), ("--alpha", self.alpha)):
            if value is not None and not self.normal:
                raise UsageError(f"{flag} is about normal images: give --normal DIR")
        if not all(math.isfinite(x) for x in (self.threshold or 0, self.map_threshold or 0)):
            raise UsageError("a threshold is a finite number")

    @property
    def decides(self) -> bool:
        """Whether images are told normal or anomalous."""
        return self.threshold is not None or bool(self.normal) or self.labelled is not None


@dataclass(frozen=True)
class KnownImage:
    """An image whose truth is known.

    Attributes:
        path: its file.
        label: 0 normal, 1 anomalous.
        sample, dataset: where its mask is read from; None without masks.
    """

    path: Path
    label: int
    sample: Sample | None = None
    dataset: Dataset | None = None

    def mask(self, size: int) -> NDArray[np.bool_] | None:
        """Its mask [size, size]; None where there are no masks."""
        if self.label == 0:
            return np.zeros((size, size), bool)
        if self.sample is None or self.dataset is None:
            return None
        mask = self.dataset.read(self.sample).mask
        if mask is None:
            return None
        resized = Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST)
        return np.asarray(resized, bool)


@dataclass(frozen=True)
class KnownAnswer:
    """What a method says of an image whose truth is known.

    Attributes:
        score: None from a method without image-level scores.
        peak: the greatest value of its map; None without maps.
        pixels: values and truth of some pixels of its map; None without maps or masks.
    """

    label: int
    score: float | None
    peak: float | None
    pixels: tuple[NDArray[np.float32], NDArray[np.bool_]] | None = field(default=None, repr=False)


def known_images(rule: DecisionRule, out: Path | None = None) -> list[KnownImage]:
    """The images whose truth a rule knows.

    Args:
        rule: what is asked.
        out: files below it are results of an earlier call and are left out.

    Raises:
        UsageError: a path does not exist, or has no images.
        DataError: the labelled folder is not one.
    """
    if rule.normal:
        return [KnownImage(path, 0) for path in image_files(rule.normal, out)]
    if rule.labelled is None:
        return []
    dataset = registry.load_dataset(OWN_FOLDERS, rule.labelled)
    return [KnownImage(s.image_path, s.label, s, dataset) for s in dataset.samples("test")]


def refuse_too_few(rule: DecisionRule, known: Sequence[KnownImage]) -> None:
    """Refuse a rule that the known images cannot serve, before anything is scored.

    Raises:
        UsageError: too few normal images for a false-alarm rate, or one kind of image alone.
    """
    labels = [image.label for image in known]
    if rule.normal:
        _threshold_of_normal(rule, [0.0] * len(labels))
    elif rule.labelled is not None:
        f1_threshold(labels, labels)


def pixels_of(
    known: KnownImage, anomaly_map: NDArray[np.float32], images: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """Every k-th pixel of a map and its truth, so that `images` maps give at most `MOST_PIXELS`."""
    mask = known.mask(len(anomaly_map))
    if mask is None:
        return None
    step = max(1, math.ceil(anomaly_map.size * images / MOST_PIXELS))
    return anomaly_map.ravel()[::step].copy(), mask.ravel()[::step].copy()


def decide(rule: DecisionRule, answers: Sequence[KnownAnswer]) -> Decision:
    """The thresholds that a rule means.

    Args:
        rule: what is asked.
        answers: to the `known_images` of the rule.

    Raises:
        UsageError: the method gives no scores, or the images are too few for the rule.
    """
    found = _image_decision(rule, answers)
    map_rule, map_threshold = _map_threshold(rule, answers)
    return replace(found, map_rule=map_rule, map_threshold=map_threshold)


def _image_decision(rule: DecisionRule, answers: Sequence[KnownAnswer]) -> Decision:
    if rule.threshold is not None:
        return Decision("as given", rule.threshold)
    if not rule.decides:
        return Decision()
    scores = [answer.score for answer in answers if answer.score is not None]
    if len(scores) < len(answers):
        raise UsageError(
            "the method gives no image-level scores, so no image can be told anomalous: take "
            "another method, or --map-threshold for regions alone"
        )
    labels = [answer.label for answer in answers]
    normal = [score for score, label in zip(scores, labels, strict=True) if label == 0]
    if rule.normal:
        return Decision(
            _words(rule, f"{len(normal)} normal images"),
            _threshold_of_normal(rule, normal),
            alpha=_alpha(rule),
            quantile=rule.quantile,
            normal=tuple(sorted(normal)),
        )
    return Decision(
        f"F1-max over {len(normal)} normal and {sum(labels)} anomalous images",
        f1_threshold(labels, scores),
        normal=tuple(sorted(normal)),
        anomalous=sum(labels),
    )


def _map_threshold(
    rule: DecisionRule, answers: Sequence[KnownAnswer]
) -> tuple[str | None, float | None]:
    """How the threshold of maps comes about, and the threshold; None where nothing gives one."""
    if rule.map_threshold is not None:
        return "as given", rule.map_threshold
    peaks = [answer.peak for answer in answers if answer.peak is not None]
    if not answers or len(peaks) < len(answers):
        return None, None
    if rule.normal:
        words = _words(rule, f"the greatest values of {len(peaks)} normal maps")
        return words, _threshold_of_normal(rule, peaks)
    pixels = [answer.pixels for answer in answers if answer.pixels is not None]
    if len(pixels) == len(answers):
        values, truth = (np.concatenate(parts) for parts in zip(*pixels, strict=True))
        if truth.any() and not truth.all():
            return f"F1-max over the pixels of {len(pixels)} maps", f1_threshold(truth, values)
    labels = [answer.label for answer in answers]
    words = f"F1-max over the greatest values of {len(peaks)} maps, which have no masks"
    return words, f1_threshold(labels, peaks)


def _alpha(rule: DecisionRule) -> float | None:
    """The false-alarm rate that a rule about normal images holds; None where it has a quantile."""
    if rule.quantile is not None:
        return None
    return DEFAULT_ALPHA if rule.alpha is None else rule.alpha


def _words(rule: DecisionRule, normal: str) -> str:
    """How a threshold comes about from the scores of `normal`."""
    alpha = _alpha(rule)
    if alpha is None:
        return f"quantile {rule.quantile:g} of {normal}"
    return f"split-conformal over {normal}, false-alarm rate {alpha:g}"


def _threshold_of_normal(rule: DecisionRule, normal: Sequence[float]) -> float:
    alpha = _alpha(rule)
    if alpha is not None:
        return conformal_threshold(normal, alpha)
    assert rule.quantile is not None
    return quantile_threshold(normal, rule.quantile)
