"""What evaluated methods cost, beside Table 6 of the FAPrompt paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from . import published as paper
from .matrix import EvaluatedMethod, Matrix


@dataclass(frozen=True)
class Cost:
    """What a method cost over all its finished cells; what was not recorded is None.

    Attributes:
        method: whose cost it is.
        parameters: as the paper counts them, the most of any cell.
        trained_parameters: those that receive a gradient, the most of any cell.
        train_ms_per_batch: of the slowest training.
        train_seconds: of the longest training.
        ms_per_image: the visual forward in full and the method's own part, over all images.
        own_ms_per_image: the method's own part.
        memory_mb: the greatest peak.
        own_forwards: visual forwards per image beside the shared one, as the method declares.
        keeps: what it declares to keep in memory while it scores; "" is nothing to speak of.
        devices: where it was measured.
        printed: the method's row of Table 6.
    """

    method: EvaluatedMethod
    parameters: float | None
    trained_parameters: float | None
    train_ms_per_batch: float | None
    train_seconds: float | None
    ms_per_image: float | None
    own_ms_per_image: float | None
    memory_mb: float | None
    own_forwards: float | None
    keeps: str
    devices: tuple[str, ...]
    printed: paper.PrintedCost | None

    @property
    def images_per_second(self) -> float | None:
        """The inverse of the time per image."""
        return 1000 / self.ms_per_image if self.ms_per_image else None


def costs(matrix: Matrix) -> list[Cost]:
    """The cost of every method that finished a cell."""
    finished = {EvaluatedMethod.of(record) for record in matrix.finished_records}
    return [cost_of(matrix, method) for method in matrix.methods if method in finished]


def cost_of(matrix: Matrix, method: EvaluatedMethod) -> Cost:
    """The cost of one method; every number is None where no cell of it finished."""
    records = [record for record in matrix.of_method(method) if record.error is None]
    timings = [record.timing for record in records]
    images = sum(timing.get("images", 0.0) for timing in timings)
    seconds = sum(map(_seconds, timings))
    own = sum(timing.get("seconds_predict", 0.0) for timing in timings)
    declared = [record.extra_work for record in records if record.extra_work is not None]
    devices = {str(record.provenance.get("device") or "") for record in records}
    printed = {cost.method: cost for cost in paper.costs()}
    return Cost(
        method,
        _most(record.published_parameters for record in records),
        _most(record.effective_parameters for record in records),
        _most(timing.get("train_ms_per_batch") for timing in timings),
        _most(timing.get("seconds_train") for timing in timings),
        1000 * seconds / images if images and seconds else None,
        1000 * own / images if images and own else None,
        _most(timing.get("peak_memory_mb") for timing in timings),
        _most(work.forwards for work in declared),
        "; ".join(dict.fromkeys(work.memory for work in declared if work.memory)),
        tuple(sorted(devices - {""})),
        printed.get(method.printed_as(printed) or ""),
    )


def _seconds(timing: Mapping[str, float]) -> float:
    measured = timing.get("seconds_forward", 0.0) + timing.get("seconds_predict", 0.0)
    return measured or timing.get("ms_per_image", 0.0) * timing.get("images", 0.0) / 1000


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
