"""A dataset that is tested on must not be learned from: the rule that makes a result zero-shot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..content import content_hashes
from ..dataset import Dataset, Sample
from ..errors import DataError, UsageError
from ..names import display_name, registry_name
from ..union import Union

MARK = 16  # hexadecimal digits of a hash: two of a million images agree once in 10^7 datasets


def refuse_leakage(
    auxiliary: Dataset, target: Dataset, samples: Sequence[Sample] | None = None
) -> None:
    """Refuse to learn from a dataset that shares anything with the one that is tested on.

    They do if they have one name (a user's own folders may share the name of their loader),
    if a file of one is a file of the other, or if two of their files have the same content. Both
    splits of the target count: learning from its train split is not zero-shot either.

    Args:
        auxiliary: what would be learned from; each dataset of a union is held to the rule.
        target: what will be tested on.
        samples: of the auxiliary dataset; None is all of them.

    Raises:
        UsageError: they share something; the message names a file.
    """
    chosen = list(samples if samples is not None else _all_samples(auxiliary))
    if isinstance(auxiliary, Union):
        for part in auxiliary.parts:
            refuse_leakage(part, target, [s for s in chosen if auxiliary.part_of(s) is part])
        return
    same_name = registry_name(auxiliary.name) == registry_name(target.name)
    if same_name and auxiliary.domain != "custom":
        raise UsageError(
            f"'{display_name(auxiliary.name)}' cannot be learned from and tested on: choose "
            "another auxiliary dataset with --auxiliary"
        )
    learned = _files(chosen)
    tested = _files(_all_samples(target))
    shared = sorted(learned & tested) or same_content(learned, tested)
    if shared:
        raise UsageError(
            f"auxiliary dataset '{display_name(auxiliary.name)}' and target "
            f"'{display_name(target.name)}' share "
            f"{len(shared)} images ({shared[0]} is one): choose another auxiliary dataset"
        )


def _all_samples(dataset: Dataset) -> list[Sample]:
    """Both splits; a split that is not on disk has no samples."""
    found = dataset.samples("test")
    try:
        return [*found, *dataset.samples("train")]
    except DataError:
        return found


def _files(samples: Iterable[Sample]) -> frozenset[Path]:
    """The image files, links followed."""
    return frozenset(sample.image_path.resolve() for sample in samples)


def same_content(learned: frozenset[Path], tested: frozenset[Path]) -> list[Path]:
    """Files of `tested` whose bytes are those of a file of `learned`.

    Only files of equal size are read.
    """
    sizes = {path: path.stat().st_size for path in (*learned, *tested) if path.is_file()}
    both = {sizes.get(p) for p in learned} & {sizes.get(p) for p in tested} - {None}
    alike = [path for path, size in sizes.items() if size in both]
    content = content_hashes(alike)
    known = {content[path] for path in alike if path in learned}
    return sorted(path for path in alike if path in tested and content[path] in known)


def content_marks(samples: Iterable[Sample]) -> list[str]:
    """What tells the images of a training again, for a checkpoint's header: size and hash of each.

    The size saves reading: only images of a size that was learned from can be the same.
    """
    content = content_hashes(_files(samples))
    return sorted({f"{path.stat().st_size}-{sha[:MARK]}" for path, sha in content.items()})


def marked_images(dataset: Dataset, marks: Iterable[str]) -> list[Path]:
    """The images of a dataset, in either split, that have one of the marks."""
    known = frozenset(marks)
    sizes = {mark.partition("-")[0] for mark in known}
    files = [path for path in _files(_all_samples(dataset)) if path.is_file()]
    alike = [path for path in files if str(path.stat().st_size) in sizes]
    content = content_hashes(alike)
    return sorted(p for p, sha in content.items() if f"{p.stat().st_size}-{sha[:MARK]}" in known)
