"""HeadCT: computed tomography slices of the head with and without a haemorrhage, without masks."""

from __future__ import annotations

import csv
from pathlib import Path

from ..bench.errors import DataError, reading
from ._folders import begins_with, child, find_file, lacking, list_images
from ._laid_out import LaidOutDataset
from ._layouts import CategoryTrees, LabelFolders
from ._listing import Layout, Listing
from ._meta import MetaJson


def read_labels(path: Path) -> dict[int, int]:
    """labels.csv: number of the image -> 1 for a haemorrhage. The header has a blank in it.

    Raises:
        DataError: the file has other columns or no numbers in them.
    """
    with reading(path, "table of the columns id and hemorrhage", DataError):
        lines = path.read_text(encoding="utf-8-sig").lower().splitlines()
        rows = csv.DictReader(lines, skipinitialspace=True)
        labels = {int(row["id"]): int(row["hemorrhage"]) for row in rows}
    if not set(labels.values()) <= {0, 1}:
        raise DataError(f"{path} has labels other than 0 and 1")
    return labels


class NumberedSlices(Layout):
    """The release: labels.csv beside head_ct/head_ct/000.png."""

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`."""
        return 2 if begins_with(folder, "labels.csv", b"hemorrhage") else 0

    def lacks(self, folder: Path, dataset: type[LaidOutDataset]) -> str:
        """See `Layout.lacks`."""
        table, images = find_file(folder, "labels.csv"), child(folder, "head_ct")
        return lacking({"labels.csv": table, "folder head_ct": images})

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        table = find_file(folder, "labels.csv")
        assert table is not None
        place = folder
        while (deeper := child(place, "head_ct")) is not None:
            place = deeper
        found = Listing()
        numbered = [image for image in list_images(place) if image.stem.isdigit()]
        by_number = {int(image.stem): image for image in numbered}
        labels = read_labels(table)
        if not by_number:
            raise DataError(f"{place} holds no image that {table} lists (000.png, ...)")
        for number, label in labels.items():
            image = by_number.pop(number, None)
            if image is None:
                found.gaps.append(f"{table} lists image {number:03d}, which is not in {place}")
            else:
                kind = "hemorrhage" if label else None
                found.samples.append(dataset.sample(image, label, anomaly_type=kind))
        if by_number:
            first = min(by_number.values())
            found.faults.append(f"{len(by_number)} images are not in {table}, first {first}")
        return found


class HeadCT(LaidOutDataset):
    """HeadCT (Kaggle, felipekitamura): the whole set is tested."""

    name = "headct"
    layouts = (
        NumberedSlices(),
        CategoryTrees(),
        LabelFolders(normal=("normal", "no", "good"), anomalous=("hemorrhage", "yes", "defect")),
        MetaJson(),
    )
