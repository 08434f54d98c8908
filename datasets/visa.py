"""VisA: twelve industrial objects; its masks number the kinds of defect."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..bench.dataset import Split
from ..bench.errors import DataError, reading
from ._folders import child, descend, few, find_file, list_images, subfolders
from ._laid_out import LaidOutDataset
from ._layouts import CategoryTrees
from ._listing import Layout, Listing
from ._meta import MetaJson

COLUMNS = ["object", "split", "label", "image", "mask"]


@dataclass(frozen=True)
class SplitRow:
    """A row of 1cls.csv; `mask` is "" for a normal image."""

    category: str
    split: Split
    label: int
    image: str
    mask: str


def read_split(path: Path) -> list[SplitRow]:
    """The rows of a VisA split file.

    Raises:
        DataError: the file is missing, has other columns, or a path in it leads out of its folder.
    """
    with reading(path, "table", DataError), path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise DataError(f"{path} has the columns {reader.fieldnames}, not {COLUMNS}")
        return [_row(cells, path) for cells in reader]


def _row(cells: Mapping[str, str], path: Path) -> SplitRow:
    split, label = cells["split"], cells["label"]
    names = (cells["image"] or "", cells["mask"] or "")
    if split not in ("train", "test") or label not in ("normal", "anomaly") or not names[0]:
        raise DataError(f"{path} has the row {dict(cells)}: split or label is unknown")
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DataError(f"{path} lists '{name}', which leads out of the dataset's folder")
    split_name: Split = "train" if split == "train" else "test"
    return SplitRow(cells["object"], split_name, int(label == "anomaly"), *names)


class SplitTable(Layout):
    """The release: <category>/Data/{Images,Masks}, divided by split_csv/1cls.csv."""

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`: a category's Data folder, or the split file beside categories."""
        known = dataset.known_folders(folder)
        return 2 if any(descend(path, "data", "images") for path in known) else 0

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        table = find_file(child(folder, "split_csv") or folder, "1cls.csv")
        if table is None:
            raise DataError(
                f"VisA in {folder} has no split_csv/1cls.csv, which says what is tested: it is in "
                f"the archive and in {dataset.source.page}"
            )
        found = Listing()
        files, categories = _Files(folder), subfolders(folder)
        absent: dict[str, None] = {}
        for row in read_split(table):
            category = dataset.category_named(row.category)
            if category is None:
                raise DataError(
                    f"{table} lists the object '{row.category}', which VisA does not have"
                )
            if row.category.lower() not in categories:
                absent[category] = None
                continue
            if not dataset.may_choose(category):
                found.unchosen.add(category)
                continue
            image = files.find(row.image)
            mask = files.find(row.mask) if row.mask else None
            if image is None:
                found.gaps.append(f"{table.name} lists {row.image}, which does not exist")
            elif row.label == 1 and mask is None:
                found.tell_no_mask(image)
            else:
                found.samples.append(
                    dataset.sample(image, row.label, category, split=row.split, masks=[mask])
                )
        unused = files.left_over("masks")
        if unused:
            found.faults.append(f"{len(unused)} masks are not in {table.name}: {few(unused)}")
        if absent:
            found.notes.append(f"categories without a folder: {few(absent, 12)}")
        return found


class _Files:
    """Finds files by the paths of a table; each folder is listed once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, Mapping[str, Path]] = {}
        self._used: set[Path] = set()

    def find(self, name: str) -> Path | None:
        """The file, any case; with another suffix where a copy was converted."""
        parent, _, last = name.lower().rpartition("/")
        if parent not in self._listed:
            place = descend(self._root, *parent.split("/"))
            images = list_images(place) if place else []
            by_stem = {image.stem.lower(): image for image in images}
            self._listed[parent] = by_stem | {image.name.lower(): image for image in images}
        known = self._listed[parent]
        found = known.get(last) or known.get(last.rpartition(".")[0])
        if found is not None:
            self._used.add(found)
        return found

    def left_over(self, part: str) -> list[Path]:
        """Files that no row named, in folders with `part` in their path."""
        folders = [files for parent, files in self._listed.items() if part in parent]
        return sorted({file for files in folders for file in files.values()} - self._used)


class VisA(LaidOutDataset):
    """VisA, in its release or converted (VisA_pytorch/1cls).

    Official masks hold the numbers 1..9 of the kinds of defect, so only the threshold 0 fits them.
    """

    name = "visa"
    layouts = (SplitTable(), CategoryTrees(mask_endings=("", "_mask")), MetaJson())
