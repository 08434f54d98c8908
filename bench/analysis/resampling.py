"""How uncertainty is estimated, and the images over which methods are resampled together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..metric_table import HEADLINES, checked_metrics
from ..records.record import ImageScores, Record
from .statistics import Floats, ImageMetric, Resampling, Sampled, bootstrap


@dataclass(frozen=True)
class Settings:
    """How uncertainty is estimated.

    Attributes:
        metrics: names of records' metrics.
        replicates: bootstrap resamples.
        seed: of the resampling.
        level: of intervals, such as 0.95.
        resampling: stratified keeps the numbers of normal and anomalous images.
        allow_incomplete: let incomplete datasets into what is said over all datasets.
    """

    metrics: tuple[str, ...] = HEADLINES
    replicates: int = 2000
    seed: int = 0
    level: float = 0.95
    resampling: Resampling = "stratified"
    allow_incomplete: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", tuple(dict.fromkeys(checked_metrics(self.metrics))))

    def bootstrap(
        self, images: SharedImages, metrics: Sequence[ImageMetric]
    ) -> dict[ImageMetric, tuple[Floats, Floats]]:
        """Metrics on the images as they are and resampled; see `statistics.bootstrap`."""
        return bootstrap(images.categories, metrics, self.replicates, self.seed, self.resampling)


DEFAULT_SETTINGS = Settings()


@dataclass
class SharedImages:
    """The scores of records on the same images of one dataset, or why they cannot be paired.

    Attributes:
        categories: with a row of scores for every record, those of side a first.
        n_a: records of side a.
        why_not: why there are no scores; "" where there are.
    """

    categories: list[Sampled] = field(default_factory=list)
    n_a: int = 0
    why_not: str = ""


Rows = dict[ImageMetric, tuple[Floats, Floats]]
Bootstrap = Callable[[SharedImages, Sequence[ImageMetric]], Rows]


def remembering(settings: Settings) -> Bootstrap:
    """`Settings.bootstrap` that resamples each row of scores once, however often it is compared.

    What a row gives follows from the labels, its scores and the seed alone, so that a method that
    is compared with many others need not be resampled again for each of them.
    """
    known: dict[bytes, Rows] = {}

    def resample(images: SharedImages, metrics: Sequence[ImageMetric]) -> Rows:
        rows = range(len(images.categories[0].scores))
        keys = [_digest(images.categories, row, metrics) for row in rows]
        new = {key: row for row, key in zip(rows, keys, strict=True) if key not in known}
        if new:
            chosen = [*new.values()]
            parts = [Sampled(c.labels, c.scores[chosen]) for c in images.categories]
            found = settings.bootstrap(SharedImages(parts), metrics)
            for place, key in enumerate(new):
                known[key] = {m: (v[place], r[place]) for m, (v, r) in found.items()}
        own = [known[key] for key in keys]
        return {
            m: (np.array([row[m][0] for row in own]), np.array([row[m][1] for row in own]))
            for m in metrics
        }

    return resample


def _digest(categories: Sequence[Sampled], row: int, metrics: Sequence[ImageMetric]) -> bytes:
    digest = hashlib.sha256(" ".join(metrics).encode())
    for category in categories:
        digest.update(b"%d" % len(category.labels))
        digest.update(category.labels.tobytes() + category.scores[row].tobytes())
    return digest.digest()


def pair_images(left: Sequence[Record], right: Sequence[Record]) -> SharedImages:
    """Scores of all records (seeds) of both sides, on the same images in the same order."""
    ok_left = [r for r in left if r.status == "ok"]
    records = [*ok_left, *(r for r in right if r.status == "ok")]
    by_category = [{c.category: c.images for c in r.categories} for r in records]
    if len({frozenset(categories) for categories in by_category}) != 1:
        return SharedImages(why_not="no interval: the categories differ")
    images = SharedImages(n_a=len(ok_left))
    for name in by_category[0]:
        scored = [categories[name] for categories in by_category]
        reference = scored[0]
        if reference is None:
            return SharedImages(why_not="no interval: per-image scores were not kept")
        aligned = [_aligned(reference, other) for other in scored]
        if any(row is None for row in aligned):
            return SharedImages(why_not="no interval: the images differ or have no scores")
        sampled = Sampled.of(reference.labels, [row for row in aligned if row is not None])
        if sampled.has_both:
            images.categories.append(sampled)
    if not images.categories:
        return SharedImages(why_not="no interval: no category has normal and anomalous images")
    return images


def _aligned(reference: ImageScores, other: ImageScores | None) -> list[float] | None:
    """The scores of `other` in the order of the reference's images; None if they do not match."""
    if other is None or other.scores is None:
        return None
    labels, scores = other.labels, other.scores
    if other.names != reference.names:
        place = {name: i for i, name in enumerate(other.names)}
        if len(place) != len(other.names) or sorted(place) != sorted(reference.names):
            return None
        order = [place[name] for name in reference.names]
        labels, scores = [labels[i] for i in order], [scores[i] for i in order]
    return scores if labels == reference.labels else None
