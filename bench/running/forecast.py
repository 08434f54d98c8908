"""How long a run will take: each part's measured seconds, times how often the part is done.

A run starts, computes the features that methods learn from, trains, and scores. Trainings and
units of work go to several processes at once; the features of one auxiliary dataset to one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta


@dataclass(frozen=True)
class Part:
    """One part of a run.

    Attributes:
        name: what is done.
        count: how many images or steps it takes.
        unit: "start", "image" or "step".
        at_once: processes that share it.
        each: seconds of one image or step; None where it was not measured.
    """

    name: str
    count: int
    unit: str
    at_once: int = 1
    each: float | None = None

    @property
    def seconds(self) -> float | None:
        """Wall seconds of the part."""
        return None if self.each is None else self.each * self.count / self.at_once

    def measured(self, each: float) -> Part:
        """The same part with its measured seconds."""
        return replace(self, each=each)

    def words(self) -> str:
        """One line.

        >>> Part("CoOp learns", 810, "step", 2, 0.01).words()
        'CoOp learns: 0:00:04, 810 steps of 10 ms, 2 at once'
        """
        if self.seconds is None:
            return f"{self.name}: not measured"
        line = f"{self.name}: {duration(self.seconds)}"
        if self.unit != "start":
            line += f", {self.count} {self.unit}s of {1000 * (self.each or 0):.3g} ms"
        return line + (f", {self.at_once} at once" if self.at_once > 1 else "")


@dataclass(frozen=True)
class Forecast:
    """All parts of a run, in their order."""

    parts: Sequence[Part]

    @property
    def seconds(self) -> float:
        """Wall seconds of the parts that were measured."""
        return math.fsum(part.seconds or 0.0 for part in self.parts)

    @property
    def whole(self) -> bool:
        """Every part was measured."""
        return all(part.each is not None for part in self.parts)

    def words(self) -> str:
        """The sum, and whether it is one of all parts."""
        return f"{'about' if self.whole else 'more than'} {duration(self.seconds)}"


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds; "unknown" for None."""
    return "unknown" if seconds is None else str(timedelta(seconds=round(seconds)))
