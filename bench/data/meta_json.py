"""Writing the released codes' meta.json, so that their loaders read the very same samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from ..dataset import SPLITS, Dataset, Sample
from ..errors import DataError, UsageError, unknown_name
from ..files import write_png
from ..images import header

CODES = ("faprompt", "anomalyclip")
"""Released codes whose loaders look each row's cls_name up in a list of their own."""

PLAIN_MODES = frozenset({"1", "L", "P", "RGB"})
"""Modes in which PIL's convert("L") > 0 and `read_mask` agree on a mask."""


def meta_of(
    dataset: Dataset,
    cut_into: Path | None = None,
    code: str = "faprompt",
    png_into: Path | None = None,
) -> dict[str, dict[str, list[Any]]]:
    """The content of a meta.json for a dataset.

    Args:
        dataset: lists the samples.
        cut_into: a folder below the dataset's for the pieces (and merged masks) of a set whose
            samples are not files; they are written as PNG.
        code: the released code, one of `CODES`, whose class keys are written.
        png_into: a folder below the dataset's for PNG copies of images and masks that the
            released loaders do not read as `Dataset.read` does; see `image_is_plain` and
            `mask_is_plain`. None lists every file as it is.

    Raises:
        UsageError: samples are pieces of images and `cut_into` is not given, or the code is
            unknown or has no class key for the dataset.
        DataError: a file cannot be read.
    """
    content: dict[str, dict[str, list[Any]]] = {"train": {}, "test": {}}
    written: dict[Path, str] = {}
    for split in SPLITS:
        for sample in dataset.samples(split):
            key = class_key(dataset, sample.category, code)
            image, mask = _file_names(dataset, sample, cut_into, png_into, written)
            content[split].setdefault(key, []).append(
                {
                    "img_path": image,
                    "mask_path": mask,
                    "cls_name": key,
                    "specie_name": sample.anomaly_type,
                    "anomaly": sample.label,
                }
            )
    return content


def class_key(dataset: Dataset, category: str, code: str) -> str:
    """What a released code's loader calls a category.

    Raises:
        UsageError: the code is unknown or has no class key for the dataset.
    """
    if code not in CODES:
        raise unknown_name("released code", code, CODES)
    key = dataset.released_keys.get(code, category)
    if not key:
        having = [other for other in CODES if dataset.released_keys.get(other, category)]
        fix = f": choose --code {' or '.join(having)}" if having else ""
        raise UsageError(
            f"the released loader of {code} has no class key for {dataset.title} and would fail "
            f"on every row{fix}"
        )
    return key


def image_is_plain(path: Path, upright: bool = True) -> bool:
    """Whether the released loaders, which use plain PIL, get the pixels that `read_image` gets.

    TIFFs are not plain: PIL refuses CVC-ClinicDB's. Nor are images in other modes than L and RGB,
    which the loaders resize before they convert them, and those that EXIF data turns.

    Raises:
        DataError: the file cannot be read.
    """
    file_format, mode, orientation = header(path)
    return file_format != "TIFF" and mode in ("L", "RGB") and not (upright and orientation != 1)


def mask_is_plain(path: Path, threshold: int) -> bool:
    """Whether the released loaders, which keep what is above 0 in mode L, get the same mask.

    JPEG masks never count as plain, since the ringing beside their edges is above 0.

    Raises:
        DataError: the file cannot be read.
    """
    file_format, mode, orientation = header(path)
    lossless = file_format not in ("TIFF", "JPEG")
    return lossless and mode in PLAIN_MODES and orientation == 1 and threshold == 0


def _file_names(
    dataset: Dataset,
    sample: Sample,
    cut_into: Path | None,
    png_into: Path | None,
    written: dict[Path, str],
) -> tuple[str, str]:
    """Image and mask path relative to the root; pieces and PNG copies are written first."""
    if sample.crop is not None or sample.more_mask_paths:
        if cut_into is None:
            raise UsageError(
                f"the samples of {dataset.title} are pieces of images: name a folder below "
                f"{dataset.root} that they may be written to (--cut)"
            )
        return _write(dataset, sample, cut_into, written, with_image=True)
    mask = None if sample.label == 0 or not dataset.has_masks else sample.mask_path
    if png_into is not None:
        upright = dataset.options.get("orientation", "exif") == "exif"
        turned_or_odd = not image_is_plain(sample.image_path, upright)
        if turned_or_odd or not (mask is None or mask_is_plain(mask, dataset.mask_rule.threshold)):
            return _write(dataset, sample, png_into, written, with_image=turned_or_odd)
    return _below(sample.image_path, dataset.root), _below(mask, dataset.root) if mask else ""


def _write(
    dataset: Dataset, sample: Sample, folder: Path, written: dict[Path, str], *, with_image: bool
) -> tuple[str, str]:
    """Write a sample's mask, and its image if asked, as PNG; both paths relative to the root."""
    reading = dataset.read(sample)
    if folder.resolve() == dataset.root.resolve():
        raise UsageError(f"{folder} is the folder of {dataset.title}: name a folder below it")
    stem = "_".join(sample.image_path.relative_to(dataset.root).with_suffix("").parts)
    if sample.crop is not None:
        stem += "_" + "_".join(str(edge) for edge in sample.crop)
    image = sample.image_path
    name = sample.name(dataset.root)
    if (other := written.setdefault(folder / stem, name)) != name:
        raise DataError(f"{other} and {name} would both be written as {stem}.png: rename one")
    if with_image:
        image = folder / f"{stem}.png"
        write_png(image, reading.image)
    if sample.label == 0 or reading.mask is None:
        return _below(image, dataset.root), ""
    mask_file = folder / f"{stem}_mask.png"
    write_png(mask_file, Image.fromarray(reading.mask.astype("uint8") * 255))
    return _below(image, dataset.root), _below(mask_file, dataset.root)


def _below(path: Path, root: Path) -> str:
    try:
        return path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        raise UsageError(f"{path} is not below {root}, so a meta.json cannot name it") from None
