"""Which images of a category are worth a look: where methods disagree, where all fail, all find.

An image is judged for each method by its quality in [0, 1]: the share of the images of the other
label that it is ordered right against, or where there are none how well its region is located.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Choice = Literal["disagree", "fail", "find", "random"]
CHOICES: Final[Mapping[Choice, str]] = {
    "disagree": "Methods disagree most",
    "fail": "All fail",
    "find": "All find",
    "random": "Random",
}
"""The ways to choose images, and their titles."""


@dataclass(frozen=True)
class Judged:
    """An image, its label (0 normal, 1 anomalous) and its quality for each method that has one."""

    name: str
    label: int
    qualities: tuple[float, ...] = ()


def drawn(name: str) -> bytes:
    """The place of an image in a random order that depends on its name alone."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


def ranked(images: Sequence[Judged], choice: Choice) -> list[Judged]:
    """The images that a choice is about, the first choice first; ties in the random order.

    A choice by quality is about the images that have one. That all methods find an image is said of
    anomalous images, unless there are none.
    """
    known = [image for image in images if image.qualities]
    anomalous = [image for image in known if image.label]
    about = {"find": anomalous or known, "random": images}.get(choice, known)
    return sorted(about, key=lambda image: (_VALUE[choice](image.qualities), drawn(image.name)))


_VALUE: Mapping[Choice, Callable[[tuple[float, ...]], float]] = {
    "disagree": lambda qualities: min(qualities) - max(qualities),
    "fail": max,
    "find": lambda qualities: -min(qualities),
    "random": lambda _: 0.0,
}


def choose(
    images: Sequence[Judged], count: int, taken: Collection[str] = ()
) -> dict[Choice, list[Judged]]:
    """The first `count` images of each choice; an image is in one of them only.

    Args:
        images: of a category.
        count: of images for each choice.
        taken: names of images that are not chosen.
    """
    gone = set(taken)
    found: dict[Choice, list[Judged]] = {}
    for choice in CHOICES:
        free = [image for image in ranked(images, choice) if image.name not in gone]
        found[choice] = free[:count]
        gone |= {image.name for image in found[choice]}
    return found


def spread(images: Sequence[Judged], count: int, taken: Collection[str] = ()) -> list[str]:
    """Names of at most `count` images: a quarter for each choice, the rest in random order.

    Args:
        images: of a category.
        count: of images in all.
        taken: names of images that are chosen already and not counted.
    """
    found = choose(images, count // len(CHOICES), taken)
    names = [image.name for own in found.values() for image in own]
    return [*names, *_others(images, {*names, *taken})][:count]


def _others(images: Sequence[Judged], taken: Collection[str]) -> Iterator[str]:
    yield from (image.name for image in ranked(images, "random") if image.name not in taken)
