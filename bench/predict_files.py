"""Scoring a user's own image files: overlays, raw maps and scores on disk."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import DataError, UsageError
from .images import read_image
from .method import Method
from .predict import predict_images
from .records import write_json

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
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

    For an image `part.png`: `part.overlay.png` (the image under its heat), `part.map.npy` (float32
    [H, W] at the method's map size, greater is more anomalous); and `scores.csv`, `scores.json`
    for all. Heat is scaled over all the images of the call, so that overlays can be compared.

    Args:
        method: ready to predict.
        paths: files, or folders whose image files are taken.
        class_name: what is in the pictures, for the prompts.
        out: folder; made if absent.
        batch_size: images per visual forward.

    Returns:
        A row for each file; of a file that is no readable image it holds the error.

    Raises:
        UsageError: a path does not exist, there is no image at all, or `out` cannot be made.
    """
    given_files = image_files(paths)
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
    for path, stem, anomaly_map, score in zip(files, _stems(files), maps, scores, strict=True):
        overlay_name = map_name = None
        if anomaly_map is not None:
            overlay_name, map_name = f"{stem}.overlay.png", f"{stem}.map.npy"
            overlay(read_image(path), anomaly_map, low, high).save(out / overlay_name)
            np.save(out / map_name, anomaly_map)
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


def image_files(paths: Sequence[Path]) -> list[Path]:
    """Image files, with folders replaced by the image files in them, sorted.

    Raises:
        UsageError: a path does not exist, or nothing is left.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        elif path.is_file():
            files.append(path)
        else:
            raise UsageError(f"image {path} does not exist")
    if not files:
        raise UsageError(f"no image files in {', '.join(map(str, paths))}")
    return files


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


def _stems(files: Sequence[Path]) -> list[str]:
    """A name for each file's results; files of equal names get numbers."""
    seen: dict[str, int] = {}
    stems = []
    for path in files:
        seen[path.stem] = seen.get(path.stem, 0) + 1
        count = seen[path.stem]
        stems.append(path.stem if count == 1 else f"{path.stem}-{count}")
    return stems


def _write_scores(out: Path, rows: Sequence[FileScore]) -> None:
    write_json(out / "scores.json", [asdict(row) for row in rows])
    with (out / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "score", "overlay", "map", "error"])
        writer.writerows([row.path, row.score, row.overlay, row.map, row.error] for row in rows)
