"""Which methods cannot be told from the best one: on a dataset, and in the mean over a domain.

The images of a dataset are resampled once for all methods of a track, as `compare` resamples them
for two, so that its differences and p-values are the same. They are corrected over the methods that
are held against the best one (Holm).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .matrix import EvaluatedMethod, Matrix, TargetDataset
from .resampling import DEFAULT_SETTINGS, Settings, pair_images
from .statistics import Floats, ImageMetric, Interval, PairedTest, holm, interval, paired

ALPHA = 0.05


@dataclass(frozen=True)
class Standing:
    """How sure a method's value is, and its distance from the best one.

    Attributes:
        interval: of the value, in [0, 1].
        test: the best value minus this one; None of the best method itself.
        p_holm: the test's p-value, corrected over the other methods.
    """

    interval: Interval
    test: PairedTest | None = None
    p_holm: float | None = None

    @property
    def is_near_best(self) -> bool:
        """Whether the method is not the best one, and not distinguishable from it."""
        return self.p_holm is not None and self.p_holm > ALPHA


Standings = Mapping[EvaluatedMethod, Standing]


@dataclass(frozen=True)
class Resampled:
    """A metric of the methods on a dataset: as it is, and on the same resampled images.

    Attributes:
        values: by method, the mean over its seeds.
        replicates: by method, [R].
    """

    values: Mapping[EvaluatedMethod, float]
    replicates: Mapping[EvaluatedMethod, Floats]

    def standings(self, level: float = DEFAULT_SETTINGS.level) -> Standings:
        """Each method against the best one; without methods none."""
        if not self.values:
            return {}
        values, replicates = self.values, self.replicates
        best = max(values, key=values.__getitem__)
        tests = {
            method: paired(values[best] - value, replicates[best] - replicates[method], level)
            for method, value in values.items()
            if method != best
        }
        corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
        return {
            method: Standing(
                interval(value, replicates[method], level),
                tests.get(method),
                corrected.get(method),
            )
            for method, value in values.items()
        }


def resampled(
    matrix: Matrix,
    dataset: TargetDataset,
    metrics: Sequence[ImageMetric],
    settings: Settings = DEFAULT_SETTINGS,
) -> dict[ImageMetric, Resampled]:
    """Image-level metrics of all methods of one track on a dataset.

    Nothing where the methods were not scored on the same images, or have no scores.
    """
    finished = {method: matrix.finished(method, dataset) for method in matrix.methods}
    finished = {method: records for method, records in finished.items() if records}
    images = pair_images([record for own in finished.values() for record in own], ())
    if images.why_not:
        return {}
    ends = np.cumsum([len(own) for own in finished.values()])[:-1]
    found = {}
    for metric, (values, replicates) in settings.bootstrap(images, metrics).items():
        rows = zip(finished, np.split(values, ends), np.split(replicates, ends), strict=True)
        by_method = {method: (float(v.mean()), r.mean(axis=0)) for method, v, r in rows}
        found[metric] = Resampled(
            {method: value for method, (value, _) in by_method.items()},
            {method: own for method, (_, own) in by_method.items()},
        )
    return found


def mean_of(datasets: Iterable[Resampled]) -> Resampled:
    """The mean over datasets, each resampled on its own, of the methods that all of them have."""
    every = list(datasets)
    methods = [m for m in every[0].values if all(m in own.values for own in every)] if every else []
    return Resampled(
        {m: float(np.mean([own.values[m] for own in every])) for m in methods},
        {m: np.mean([own.replicates[m] for own in every], axis=0) for m in methods},
    )
