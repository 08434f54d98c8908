"""What one method said about a category, batch by batch, and the record that is made of it."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..category import conclude
from ..data.loading import Batch
from ..dataset import Dataset, Sample
from ..method import Prediction
from ..metric_table import DEFAULT_METRICS, of_level
from ..metrics import (
    Curve,
    ImageMetrics,
    PixelMetrics,
    UndefinedMetric,
    image_metrics,
    roc_curve_points,
)
from ..metrics.pixel_accumulator import Accumulator
from ..records.category_record import CategoryRecord
from ..records.gallery import Gallery
from ..records.maps import write_maps
from ..records.prompt_scores import PromptScores, write_prompt_scores
from ..records.provenance import environment
from ..records.record import CategoryResult, ImageScores, Points, Threshold
from .prepared_method import PreparedMethod
from .stopwatch import Stopwatch

CURVE_POINTS = 120


@dataclass
class Targets:
    """Labels and names of a category's images, in order."""

    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    masks: list[NDArray[np.bool_]] = field(default_factory=list)
    regions_lost: int = 0
    warnings: list[str] = field(default_factory=list)

    def add(self, batch: Batch, with_masks: bool) -> None:
        """Take what is known of a batch, and its masks if they are to be kept."""
        self.names += batch.names
        self.labels += batch.labels.tolist()
        self.regions_lost += batch.regions_lost
        self.warnings += batch.warnings
        if with_masks and batch.masks is not None:
            self.masks += list(np.asarray(batch.masks))


