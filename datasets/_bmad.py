"""The tree of the six sets of BMAD, whose archives differ in small ways."""

from __future__ import annotations

from pathlib import Path

from ..bench.dataset import SPLITS
from ..bench.errors import DataError
from ._folders import child, list_images, refuse_unreadable
from ._laid_out import LaidOutDataset
from ._listing import Layout, Listing
from ._masks import normal_masks, pair_masks
from ._meta import MetaJson

IMAGES = ("img", "test", "train")
MASKS = ("label", "anomaly_mask", "test_label")


class GoodUngood(Layout):
    """BMAD: {train,test}/{good,Ungood}, with an img/ and a label/ inside or around them.

    Masks have the names of their images. Nothing of valid/ or val/ is listed.
    """

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`: by shape only, which all six sets share."""
        test = child(folder, "test")
        return int(None not in [_place(test, kind, IMAGES) for kind in ("good", "ungood")])

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = Listing()
        for split in SPLITS:
            part = child(folder, split)
            for label, kind in enumerate(("good", "ungood")):
                place = _place(part, kind, IMAGES)
                drawn = _place(part, kind, MASKS, wrapped=True) if dataset.has_masks else None
                refuse_unreadable(place, drawn)
                images = [] if place is None else list_images(place)
                if place is not None and not images:
                    raise DataError(f"{dataset.title}: folder {place} holds no image")
                files = [] if drawn is None else list_images(drawn)
                masks: dict[Path, Path] = {}
                if label and dataset.has_masks:
                    masks = pair_masks(images, files, ("", "_mask"), found)
                    images = [image for image in images if image in masks]
                elif not label:
                    found.normal_masks |= normal_masks(images, files, ("", "_mask"))
                found.samples += [
                    dataset.sample(image, label, split=split, masks=[masks.get(image)])
                    for image in images
                ]
        return found


class BMADDataset(LaidOutDataset):
    """One of the six sets."""

    layouts = (GoodUngood(), MetaJson())


def _place(
    part: Path | None, kind: str, wrappers: tuple[str, ...], wrapped: bool = False
) -> Path | None:
    """The folder of a split that holds the files of a label, in any of the archives' orders.

    Args:
        part: the split's folder.
        kind: "good" or "ungood".
        wrappers: names of the folder around the files: <kind>/<wrapper> or <wrapper>/<kind>.
        wrapped: without such a folder there are none; else <kind> itself holds them.
    """
    own = child(part, kind)
    inner = child(own, *wrappers)
    outer = child(child(part, *wrappers), kind)
    bare = None if wrapped else own
    return (child(inner, "img") or inner) or outer or bare
