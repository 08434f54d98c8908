"""Thresholds of metrics, learned from images that a run scores for them alone.

The F1 score at a learned threshold takes the threshold that is best on the auxiliary dataset; where
that is not here, or shares images with the target, the mean + 3 standard deviations of the
category's normal training images. SegF1 takes these alone. No test image of the target is used.

Source of the latter: Heckler-Kram et al., "The MVTec AD 2 Dataset", arXiv:2503.21622.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from ..dataset import Dataset, Sample
from ..errors import UsageError, ZsadError, message_of
from ..files import file_name, read_json, write_json
from ..json_fields import from_json
from ..metric_table import METRICS, Level
from ..metrics import PixelAccumulator, UndefinedMetric
from ..metrics.formulas import f1_max_threshold
from ..metrics.mask_regions import MaskRegions
from ..metrics.ranks import Scores, rank_labelled
from ..names import display_name
from ..progress import Progress
from ..records.cell import Cell
from ..records.record import Threshold
from ..records.run_folder import lock, thresholds_path
from ..training.leakage import refuse_leakage
from ..training.references import normal_references
from ..training.trainer import auxiliary_samples
from .evaluation import BYTES_OF_PIXELS, Answered, answered
from .measuring import Learned
from .open_datasets import OpenDatasets
from .plan import Job, Plan
from .prepared_method import PreparedMethod

DEVIATIONS: Final = 3
NORMAL_ONLY: Final = ("pixel_segf1",)
OF_THE_TARGET = ("zsad", "dataset", "dataset options", "limit", "references")  # in an identity
_AT_A_TIME: Final = 1 << 20

OfLevel = Mapping[str, Threshold]
Rule = Callable[[Answered, PixelAccumulator], Mapping[Level, float]]
"""From the answers of a method to thresholds, by level."""


class _OnHost(PixelAccumulator):
    """Takes maps from whatever device they lie on: normal pixels are read again for their mean."""

    def update(
        self, masks: ArrayLike, maps: Any, regions: Sequence[MaskRegions] | None = None
    ) -> None:
        """Add images; see `PixelAccumulator`."""
        super().update(masks, maps.cpu() if isinstance(maps, Tensor) else maps, regions)


@dataclass(frozen=True)
class _Stored:
    """A file of thresholds that were learned on an auxiliary dataset, and what they depend on."""

    conditions: Mapping[str, str]
    thresholds: Mapping[str, Threshold]


@dataclass
class ThresholdLearning:
    """Learns the thresholds that metrics of a plan need, for one target.

    Attributes:
        plan, target, datasets, progress: of the unit of work.
        identity_of: of a job on the target.
    """

    plan: Plan
    target: Dataset
    datasets: OpenDatasets
    progress: Progress
    identity_of: Callable[[Job], Mapping[str, str | None]]
    _on_auxiliary: dict[Cell, OfLevel | str] = field(default_factory=dict)

    @property
    def metrics(self) -> list[str]:
        """The metrics of the plan that need a threshold."""
        return with_thresholds(self.plan)

    def of_category(
        self, category: str, prepared_methods: Sequence[PreparedMethod]
    ) -> dict[Cell, Learned]:
        """What is learned for a category of the target; nothing where no metric needs it.

        Args:
            category: of the target.
            prepared_methods: without errors; they have none afterwards either.
        """
        if not self.metrics:
            return {}
        new = [one for one in prepared_methods if one.cell not in self._on_auxiliary]
        self._on_auxiliary |= self._learned_on_auxiliary(new)
        needy = [one for one in prepared_methods if self._needs_normal(one.cell)]
        normal = self._learned_on_normal(category, needy)
        return {
            one.cell: self._combined(self._on_auxiliary[one.cell], normal.get(one.cell, {}))
            for one in prepared_methods
        }

    def _needs_normal(self, cell: Cell) -> bool:
        """Whether a metric has no threshold from the auxiliary dataset."""
        found = self._on_auxiliary[cell]
        return isinstance(found, str) or any(
            metric in NORMAL_ONLY or METRICS[metric].level not in found for metric in self.metrics
        )

    def _combined(self, auxiliary: OfLevel | str, normal: OfLevel | str) -> Learned:
        """The threshold of each metric from the first of its sources that has one, or why not."""
        thresholds: dict[str, Threshold] = {}
        lacking: dict[str, str] = {}
        for metric in self.metrics:
            sources = (normal,) if metric in NORMAL_ONLY else (auxiliary, normal)
            level = METRICS[metric].level
            found = (s[level] for s in sources if not isinstance(s, str) and level in s)
            if (threshold := next(found, None)) is not None:
                thresholds[metric] = threshold
            else:
                none = f"images without {level}-level labels or answers"
                reasons = dict.fromkeys(s if isinstance(s, str) else none for s in sources)
                lacking[metric] = f"no threshold: {'; '.join(reasons)}"
        return Learned(thresholds, lacking)

    # -- auxiliary dataset ----------------------------------------------------------------------

    def _learned_on_auxiliary(
        self, prepared_methods: Sequence[PreparedMethod]
    ) -> dict[Cell, OfLevel | str]:
        if not prepared_methods:
            return {}
        job = prepared_methods[0].job  # all jobs of a target have one auxiliary dataset
        cells, title = [one.cell for one in prepared_methods], display_name(job.auxiliary.name)
        try:
            auxiliary, samples = _of_auxiliary(self.plan, job, self.datasets, self.target)
        except UsageError:
            return dict.fromkeys(cells, f"auxiliary dataset {title} shares images with the target")
        except ZsadError:
            return dict.fromkeys(cells, f"auxiliary dataset {title} is not here")
        folder = Path(self.plan.out)
        with lock(folder, file_name(f"thresholds-{job.auxiliary.name}")):
            found: dict[Cell, OfLevel | str] = {}
            for one in prepared_methods:
                if stored := self._stored(one, auxiliary):
                    found[one.cell] = stored
            new = [one for one in prepared_methods if one.cell not in found]
            source = f"greatest F1 on {auxiliary.title}, the auxiliary dataset"
            learned = self._learned(auxiliary, samples, new, _best_of, source)
            for one in new:
                thresholds = learned[one.cell]
                if not isinstance(thresholds, str):
                    file = _Stored(self._conditions(one, auxiliary), thresholds)
                    write_json(self._path(one), dataclasses.asdict(file))
        return found | learned

    def _path(self, prepared: PreparedMethod) -> Path:
        """Where thresholds lie; cells that differ in their target share them."""
        name = f"on-{prepared.job.auxiliary.name}"
        cell = dataclasses.replace(prepared.cell, dataset=name, label="", dataset_label="")
        return thresholds_path(Path(self.plan.out), cell)

    def _conditions(self, prepared: PreparedMethod, auxiliary: Dataset) -> dict[str, str]:
        """All that decides thresholds: the identity, but for the target, and the images."""
        identity = self.identity_of(prepared.job)
        known = {k: str(v) for k, v in identity.items() if k not in OF_THE_TARGET}
        limit = str(self.plan.auxiliary_limit)
        return {**known, "images": auxiliary.fingerprint("test"), "auxiliary limit": limit}

    def _stored(self, prepared: PreparedMethod, auxiliary: Dataset) -> OfLevel | None:
        """What an earlier process has learned under the same conditions."""
        with suppress(ZsadError, OSError, TypeError, ValueError):
            stored = from_json(_Stored, read_json(self._path(prepared)))
            if stored.conditions == self._conditions(prepared, auxiliary):
                return stored.thresholds
        return None

    # -- normal training images of the target ---------------------------------------------------

    def _learned_on_normal(
        self, category: str, prepared_methods: Sequence[PreparedMethod]
    ) -> dict[Cell, OfLevel | str]:
        try:
            samples = _normal_images(self.plan, self.target, category)
        except ZsadError:
            why = f"{self.target.title} has no normal training images of the category"
            return {one.cell: why for one in prepared_methods}
        source = f"mean + {DEVIATIONS} standard deviations of the category's normal training images"
        return self._learned(self.target, samples, prepared_methods, _above_normal, source)

    def _learned(
        self,
        dataset: Dataset,
        samples: Sequence[Sample],
        prepared_methods: Sequence[PreparedMethod],
        rule: Rule,
        source: str,
    ) -> dict[Cell, OfLevel | str]:
        """What a rule makes of the methods' answers to images, or why a method has none."""
        if not prepared_methods:
            return {}
        plan = replace(self.plan, gallery=0, save_maps=False, save_prompt_scores=False)
        budget = max(BYTES_OF_PIXELS // max(len(prepared_methods), 1), 1 << 20)
        found: dict[Cell, OfLevel | str] = {}
        with ExitStack() as memory:
            pixels = {one.cell: memory.enter_context(_OnHost(budget)) for one in prepared_methods}
            answers: dict[Cell, list[Answered]] = {one.cell: [] for one in prepared_methods}
            for own in _by_category(samples):
                working = [one for one in prepared_methods if one.error is None]
                given = answered(plan, dataset, own, working, pixels, self.progress)
                for cell, answer in given.items():
                    answers[cell].append(answer)
            for one in prepared_methods:
                if one.error is not None:
                    found[one.cell] = f"scoring {dataset.title} failed: {message_of(one.error)}"
                    one.error = None  # of images that are not the target's
                else:
                    values = rule(Answered.joined(answers[one.cell]), pixels[one.cell])
                    found[one.cell] = {k: Threshold(v, source) for k, v in values.items()}
        return found


def with_thresholds(plan: Plan) -> list[str]:
    """The metrics of a plan whose thresholds are learned from images that are scored for them."""
    return [name for name in plan.measured if METRICS[name].scores_further_images]


def further_images(plan: Plan, job: Job, datasets: OpenDatasets) -> dict[str, int]:
    """How many images are scored for the thresholds of a job, by the name of their dataset."""
    metrics, opened = with_thresholds(plan), datasets.target(job.dataset)
    if not metrics:
        return {}
    found: dict[str, int] = {}
    with suppress(ZsadError):
        found[job.auxiliary.name] = len(_of_auxiliary(plan, job, datasets, opened.dataset)[1])
    if not found or any(metric in NORMAL_ONLY for metric in metrics):
        with suppress(ZsadError):
            found[job.cell.target] = sum(
                len(_normal_images(plan, opened.dataset, category))
                for category in opened.by_category
            )
    return found


def _of_auxiliary(
    plan: Plan, job: Job, datasets: OpenDatasets, target: Dataset
) -> tuple[Dataset, list[Sample]]:
    """The auxiliary dataset of a job, and its images that thresholds are learned from.

    Raises:
        UsageError: it shares images with the target.
        ZsadError: it is not here.
    """
    auxiliary = datasets.auxiliary(job)
    samples = auxiliary_samples(auxiliary, "test", plan.auxiliary_limit)
    refuse_leakage(auxiliary, target, samples)
    return auxiliary, samples


def _normal_images(plan: Plan, target: Dataset, category: str) -> list[Sample]:
    """The normal training images of a category that thresholds are learned from."""
    return list(normal_references(target, category, None, 0)[: plan.limit])


def _by_category(samples: Sequence[Sample]) -> list[list[Sample]]:
    categories = dict.fromkeys(sample.category for sample in samples)
    return [[s for s in samples if s.category == category] for category in categories]


def _best_of(answers: Answered, pixels: PixelAccumulator) -> dict[Level, float]:
    """The thresholds of the greatest F1 scores."""
    found: dict[Level, float] = {}
    if answers.scores is not None:
        with suppress(UndefinedMetric):
            found["image"] = f1_max_threshold(rank_labelled(answers.labels, answers.scores))
    with suppress(UndefinedMetric):
        found["pixel"] = f1_max_threshold(pixels.counts().ranks)
    return found


def _above_normal(answers: Answered, pixels: PixelAccumulator) -> dict[Level, float]:
    """Mean + 3 standard deviations of the scores and of the maps of normal images."""
    found: dict[Level, float] = {}
    if answers.scores is not None:
        found["image"] = above([answers.scores])
    if runs := pixels.counts().runs:
        found["pixel"] = above(runs)
    return found


def above(parts: Sequence[Scores]) -> float:
    """Mean + 3 standard deviations (of the population) of all values of some arrays.

    >>> above([np.array([1.0, 3.0]), np.array([1.0, 3.0])])
    5.0
    """
    slices = [
        part[start : start + _AT_A_TIME]
        for part in parts
        for start in range(0, part.size, _AT_A_TIME)
    ]
    count = sum(part.size for part in parts)
    mean = math.fsum(float(one.sum(dtype=np.float64)) for one in slices) / count
    squares = (float(np.square(one.astype(np.float64) - mean).sum()) for one in slices)
    return mean + DEVIATIONS * math.sqrt(math.fsum(squares) / count)
