"""Which mask belongs to which image: pairs by stem, and what is left over or odd."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ..bench.errors import DataError
from ._folders import few
from ._listing import Listing

Key = TypeVar("Key")


def pair_masks(
    images: Sequence[Path],
    masks: Sequence[Path],
    endings: Sequence[str],
    found: Listing,
    roots: tuple[Path, Path] | None = None,
) -> dict[Path, Path]:
    """The mask of each image by stem, in any case; what is left over or odd goes to `found`.

    Args:
        images: anomalous images; all of them should have a mask.
        masks: the files to choose from.
        endings: what a mask's stem may add to the image's, in order of preference ("_mask", "").
        found: takes a gap for each image without a mask and a fault for masks without an image,
            for images that share a mask, and for stems that differ only in case.
        roots: folders that images and masks lie below; a mask in the subfolder of its image goes
            before others of its stem.

    Raises:
        DataError: an image has two masks, or images of different subfolders fit one mask.
    """
    by_stem = grouped(masks, lambda mask: mask.stem.lower())
    pairs: dict[Path, Path] = {}
    for image in images:
        stems = [image.stem + ending for ending in endings]
        named = (by_stem.get(stem.lower()) for stem in stems)
        fitting = next((some for some in named if some), [])
        near = [mask for mask in fitting if _same_place(image, mask, roots)] or fitting
        exact = [mask for mask in near if mask.stem in stems] or near
        if len(exact) > 1:
            raise _two_masks(image, exact)
        if exact:
            pairs[image] = exact[0]
        else:
            found.tell_no_mask(image)
    _tell_shared(pairs, found)
    used = set(pairs.values())
    rivals = {(image.stem + ending): image for image in pairs for ending in endings}
    unused = [mask for mask in masks if mask not in used]
    for mask in unused:
        image_of = rivals.get(mask.stem)
        if image_of is not None and _same_place(image_of, mask, roots):
            raise _two_masks(image_of, [pairs[image_of], mask])
    found.tell_unused(unused)
    return pairs


def grouped(paths: Iterable[Path], key: Callable[[Path], Key]) -> dict[Key, list[Path]]:
    """Paths by what a function says of them."""
    groups: dict[Key, list[Path]] = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return groups


def _two_masks(image: Path, masks: Sequence[Path]) -> DataError:
    return DataError(f"image {image} has {len(masks)} masks, {few(masks)}: keep one of them")


def _same_place(image: Path, mask: Path, roots: tuple[Path, Path] | None) -> bool:
    """Whether a mask lies in the subfolder that its image lies in."""
    if roots is None:
        return True
    place = image.parent.relative_to(roots[0])
    return mask.parent.relative_to(roots[1]) in (place, Path(roots[0].name) / place)


def _tell_shared(pairs: Mapping[Path, Path], found: Listing) -> None:
    """Faults for images that share a mask, and for names that differ only in case."""
    for mask, images in grouped(pairs, pairs.__getitem__).items():
        if len({image.parent for image in images}) > 1:
            raise DataError(f"mask {mask} fits {len(images)} images, {few(images)}: rename them")
        if len(images) > 1:
            found.faults.append(f"images {few(images)} share the mask {mask}")
    for images in grouped(pairs, lambda image: str(image).lower()).values():
        if len(images) > 1:
            found.faults.append(f"images {few(images)} differ only in case")


def normal_masks(
    images: Sequence[Path], masks: Sequence[Path], endings: Sequence[str]
) -> dict[Path, Path]:
    """The masks that normal images have; they should be empty."""
    by_stem = {mask.stem.lower(): mask for mask in masks}
    pairs: dict[Path, Path] = {}
    for image in images:
        for ending in endings:
            if (mask := by_stem.get((image.stem + ending).lower())) is not None:
                pairs.setdefault(image, mask)
    return pairs
