"""The normal training images that a few-shot method is shown; none may be a test image.

A reference belongs to the train split of the target dataset itself, which the zero-shot tracks may
not touch at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..dataset import Box, Dataset, Sample
from ..errors import DataError
from ..names import display_name
from ..options import Options
from ..track import Track
from .leakage import same_content

if TYPE_CHECKING:
    from ..method import Method


def shots_of(method: type[Method], options: Options) -> int | None:
    """How many normal images a few-shot variant is shown; None is all, of a full-shot one."""
    return getattr(options, "shots", None) if method.track_of(options) is Track.FEW_SHOT else None


def normal_references(
    dataset: Dataset, category: str, shots: int | None, seed: int
) -> list[Sample]:
    """Normal training images of a category, drawn by the seed and by their names.

    The order of the files does not matter, and fewer shots are the first of more.

    Args:
        dataset: the target.
        category: of it.
        shots: how many; None is all of them.
        seed: other seeds draw other images.

    Raises:
        DataError: there are too few, or one is a test image; names the dataset and the fix.
    """
    normal = [s for s in dataset.samples("train") if s.label == 0 and s.category == category]
    if len(normal) < (shots or 1):
        raise DataError(
            f"{display_name(dataset.name)} has {len(normal)} normal training images of "
            f"'{category}' and {shots or 1} are needed as references: get its train split, or "
            "choose methods that need none"
        )
    drawn = sorted(normal, key=lambda sample: _draw(seed, sample.name(dataset.root)))
    chosen = drawn[:shots]
    refuse_tested(dataset, chosen)
    return chosen


def references_of(dataset: Dataset, shots: int | None, seed: int) -> list[Sample]:
    """The references of all categories that are tested.

    Raises:
        DataError: as `normal_references`.
    """
    categories = dict.fromkeys(sample.category for sample in dataset.samples("test"))
    return [s for c in categories for s in normal_references(dataset, c, shots, seed)]


def has_normal_images(dataset: Dataset) -> bool:
    """Whether a dataset has normal training images at all."""
    return any(sample.label == 0 for sample in dataset.samples("train"))


def refuse_tested(dataset: Dataset, references: Sequence[Sample]) -> None:
    """Refuse references that are test images of the dataset, by their place or by their content.

    Raises:
        DataError: names one of them.
    """
    tested: dict[str, list[Box | None]] = {}
    test = dataset.samples("test")
    for sample in test:
        tested.setdefault(str(sample.image_path.resolve()), []).append(sample.crop)
    shown = {sample.image_path.resolve() for sample in references}
    same = [
        sample.image_path
        for sample in references
        if _is_among(sample.crop, tested.get(str(sample.image_path.resolve()), ()))
    ]
    others = frozenset(path for path in shown if str(path) not in tested)
    same += same_content(others, frozenset(s.image_path.resolve() for s in test))
    if same:
        raise DataError(
            f"{same[0]} is a test image of {display_name(dataset.name)} and cannot be a reference: "
            "correct the train split"
        )


def _draw(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed} {name}".encode(errors="surrogateescape")).hexdigest()


def _is_among(piece: Box | None, pieces: Iterable[Box | None]) -> bool:
    """Whether a piece of an image, or the whole of it, shares pixels with one of others."""
    for other in pieces:
        if piece is None or other is None:
            return True
        across = max(piece.left, other.left) < min(piece.right, other.right)
        if across and max(piece.top, other.top) < min(piece.bottom, other.bottom):
            return True
    return False
