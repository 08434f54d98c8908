"""Scoring a user's own image files: overlays, raw maps and scores on disk."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ..category import answers_to_category, refuse_references
from ..errors import DataError, UsageError
from ..files import csv_text, whole_file, write_json, write_png
from ..images import read_image
from ..method import Method, Query
from ..predict import encode_pictures
from ..records.cases import HEAT

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
RESULT_SUFFIXES = (".overlay.png", ".map.npy")
OPACITY = 0.5  # of the heat at the most anomalous pixel


@dataclass(frozen=True)
class FileScore:
    """What is written about one image file; paths are relative to the output folder."""

    path: str
    score: float | None = None
    overlay: str | None = None
    map: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class _Answer:
    """What a method says of one file."""

    path: Path
    score: float | None
    map: NDArray[np.float32] | None  # [M, M]


def predict_files(
    method: Method,
    paths: Sequence[Path],
    class_name: str,
    out: Path,
    batch_size: int = 8,
    references: Sequence[Path] = (),
) -> list[FileScore]:
    """Score image files and write what was found.

    For an image `a/part.png` below a given folder: `a/part.overlay.png` (the image under its heat)
    and `a/part.map.npy` (float32 [M, M] at the method's map size, greater is more anomalous); for
    all of them `scores.csv` and `scores.json`. Images whose results would have the same name get
    numbers (`a/part-2.overlay.png`). Heat is scaled over all the images of the call, so that
    overlays can be compared. The files of a call are the category of a transductive method.

    Args:
        method: ready to predict.
        paths: files, or folders whose image files are taken, at any depth.
        class_name: what the images show, for the prompts.
        out: folder; made if absent.
        batch_size: images per visual forward.
        references: files, or folders of them, of normal images, for a few-shot or full-shot method.

    Returns:
        A row for each file; of a file that is not a readable image it holds the error.

    Raises:
        UsageError: a path does not exist, there are no images, `out` cannot be made, or a
            result would replace one of the images, or the references do not fit the method.
        DataError: a reference is not a readable image.
        FileError: a result cannot be written; names its file.
    """
    found = image_files(paths, out)
    stems = dict(zip(found, _stems(list(found.values())), strict=True))
    _refuse_replacing(found, stems, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"folder {out} cannot be made ({error.strerror}): choose --out") from error
    normal = list(image_files(references, out)) if references else []
    refuse_references(method, len(normal))
    answers, broken = _predict(method, list(found), normal, class_name, batch_size)
    low = min((float(a.map.min()) for a in answers if a.map is not None), default=0.0)
    high = max((float(a.map.max()) for a in answers if a.map is not None), default=1.0)
    rows = [_write_result(answer, stems[answer.path], out, low, high) for answer in answers]
    rows += [FileScore(str(path), error=error) for path, error in broken.items()]
    _write_scores(out, rows)
    return rows


def _predict(
    method: Method,
    paths: Sequence[Path],
    references: Sequence[Path],
    class_name: str,
    batch_size: int,
) -> tuple[list[_Answer], dict[Path, str]]:
    """What the method says of each readable file, and what is wrong with the others."""
    readable: list[Path] = []
    broken: dict[Path, str] = {}

    def encoded(images: Mapping[Path, Image.Image]) -> Query:
        return encode_pictures(method, list(images.values()), [class_name] * len(images))

    def category() -> Iterator[Query]:
        for chosen in _batches(paths, batch_size):
            images: dict[Path, Image.Image] = {}
            for path in chosen:
                try:
                    images[path] = read_image(path)
                except DataError as error:
                    broken[path] = str(error)
            readable.extend(images)
            if images:
                yield encoded(images)

    def normal() -> Iterator[Query]:
        for chosen in _batches(references, batch_size):
            yield encoded({path: read_image(path) for path in chosen})

    found: list[_Answer] = []
    for answer in answers_to_category(method, category(), len(paths), normal()):
        scores = itertools.repeat(None) if answer.scores is None else answer.scores.tolist()
        maps = itertools.repeat(None) if answer.maps is None else answer.maps.numpy()
        found += map(_Answer, readable[len(found) :], scores, maps)
    return found, broken


def _batches(paths: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    return (paths[start : start + size] for start in range(0, len(paths), size))


def _write_result(answer: _Answer, stem: str, out: Path, low: float, high: float) -> FileScore:
    """Write the overlay and the map of one file, where the method gives maps."""
    if answer.map is None:
        return FileScore(str(answer.path), answer.score)
    overlay_name, map_name = (stem + suffix for suffix in RESULT_SUFFIXES)
    picture = overlay(read_image(answer.path), answer.map, low, high)
    write_png(out / overlay_name, picture)
    with whole_file(out / map_name) as file:
        np.save(file, answer.map)
    return FileScore(str(answer.path), answer.score, overlay_name, map_name)


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


def overlay(
    image: Image.Image, anomaly_map: NDArray[np.float32], low: float, high: float
) -> Image.Image:
    """An RGB image with its anomaly map [M, M] laid over it as heat.

    Args:
        image: of any size; the map is resized to it.
        anomaly_map: greater is more anomalous.
        low: value that is shown as no heat.
        high: value that is shown as full heat.
    """
    from matplotlib import colormaps

    heat = np.asarray(Image.fromarray(anomaly_map).resize(image.size, Image.Resampling.BILINEAR))
    level = np.clip((heat - low) / max(high - low, 1e-12), 0, 1)
    colour = colormaps[HEAT](level)[..., :3] * 255
    opacity = (OPACITY * (0.3 + 0.7 * level))[..., None]
    mixed = np.asarray(image) * (1 - opacity) + colour * opacity
    return Image.fromarray(mixed.round().astype(np.uint8))


def _stems(names: Sequence[PurePath]) -> list[str]:
    """A relative name for each image's results, without suffix; no two are equal, in any case.

    >>> _stems([PurePath("a.jpg"), PurePath("a.png"), PurePath("a-2.png"), PurePath("b/a.png")])
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


def _refuse_replacing(images: Iterable[Path], stems: Mapping[Path, str], out: Path) -> None:
    """Raise UsageError if a result would be written over one of the images."""
    given = {path.resolve() for path in images}
    for stem in stems.values():
        for suffix in RESULT_SUFFIXES:
            if (out / (stem + suffix)).resolve() in given:
                raise UsageError(f"image {out / (stem + suffix)} would be replaced: choose --out")


def _write_scores(out: Path, rows: Sequence[FileScore]) -> None:
    table = [asdict(row) for row in rows]
    write_json(out / "scores.json", table)
    safe = [{k: csv_text(v) if isinstance(v, str) else v for k, v in row.items()} for row in table]
    with whole_file(out / "scores.csv") as file:
        text = pd.DataFrame(safe).to_csv(index=False)
        file.write(text.encode("utf-8", "backslashreplace"))
