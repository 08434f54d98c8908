"""How many bytes a run will add to the feature cache, from numbers of images and shapes alone.

Methods are built on an outline of their backbone, so weights and data need not be on this machine:
images that are not here are counted as their dataset's release has them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import registry
from ..dataset import Dataset, Sample
from ..errors import DataError, ZsadError, message_of
from ..method import AuxiliarySplit, TrainableMethod
from ..names import display_name, parts_named
from ..training.cache_entries import CacheState, cache_state
from ..training.feature_cache import FeatureCache
from ..training.sources import can_cache
from ..training.stages import passes
from ..training.trainer import auxiliary_samples
from .open_datasets import OpenDatasets
from .plan import Job, Plan
from .prepare import checkpoint_path, feature_cache, outlined, split_of

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheNeed:
    """Features of an auxiliary dataset by one visual forward, for all methods that learn from them.

    Attributes:
        dataset: registry name of the auxiliary dataset.
        backbone: as it was asked for.
        image_size: input side in pixels.
        dtype: in which they are kept.
        images: how many.
        methods: that learn from them, by registry name.
        nbytes: of all images.
        there: bytes of them that the cache has already.
        fits: the cache has room for the rest; else they are computed again in each epoch.
    """

    dataset: str
    backbone: str
    image_size: int
    dtype: str
    images: int
    methods: Sequence[str]
    nbytes: int
    there: int = 0
    fits: bool = True

    @property
    def missing(self) -> int:
        """Bytes that are still to be written."""
        return self.nbytes - self.there

    def words(self) -> str:
        """One line.

        >>> CacheNeed("visa", "ViT-L-14", 518, "float16", 2162, ["coop"], 10**10).words()
        '10.00 GB for 2,162 images of visa, ViT-L-14 at 518 px in float16: coop'
        """
        there = f", {self.there / 1e9:.2f} GB of it there" if self.there else ""
        return (
            f"{self.nbytes / 1e9:.2f} GB for {self.images:,} images of "
            f"{display_name(self.dataset)}, {self.backbone} at {self.image_size} px in "
            f"{self.dtype}{there}: {', '.join(map(display_name, self.methods))}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "dataset": self.dataset,
            "backbone": self.backbone,
            "image_size": self.image_size,
            "dtype": self.dtype,
            "images": self.images,
            "methods": list(self.methods),
            "bytes": self.nbytes,
            "bytes_there": self.there,
            "fits": self.fits,
        }


@dataclass(frozen=True)
class CacheForecast:
    """What the feature cache will hold for a run.

    Attributes:
        needs: in the order in which the run asks for room.
        root: the folder of the cache.
        used: bytes in it now, of whatever run.
        budget: bytes that it may grow to.
        free: bytes that its disk has left.
        unknown: what cannot be told, by method.
    """

    needs: Sequence[CacheNeed]
    root: Path
    used: int
    budget: int
    free: int
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """Bytes that the run still has to write."""
        return sum(need.missing for need in self.needs)

    def lines(self) -> list[str]:
        """What a user reads: each part, the sum, and what has no room."""
        lines = [f"feature cache: {need.words()}" for need in self.needs]
        if self.needs:
            lines.append(
                f"feature cache in all: {sum(need.nbytes for need in self.needs) / 1e9:.2f} GB, "
                f"{self.missing / 1e9:.2f} GB of it to be written to {self.root} "
                f"({self.used / 1e9:.2f} of {self.budget / 1e9:.1f} GB used, "
                f"{self.free / 1e9:.1f} GB free on the disk)"
            )
        lines += [_without_room(need) for need in self.needs if not need.fits]
        lines += [
            f"feature cache of {name} is not known: {why}" for name, why in self.unknown.items()
        ]
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "root": str(self.root),
            "used": self.used,
            "budget": self.budget,
            "free": self.free,
            "bytes": sum(need.nbytes for need in self.needs),
            "bytes_to_write": self.missing,
            "fits": all(need.fits for need in self.needs),
            "entries": [need.to_json() for need in self.needs],
            "unknown": self.unknown,
        }


def _without_room(need: CacheNeed) -> str:
    halved = "" if need.dtype == "float16" else ", or take --feature-precision fp16"
    return (
        f"warning: {need.missing / 1e9:.2f} GB of features of {display_name(need.dataset)} do not "
        "fit the cache and will be computed again in each epoch: make room (zsad cache clear), "
        f"name another disk ($ZSAD_FEATURES){halved}"
    )


@dataclass
class _Asked:
    """Trainings that share features: on the same images, by the same forward."""

    auxiliary: Dataset | None
    samples: Sequence[Sample]
    images: int
    methods: list[TrainableMethod] = field(default_factory=list)


def cache_forecast(plan: Plan, jobs: Iterable[Job], datasets: OpenDatasets) -> CacheForecast:
    """What the feature cache will hold of the features that jobs are trained on.

    Args:
        plan: of the run.
        jobs: that are not done; those that nothing is trained for are passed over.
        datasets: where auxiliary datasets are asked for.
    """
    cache = feature_cache(plan)
    state = cache_state(cache)
    asked, unknown = _trainings(plan, jobs, datasets)
    kept = {entry.dataset for entry in state.entries}
    found = [_need(cache, one, dataset, kept) for (dataset, *_), one in asked.items()]
    return CacheForecast(
        _with_room(found, cache, state), state.root, state.used, state.budget, state.free, unknown
    )


def _trainings(
    plan: Plan, jobs: Iterable[Job], datasets: OpenDatasets
) -> tuple[dict[tuple[Any, ...], _Asked], dict[str, str]]:
    """The trainings that the run has not done, by what they share, and why some are not known."""
    asked: dict[tuple[Any, ...], _Asked] = {}
    unknown: dict[str, str] = {}
    paths: set[Path] = set()
    for job in jobs:
        if not job.trained:
            continue
        path = checkpoint_path(plan, job)
        if path in paths or path.exists():
            continue
        paths.add(path)
        try:
            method = outlined(plan, job)
            if not any(can_cache(method, stage) for stage in passes(method)):
                continue
            one = _images(plan, job, datasets)
        except Exception as error:  # of a plug-in, or what else the run will say
            LOG.debug("%s: the feature cache cannot be told", job.cell.key, exc_info=error)
            unknown[display_name(job.cell.method)] = message_of(error)
            continue
        key = (job.auxiliary.name, tuple(one.samples), one.images, method.forward_key())
        asked.setdefault(key, one).methods.append(method)
    return asked, unknown


def _images(plan: Plan, job: Job, datasets: OpenDatasets) -> _Asked:
    """The images that a job's method learns from, or how many where they are not here.

    Raises:
        DataError: they are not here, and how many they are is not known.
    """
    split, limit = split_of(plan, job), plan.auxiliary_limit
    try:
        auxiliary = datasets.auxiliary(job)
        samples = auxiliary_samples(auxiliary, split, limit)
    except ZsadError:
        images = _released(job.auxiliary.name, split, limit)
        if images is None:
            raise DataError(
                f"{display_name(job.auxiliary.name)} is not here, and how many images are learned "
                "from is not known without it"
            ) from None
        return _Asked(None, (), images)
    return _Asked(auxiliary, samples, len(samples))


def _released(name: str, split: AuxiliarySplit, limit: int | None) -> int | None:
    """Images that are learned from of a dataset's release, or of a union's; None if unknown.

    Args:
        name: of the dataset, or of all parts of the union.
        split: of it.
        limit: images of each category and label, as `first_of_each` takes them; None is all.
    """
    found: Counter[tuple[str, int]] = Counter()  # categories of one name are one in a union
    for part in parts_named(name):
        cls = registry.dataset_class(part)
        categories = {key: info.counts for key, info in cls.categories.items()}
        if limit is None:
            categories = {part: cls.expected()}
        for category, counts in categories.items():
            test = counts.test_normal, counts.test_anomalous
            train = (counts.train_normal, counts.train_anomalous) if split == "all" else ()
            for place, number in enumerate((*test, *train)):
                if number is None:
                    return None
                found[category, place % 2] += number
    numbers = found.values()
    return sum(numbers if limit is None else (min(number, limit) for number in numbers)) or None


def _need(cache: FeatureCache, asked: _Asked, dataset: str, kept: set[str]) -> CacheNeed:
    """What one visual forward needs; images are hashed only where the cache has some of them."""
    first = asked.methods[0]
    specs = frozenset().union(*(method.token_specs for method in asked.methods))
    auxiliary, key = asked.auxiliary, first.forward_key()
    folder = cache.root
    if auxiliary is not None and auxiliary.name in kept:
        folder = cache.folder(key, auxiliary, asked.samples)
    cached = cache.arrays(folder, first.backbone, first.image_size, specs, asked.images)
    return CacheNeed(
        dataset,
        first.backbone.name,
        first.image_size,
        str(cached.class_token.dtype),
        asked.images,
        tuple(dict.fromkeys(method.name for method in asked.methods)),
        sum(array.nbytes for array in cached.arrays()),
        sum(array.bytes_there() for array in cached.arrays()),
    )


def _with_room(
    needs: Iterable[CacheNeed], cache: FeatureCache, state: CacheState
) -> list[CacheNeed]:
    """The needs with whether each has room, as the run asks for them one after another."""
    used, free = state.used, state.free
    found = []
    for need in needs:
        fits = not need.missing or cache.fits(need.missing, used, free)
        if fits:
            used, free = used + need.missing, free - need.missing
        found.append(replace(need, fits=fits))
    return found
