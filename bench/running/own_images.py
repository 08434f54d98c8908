"""A user's own image files: which there are below the paths of a call, and their results' names."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from ..errors import UsageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
RESULT_SUFFIXES = (".overlay.png", ".map.npy")


def image_files(paths: Sequence[Path], out: Path | None = None) -> dict[Path, PurePath]:
    """Image files and the names that their results keep, in the order of the call.

    Args:
        paths: files, named by their file name, and folders, whose image files are taken at any
            depth, sorted, and named relative to the folder. Hidden files are left out.
        out: the folder of the results; files below it are results of an earlier call.

    Raises:
        UsageError: a path does not exist, nothing is left, or `out` is one of the folders.
    """
    results = None if out is None else out.resolve()
    found: dict[Path, PurePath] = {}
    for path in paths:
        if path.is_dir():
            if results == path.resolve():
                raise UsageError(f"--out {out} is the folder of the images: choose another")
            for file in _files_below(path, results):
                found.setdefault(file, file.relative_to(path))
        elif path.is_file():
            found.setdefault(path, PurePath(path.name))
        else:
            raise UsageError(f"image {path} does not exist")
    if not found:
        raise UsageError(f"no image files in {', '.join(map(str, paths))}")
    return found


def _files_below(folder: Path, results: Path | None) -> Iterator[Path]:
    """The image files of a folder at any depth, without hidden ones and those of `results`."""
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        if hidden or file.suffix.lower() not in SUFFIXES or not file.is_file():
            continue
        if results is None or not file.resolve().is_relative_to(results):
            yield file


def result_stems(names: Sequence[PurePath]) -> list[str]:
    """A relative name for each image's results, without suffix; no two are equal, in any case.

    >>> result_stems([*map(PurePath, ("a.jpg", "a.png", "a-2.png", "b/a.png"))])
    ['a', 'a-3', 'a-2', 'b/a']
    """
    plain = [name.with_suffix("").as_posix() for name in names]
    reserved = {stem.casefold() for stem in plain}
    taken: dict[str, str] = {}
    for stem in plain:
        chosen, numbers = stem, itertools.count(2)
        while chosen.casefold() in taken or (chosen != stem and chosen.casefold() in reserved):
            chosen = f"{stem}-{next(numbers)}"
        taken[chosen.casefold()] = chosen
    return list(taken.values())


def refuse_replacing(images: Iterable[Path], stems: Mapping[Path, str], out: Path) -> None:
    """Raise UsageError if a result would be written over one of the images."""
    given = {path.resolve() for path in images}
    for stem in stems.values():
        for suffix in RESULT_SUFFIXES:
            if (out / (stem + suffix)).resolve() in given:
                raise UsageError(f"image {out / (stem + suffix)} would be replaced: choose --out")
