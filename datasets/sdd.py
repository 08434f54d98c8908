"""SDD (KolektorSDD): cracks in electrical commutators, each image cut into thirds."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from ..bench.dataset import Box, Sample
from ..bench.errors import DataError
from ..bench.images import MaskRule, read_mask
from ._folders import list_images, subfolders
from ._laid_out import LaidOutDataset, SplitDataset
from ._layouts import USUAL_LAYOUTS
from ._listing import Layout, Listing


def thirds(width: int, height: int) -> list[Box]:
    """The three pieces of an image, top to bottom, cut at h/3 and 2h/3 rounded down."""
    edges = [0, height // 3, height * 2 // 3, height]
    return [Box(0, top, width, bottom) for top, bottom in pairwise(edges)]


class CommutatorParts(Layout):
    """The release: kos<NN>/Part<N>.jpg, each with Part<N>_label.bmp, all zero if it is normal.

    A third is anomalous if its part of the mask is not empty. Rule of DRA's convert_SDD.py; there
    the order of the normal thirds was the file system's, here it is that of the names.
    """

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`."""
        items = _items(folder)
        images = list_images(items[0]) if items else []
        return 2 if any(image.stem.lower().startswith("part") for image in images) else 0

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = Listing()
        normals: list[Sample] = []
        for item in _items(folder):
            files = _by_stem(item, found)
            masks = {s.removesuffix("_label"): p for s, p in files.items() if s.endswith("_label")}
            images = {s: p for s, p in files.items() if not s.endswith("_label")}
            for stem, image in images.items():
                if stem not in masks:
                    found.tell_no_mask(image)
                    continue
                for sample in _pieces(image, masks[stem], dataset):
                    (found.samples if sample.label else normals).append(sample)
            found.tell_unused([masks[stem] for stem in masks.keys() - images.keys()])
        if not normals and not found.samples and not found.gaps:
            raise DataError(f"{folder} holds kos folders without any Part image")
        found.samples += dataset.divide(normals)
        return found


def _by_stem(item: Path, found: Listing) -> dict[str, Path]:
    """The files of a part by stem; of several with one stem the release's kind, and a fault."""
    files: dict[str, Path] = {}
    for path in sorted(list_images(item), key=lambda path: path.suffix.lower() in (".jpg", ".bmp")):
        stem = path.stem.lower()
        if stem in files:
            found.faults.append(f"{files[stem]} is not of the release, which has {path.name}")
        files[stem] = path
    return files


def _items(folder: Path) -> list[Path]:
    return [path for name, path in subfolders(folder).items() if name.startswith("kos")]


def _pieces(image: Path, mask: Path, dataset: LaidOutDataset) -> list[Sample]:
    """The thirds of an image. Every test of a label is by > 0, whatever threshold is evaluated."""
    drawn = read_mask(mask, MaskRule())
    height, width = drawn.shape
    return [
        dataset.sample(image, 1, anomaly_type="defect", masks=[mask], crop=crop)
        if drawn[crop.top : crop.bottom].any()
        else dataset.sample(image, 0, crop=crop)
        for crop in thirds(width, height)
    ]


class SDD(SplitDataset):
    """KolektorSDD, 399 images in thirds: a quarter of the normal thirds and all anomalous ones."""

    name = "sdd"
    layouts = (CommutatorParts(), *USUAL_LAYOUTS)
