"""Scoring a user's own image files: overlays, raw maps and scores on disk."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..analysis.formats import csv_text
from ..errors import DataError, UsageError
from ..files import whole_file, write_json
from ..images import read_image
from ..method import Method
from ..predict import predict_images

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
RESULT_SUFFIXES = (".overlay.png", ".map.npy")
OPACITY = 0.5  # of the heat at the most anomalous pixel


@dataclass(frozen=True)
class FileScore:
    """What is written about one image file; paths are relative to the output folder."""

    path: str
    score: float | None
    overlay: str | None
    map: str | None
    error: str | None = None


def predict_files(
    method: Method,
    paths: Sequence[Path],
    class_name: str,
    out: Path,
    batch_size: int = 8,
) -> list[FileScore]:
    """Score image files and write what was found.

    For an image `a/part.png` below a given folder: `a/part.overlay.png` (the image under its heat)
    and `a/part.map.npy` (float32 [H, W] at the method's map size, greater is more anomalous); for
    all of them `scores.csv` and `scores.json`. Images whose results would have the same name get
    numbers (`a/part-2.overlay.png`). Heat is scaled over all the images of the call, so that
    overlays can be compared.

    Args:
        method: ready to predict.
        paths: files, or folders whose image files are taken, at any depth.
        class_name: what is in the pictures, for the prompts.
        out: folder; made if absent.
        batch_size: images per visual forward.

    Returns:
        A row for each file; of a file that is no readable image it holds the error.

    Raises:
        UsageError: a path does not exist, there is no image at all, `out` cannot be made, or a
            result would replace one of the images.
        FileError: a result cannot be written; names its file.
    """
    found = image_files(paths, out)
    given_files = list(found)
    stems = dict(zip(found, _stems(list(found.values())), strict=True))
    _refuse_replacing(found, stems, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"folder {out} cannot be made ({error.strerror}): choose --out") from error
    broken: dict[Path, str] = {}
    files: list[Path] = []
    maps: list[NDArray[np.float32] | None] = []
    scores: list[float | None] = []
    for start in range(0, len(given_files), batch_size):
        readable = _readable(given_files[start : start + batch_size], broken)
        if not readable:
            continue
        files += [path for path, _ in readable]
        images = [image for _, image in readable]
        prediction = predict_images(method, images, class_name, batch_size=batch_size)
        size = len(images)
        maps += [None] * size if prediction.maps is None else list(prediction.maps.numpy())
        scores += [None] * size if prediction.scores is None else prediction.scores.tolist()
    given = [m for m in maps if m is not None]
    low = min((float(m.min()) for m in given), default=0.0)
    high = max((float(m.max()) for m in given), default=1.0)
    rows = []
    for path, anomaly_map, score in zip(files, maps, scores, strict=True):
        overlay_name = map_name = None
        if anomaly_map is not None:
            overlay_name, map_name = (stems[path] + suffix for suffix in RESULT_SUFFIXES)
            picture = overlay(read_image(path), anomaly_map, low, high)
            with whole_file(out / overlay_name) as file:
                picture.save(file, format="PNG")
            with whole_file(out / map_name) as file:
                np.save(file, anomaly_map)
        rows.append(FileScore(str(path), score, overlay_name, map_name))
    rows += [FileScore(str(path), None, None, None, error) for path, error in broken.items()]
    _write_scores(out, rows)
    return rows


def _readable(paths: Sequence[Path], broken: dict[Path, str]) -> list[tuple[Path, Image.Image]]:
    """The images that can be read; what is wrong with the others goes into `broken`."""
    found = []
    for path in paths:
        try:
            found.append((path, read_image(path)))
        except DataError as error:
            broken[path] = str(error)
    return found


def image_files(paths: Sequence[Path], out: Path | None = None) -> dict[Path, PurePath]:
    """Image files and the names that their results keep, in the order of the call.

    Args:
        paths: files, named by their file name, and folders, whose image files are taken at any
            depth, sorted, and named relative to the folder. Hidden files are left out.
        out: the folder of the results; what lies below it is the result of an earlier call.

    Raises:
        UsageError: a path does not exist, nothing is left, or `out` is one of the folders.
    """
    results = None if out is None else out.resolve()
    found: dict[Path, PurePath] = {}
    for path in paths:
        if path.is_dir():
            folder = path.resolve()
            if results == folder:
                raise UsageError(f"--out {out} is the folder of the images: choose another")
            below = results is not None and results.is_relative_to(folder)
            for file in sorted(path.rglob("*")):
                name = file.relative_to(path)
                if file.suffix.lower() not in SUFFIXES or not file.is_file():
                    continue
                if any(part.startswith(".") for part in name.parts):
                    continue
                if below and results is not None and file.resolve().is_relative_to(results):
                    continue
                found.setdefault(file, name)
        elif path.is_file():
            found.setdefault(path, PurePath(path.name))
        else:
            raise UsageError(f"image {path} does not exist")
    if not found:
        raise UsageError(f"no image files in {', '.join(map(str, paths))}")
    return found


def overlay(
    image: Image.Image, anomaly_map: NDArray[np.float32], low: float, high: float
) -> Image.Image:
    """An RGB image with its anomaly map [H, W] laid over it as heat.

    Args:
        image: of any size; the map is resized to it.
        anomaly_map: greater is more anomalous.
        low: value that is shown as no heat.
        high: value that is shown as full heat.
    """
    from matplotlib import colormaps

    heat = np.asarray(Image.fromarray(anomaly_map).resize(image.size, Image.Resampling.BILINEAR))
    level = np.clip((heat - low) / max(high - low, 1e-12), 0, 1)
    colour = colormaps["inferno"](level)[..., :3] * 255
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
    taken: set[str] = set()
    stems = []
    for stem in plain:
        chosen, number = stem, 1
        while chosen.casefold() in taken or (number > 1 and chosen.casefold() in reserved):
            number += 1
            chosen = f"{stem}-{number}"
        taken.add(chosen.casefold())
        stems.append(chosen)
    return stems


def _refuse_replacing(images: Iterable[Path], stems: Mapping[Path, str], out: Path) -> None:
    """Raise UsageError if a result would be written over one of the images."""
    given = {path.resolve() for path in images}
    for stem in stems.values():
        for suffix in RESULT_SUFFIXES:
            if (out / (stem + suffix)).resolve() in given:
                raise UsageError(f"image {out / (stem + suffix)} would be replaced: choose --out")


def _write_scores(out: Path, rows: Sequence[FileScore]) -> None:
    write_json(out / "scores.json", [asdict(row) for row in rows])
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["path", "score", "overlay", "map", "error"])
    for row in rows:
        texts = (row.overlay or "", row.map or "", row.error or "")
        writer.writerow([csv_text(row.path), row.score, *map(csv_text, texts)])
    with whole_file(out / "scores.csv") as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))
