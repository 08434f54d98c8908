"""What the methods of a plan declare to cost, before anything is loaded or run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .. import registry
from ..extra_work import ExtraWork
from ..method import make_options
from ..names import display_name
from ..records.cell import Cell
from ..track import Track


@dataclass(frozen=True)
class DeclaredCost:
    """What scoring with a variant of a method costs, as its class declares it.

    Attributes:
        parameters: learned, as the paper counts them.
        track: what it sees of its target.
        work: beside the visual forward that methods share.
    """

    method: str
    variant: str
    parameters: int
    track: Track
    work: ExtraWork

    def words(self) -> str:
        """One line.

        >>> DeclaredCost("coop", "official", 9216, Track.ZERO_SHOT, ExtraWork(1)).words()
        'coop@official: 9,216 parameters, the shared visual forward and 1 of its own per image'
        """
        forwards = "the shared visual forward"
        if self.work.forwards:
            forwards += f" and {self.work.forwards:g} of its own per image"
        parts = [
            f"{self.parameters:,} parameters" if self.parameters else "no parameters",
            forwards,
        ]
        parts += [f"{self.track} track"] * (self.track is not Track.ZERO_SHOT)
        parts += [f"keeps {self.work.memory}"] * bool(self.work.memory)
        return f"{display_name(f'{self.method}@{self.variant}')}: {', '.join(parts)}"


def declared_costs(cells: Iterable[Cell]) -> list[DeclaredCost]:
    """What the methods of some cells declare, each variant with its options once."""
    found = []
    for cell in cells:
        cls = registry.method_class(cell.method)
        options = make_options(cls, cell.variant, cell.options)
        found.append(
            DeclaredCost(
                cell.method,
                cell.variant,
                cls.published_parameters,
                cls.track_of(options),
                cls.extra_work_of(options),
            )
        )
    return list(dict.fromkeys(found))
