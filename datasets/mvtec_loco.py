"""MVTec LOCO AD: five scenes with structural anomalies and violations of logical constraints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from ..bench.dataset import SPLITS, Split
from ..bench.errors import DataError
from ._folders import child, descend, list_images, refuse_unreadable, subfolders
from ._laid_out import LaidOutDataset
from ._layouts import NORMAL_FOLDERS
from ._listing import Layout, Listing
from ._meta import MetaJson

LOGICAL = "logical_anomalies"


class FoldersOfMasks(Layout):
    """The release: MVTec AD's tree, but ground_truth/<kind>/<image>/ holds the masks of an image.

    Several masks are several regions; their union is meant. Their grey values are numbers of kinds
    of anomaly, none of them 0. Nothing of validation/ is listed: its images are normal ones kept
    for thresholds.
    """

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`."""
        known = dataset.known_folders(folder)
        return 2 if any(child(path, "test") for path in known) else 0

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = Listing()
        for path in subfolders(folder).values():
            found.add_folder(path, dataset, _list_category)
        return found


def _list_category(folder: Path, category: str, dataset: LaidOutDataset, found: Listing) -> None:
    refuse_unreadable(child(folder, "train"), child(folder, "test"), child(folder, "ground_truth"))
    for split in SPLITS:
        for kind, place in subfolders(child(folder, split)).items():
            if kind in NORMAL_FOLDERS:
                normal = [dataset.sample(i, 0, category, split=split) for i in list_images(place)]
                found.samples += normal
            elif kind != LOGICAL or dataset.options["anomalies"] == "all":
                _list_anomalies(place, category, split, dataset, found)


def _list_anomalies(
    place: Path, category: str, split: Split, dataset: LaidOutDataset, found: Listing
) -> None:
    kind = place.name
    truth = subfolders(descend(place.parent.parent, "ground_truth", kind.lower()))
    images = list_images(place)
    if not images:
        raise DataError(f"folder {place} holds no image: complete or remove it")
    for image in images:
        drawn = truth.pop(image.stem.lower(), None)
        masks = [] if drawn is None else list_images(drawn)
        if masks:
            found.samples.append(
                dataset.sample(image, 1, category, anomaly_type=kind, split=split, masks=masks)
            )
        else:
            found.tell_no_mask(image)
    found.tell_unused(list(truth.values()))


class StructuralRows(MetaJson):
    """A meta.json, of which the option `anomalies` leaves out rows as it does files."""

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = super().index(folder, dataset)
        if dataset.options["anomalies"] == "structural":
            found.samples = [s for s in found.samples if s.anomaly_type != LOGICAL]
        return found


class MVTecLOCO(LaidOutDataset):
    """MVTec LOCO AD; the counts are those of its archive, which has more than its paper's table.

    The option `anomalies` = "structural" leaves out the logical anomalies, which nothing but normal
    images of the scene can tell.
    """

    name = "mvtec_loco"
    layouts = (FoldersOfMasks(), StructuralRows())
    selections: ClassVar[Mapping[str, Sequence[str]]] = {"anomalies": ("all", "structural")}
