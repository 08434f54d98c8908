"""Parameters, times and memory of the methods of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from ..analysis import published
from ..analysis.matrix import EvaluatedMethod, Matrix
from ..records.record import Record


@dataclass(frozen=True)
class Cost:
    """What a method took: times over all its images, the longest fitting and the greatest memory.

    What was not recorded is None.

    Attributes:
        effective, published: learned parameters here, and as the paper counts them.
        ms_per_image: visual forward and the method's own part.
        printed: the paper's time per image on an RTX 3090, in milliseconds.
        width: length of the time's bar in percent.
    """

    method: EvaluatedMethod
    effective: int | None
    published: int | None
    train_seconds: float | None
    ms_per_image: float | None
    own_ms_per_image: float | None
    memory_mb: float | None
    printed: float | None
    devices: str
    width: float = 0.0


def costs(matrix: Matrix) -> list[Cost]:
    """Parameters, times and memory of every method that finished a cell."""
    found = []
    for method in matrix.methods:
        records = [r for target in matrix.datasets for r in matrix.finished(method, target)]
        if records:
            found.append(_cost(method, records))
    slowest = max((c.ms_per_image or 0 for c in found), default=0)
    if not slowest:
        return found
    return [dataclasses.replace(c, width=100 * (c.ms_per_image or 0) / slowest) for c in found]


def _cost(method: EvaluatedMethod, records: Sequence[Record]) -> Cost:
    def timings(name: str) -> list[float]:
        return [r.timing[name] for r in records if name in r.timing]

    images = sum(timings("images"))
    forward, own = sum(timings("seconds_forward")), sum(timings("seconds_predict"))
    per_image = timings("ms_per_image")
    mean = sum(per_image) / len(per_image) if per_image else None
    model = method.printed_as([cost.model for cost in published.costs()])
    printed = [cost.infer_ms for cost in published.costs() if cost.model == model]
    devices = sorted({str(r.provenance.get("device", "")) for r in records} - {""})
    return Cost(
        method,
        records[0].effective_parameters,
        records[0].published_parameters,
        max(timings("seconds_train"), default=None),
        1000 * (forward + own) / images if images and forward + own else mean,
        1000 * own / images if images and own else None,
        max(timings("peak_memory_mb"), default=None),
        None if method.options else next(iter(printed), None),
        ", ".join(devices),
    )
