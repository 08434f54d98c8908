"""KSDD2 (KolektorSDD2): surfaces of an item, each with a mask that is empty if it is normal."""

from __future__ import annotations

from pathlib import Path

from ..bench.dataset import SPLITS, Split
from ..bench.errors import DataError
from ..bench.images import MaskRule, read_mask
from ._folders import child, list_images
from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS
from ._listing import Layout, Listing

ENDING = "_gt"
"""What the stem of a mask adds to its image's, in lower case."""


class PairedSurfaces(Layout):
    """The release: {train,test}/20000.png, each with 20000_GT.png, all zero if it is normal.

    Nothing but the mask says whether an image is anomalous; the train split has anomalous images.
    """

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`."""
        place = child(folder, "test")
        drawn = place is not None and any(_is_mask(image) for image in list_images(place))
        return 2 if drawn else 0

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = Listing()
        for split in SPLITS:
            if (place := child(folder, split)) is not None:
                _index_split(place, split, dataset, found)
        return found


def _is_mask(image: Path) -> bool:
    return image.stem.lower().endswith(ENDING)


def _index_split(place: Path, split: Split, dataset: LaidOutDataset, found: Listing) -> None:
    files = list_images(place)
    masks = {f.stem.lower().removesuffix(ENDING): f for f in files if _is_mask(f)}
    images = {f.stem.lower(): f for f in files if not _is_mask(f)}
    if not images:
        raise DataError(f"{dataset.title}: folder {place} holds no image")
    for stem, image in images.items():
        mask = masks.pop(stem, None)
        if mask is None:
            found.tell_no_mask(image)
        elif read_mask(mask, MaskRule()).any():  # whatever threshold is evaluated
            sample = dataset.sample(image, 1, anomaly_type="defect", split=split, masks=[mask])
            found.samples.append(sample)
        else:
            found.samples.append(dataset.sample(image, 0, split=split))
            found.normal_masks[image] = mask
    found.tell_unused(list(masks.values()))


class KSDD2(LaidOutDataset):
    """KolektorSDD2; the counts are those of its release (Bozic et al. 2021)."""

    name = "ksdd2"
    layouts = (PairedSurfaces(), *USUAL_LAYOUTS)