@dataclass(frozen=True)
class Learned:
    """The thresholds that were learned for a category elsewhere.

    Attributes:
        thresholds: by the metric that is measured at it.
        lacking: why other metrics have none.
    """

    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Measurement:
    """What is gathered about one prepared method while its category runs.

    Attributes:
        pixels: on the device of the maps; released by whoever made it.
        gallery: of the category; None where no pictures are kept.
        keeps_maps: raw maps are to be written.
        forward: the visual forwards that it shares with others.
        own: its own work.
        chosen: the metrics that are measured.
        learned: thresholds for them, where they need one.
        remarks: what the record is to say of memory that ran out while it observed.
    """

    prepared: PreparedMethod
    pixels: Accumulator
    gallery: Gallery | None
    keeps_maps: bool
    forward: Stopwatch
    own: Stopwatch
    chosen: Sequence[str] = DEFAULT_METRICS
    learned: Learned = field(default_factory=Learned)
    scores: list[Tensor] = field(default_factory=list)
    parts: list[Tensor] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)
    prompts: list[Tensor] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    has_maps: bool = False
    seconds_metrics: float = 0.0

    def add(self, batch: Batch, answer: Prediction, check: Callable[[], None]) -> None:
        """Measure the maps of a batch; called in a thread of its own, batch by batch.

        Args:
            batch: with masks, where there are any.
            answer: with maps at the evaluated size.
            check: raises where the answer has values that no metric may be computed from.
        """
        began = time.perf_counter()
        check()
        if answer.maps is not None:
            maps = answer.maps
            if batch.masks is not None:
                self.has_maps = True
                self.pixels.update(np.asarray(batch.masks), maps, batch.regions)
                if self.keeps_maps:
                    self.maps.append(maps.cpu())
            if self.gallery is not None:
                prepared = self.prepared
                self.gallery.add_batch(
                    prepared.cell, batch, answer.scores, maps, prepared.ready.preprocess
                )
        self.seconds_metrics += time.perf_counter() - began

    def conclude(self) -> None:
        """Make the scores of a method that answered with parts, now that all images have theirs."""
        if not self.parts:
            return
        parts = Prediction(None, None, torch.cat(self.parts))
        with self.own.running():
            answer = conclude(self.prepared.ready, parts)
        assert answer.scores is not None
        self.scores = [answer.scores]

    def all_scores(self) -> NDArray[np.floating[Any]] | None:
        """The anomaly scores of all images [N], once they are concluded; None without any."""
        return torch.cat(self.scores).cpu().numpy() if self.scores else None

    def record(
        self, dataset: Dataset, samples: Sequence[Sample], targets: Targets
    ) -> CategoryRecord:
        """What the record of the category states of the method."""
        method = self.prepared.ready
        published, effective = method.parameter_counts()
        began = time.perf_counter()
        result = self._result(dataset, samples[0], targets)
        self.seconds_metrics += time.perf_counter() - began
        return CategoryRecord(
            result=result,
            protocol=self.prepared.protocol,
            provenance={
                **environment(),
                "device": _device_name(method.backbone.device),
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
            },
            timing={
                "images": len(targets.labels),
                "seconds_forward": self.forward.seconds(),
                "seconds_predict": self.own.seconds(),
                "peak_memory_mb": _peak_memory_mb(method.backbone.device),
                **self.prepared.training,
            },
            published_parameters=published,
            effective_parameters=effective,
            auxiliary=self.prepared.auxiliary,
            warnings=targets.warnings,
        )

    def _result(self, dataset: Dataset, sample: Sample, targets: Targets) -> CategoryResult:
        """The metrics of what the method said."""
        labels, scores = np.asarray(targets.labels), self.all_scores()
        at = {name: threshold.value for name, threshold in self.learned.thresholds.items()}
        undefined = {n: why for n, why in self.learned.lacking.items() if n in self.chosen}
        measured: list[ImageMetrics | PixelMetrics] = []
        curves: dict[str, Callable[[], Curve]] = {}
        if scores is None:
            why = "the method gives no anomaly scores"
            undefined |= dict.fromkeys(of_level("image", self.chosen), why)
        else:
            measured.append(image_metrics(labels, scores, self.chosen, at))
            curves["image_roc"] = lambda: roc_curve_points(labels, scores, CURVE_POINTS)
        if self.has_maps:
            measured.append(self.pixels.result(self.chosen, at))
            curves["pixel_roc"] = lambda: self.pixels.roc_curve(CURVE_POINTS)
            curves["pixel_pro"] = lambda: self.pixels.pro_curve(CURVE_POINTS)
        else:
            why = "was given no anomaly maps" if dataset.has_masks else "has no pixel-level masks"
            undefined |= dict.fromkeys(of_level("pixel", self.chosen), f"the dataset {why}")
        for one in measured:
            undefined |= one.undefined
        metrics = {name: value for one in measured for name, value in one.defined().items()}
        return CategoryResult(
            category=sample.category,
            class_name=sample.class_name,
            n_normal=targets.labels.count(0),
            n_anomalous=targets.labels.count(1),
            metrics=metrics,
            undefined=undefined,
            images=ImageScores(
                targets.names, targets.labels, None if scores is None else scores.tolist()
            ),
            curves=_curves(curves),
            regions_lost=targets.regions_lost,
            thresholds={n: t for n, t in self.learned.thresholds.items() if n in metrics},
        )

    def write(self, run: Path, category: str, targets: Targets) -> None:
        """Write raw maps and prompt-wise scores, where they were asked for."""
        cell = self.prepared.cell
        if self.maps:
            maps, masks = torch.cat(self.maps).numpy(), np.asarray(targets.masks, dtype=bool)
            write_maps(run, cell, category, maps, masks)
        if self.prompts:
            prompts = PromptScores(torch.cat(self.prompts).numpy(), np.asarray(targets.labels))
            write_prompt_scores(run, cell, category, prompts)


def _curves(makers: Mapping[str, Callable[[], Curve]]) -> dict[str, Points]:
    """Thinned curves for reading; one that is undefined is left out."""
    curves: dict[str, Points] = {}
    for name, make in makers.items():
        with suppress(UndefinedMetric):
            curve = make()
            curves[name] = {
                "x": [round(float(v), 5) for v in curve.fpr],
                "y": [round(float(v), 5) for v in curve.detection_rate],
            }
    return curves


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _peak_memory_mb(device: torch.device) -> float:
    """Peak memory: of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
