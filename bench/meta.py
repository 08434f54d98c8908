"""Writing the released codes' meta.json, so that their loaders read the very same samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from .errors import UsageError
from .sample import Dataset, Sample, Split


def meta_of(dataset: Dataset, cut_into: Path | None = None) -> dict[str, dict[str, list[Any]]]:
    """The content of a meta.json for a dataset.

    Args:
        dataset: whatever lists samples.
        cut_into: a folder below the dataset's for the pieces (and merged masks) of a set whose
            samples are no files; they are written as PNG.

    Raises:
        UsageError: samples are pieces of images and `cut_into` is not given.
        DataError: a file cannot be read.
    """
    content: dict[str, dict[str, list[Any]]] = {"train": {}, "test": {}}
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        for sample in dataset.samples(split):
            image, mask = _file_names(dataset, sample, cut_into)
            content[split].setdefault(sample.category, []).append(
                {
                    "img_path": image,
                    "mask_path": mask,
                    "cls_name": sample.category,
                    "specie_name": sample.anomaly_type,
                    "anomaly": sample.label,
                }
            )
    return content


def _file_names(dataset: Dataset, sample: Sample, cut_into: Path | None) -> tuple[str, str]:
    """Image and mask path relative to the root; pieces are written first."""
    if sample.crop is None and not sample.more_mask_paths:
        mask = "" if sample.mask_path is None else _below(sample.mask_path, dataset.root)
        return _below(sample.image_path, dataset.root), mask
    if cut_into is None:
        raise UsageError(
            f"the samples of {dataset.title} are pieces of images: name a folder below "
            f"{dataset.root} that they may be written to (--cut)"
        )
    reading = dataset.read(sample)
    stem = "_".join(sample.image_path.relative_to(dataset.root).with_suffix("").parts)
    if sample.crop is not None:
        stem += "_" + "_".join(str(edge) for edge in sample.crop)
    cut_into.mkdir(parents=True, exist_ok=True)
    image = cut_into / f"{stem}.png"
    reading.image.save(image)
    if sample.label == 0 or reading.mask is None:
        return _below(image, dataset.root), ""
    mask_file = cut_into / f"{stem}_mask.png"
    Image.fromarray(reading.mask.astype("uint8") * 255).save(mask_file)
    return _below(image, dataset.root), _below(mask_file, dataset.root)


def _below(path: Path, root: Path) -> str:
    try:
        return path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        raise UsageError(f"{path} is not below {root}, so a meta.json cannot name it") from None
