"""What the authors of newer methods print, in their papers and through their released codes.

The numbers are in results/published/newer_methods.csv; names of datasets are spelled as in the
FAPrompt paper, which has none of these methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from ..metric_table import METRICS
from ..names import normalize_name
from . import published as paper
from .matrix import EvaluatedMethod

Origin = Literal["paper", "release"]
ORIGINS: Mapping[Origin, str] = {"paper": "the paper", "release": "the released code"}


@dataclass(frozen=True)
class NewerNumber:
    """A number that the authors of a newer method print.

    Attributes:
        metric: name as in records ("pixel_pro").
        value: percent, with the decimals that are printed.
        origin: in the paper, or by the released code.
        image_size: side in pixels.
        track: what the method saw of the target dataset; "" where the number is the same in every
            track.
        source: what was read.
    """

    method: str
    dataset: str
    metric: str
    value: float
    origin: Origin
    image_size: int
    track: str
    source: str


@cache
def newer_numbers() -> tuple[NewerNumber, ...]:
    """All numbers of newer methods: a paper's before those of its released code."""
    return tuple(read_number(NewerNumber, row) for row in paper.rows("newer_methods.csv"))


def printed_for(method: EvaluatedMethod, dataset: str) -> dict[str, NewerNumber]:
    """What is printed for a newer method on a dataset, by metric: the paper's where it has one.

    Numbers of another track than the method's are not among them.
    """
    found: dict[str, NewerNumber] = {}
    for number in newer_numbers():
        in_track = number.track in ("", method.track)
        if in_track and means(method, number.method, dataset, number.dataset):
            found.setdefault(number.metric, number)
    return found


def is_newer(method: EvaluatedMethod) -> bool:
    """Whether numbers of the method's authors are known beside the FAPrompt paper."""
    return method.method_among(n.method for n in newer_numbers()) is not None


def source_notes(numbers: Sequence[NewerNumber]) -> tuple[str, ...]:
    """Where the printed numbers of a cell are from, and what else their authors print."""
    sources: dict[str, list[str]] = {}
    for number in numbers:
        where = f"{ORIGINS[number.origin]} ({number.source})"
        sources.setdefault(where, []).append(METRICS[number.metric].title)
    notes = [f"printed {', '.join(titles)}: from {where}" for where, titles in sources.items()]
    for number in numbers:
        notes += [
            f"{ORIGINS[other.origin]} prints {METRICS[other.metric].title} {other.value:g} "
            f"({other.source})"
            for other in newer_numbers()
            if _key(other) == _key(number) and other is not number
        ]
    return tuple(notes)


def _key(number: NewerNumber) -> tuple[str, str, str]:
    return number.method, number.dataset, number.metric


def means(method: EvaluatedMethod, name: str, dataset: str, printed: str) -> bool:
    """Whether a printed name of a method, and one of a dataset, stand for these two."""
    if normalize_name(dataset) != normalize_name(printed) or method.ablation is not None:
        return False
    return method.method_among([name]) is not None


def read_number(kind: type[paper.T], row: Mapping[str, str]) -> paper.T:
    """A row of a file with level and metric apart, as an object with the name of the metric."""
    return paper.read_object(kind, {**row, "metric": f"{row['level']}_{row['metric']}"})
