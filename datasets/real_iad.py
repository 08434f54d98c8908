"""Real-IAD: thirty industrial objects from five sides; json files say what is tested."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from ..bench.dataset import SPLITS
from ..bench.errors import DataError, reading
from ._folders import child, descend, find_file, lacking
from ._laid_out import LaidOutDataset
from ._listing import Layout, Listing
from ._meta import MetaJson

IMAGES = ("realiad_1024", "realiad_512", "realiad_256", "realiad_raw")
"""Folders of the same images at several sizes; the first that is there is read."""
SPLIT_FILES = {"all": "realiad_jsons", "single": "realiad_jsons_sv"}
"""The option `views` -> the folder of its json files: all five sides, or the one from above."""


class SplitFiles(Layout):
    """The release: realiad_jsons/<category>.json beside realiad_1024/<category>/.

    A row's label is its `anomaly_class`, never its path: sides without a defect of items that have
    one lie below NG/ and are normal (26,881 test images). A mask is named by its row.
    """

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`."""
        return 2 if child(folder, *IMAGES) and child(folder, *SPLIT_FILES.values()) else 0

    def lacks(self, folder: Path, dataset: type[LaidOutDataset]) -> str:
        """See `Layout.lacks`."""
        tables = child(folder, *SPLIT_FILES.values())
        return lacking({f"folder {IMAGES[0]}": child(folder, *IMAGES), "realiad_jsons": tables})

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = Listing()
        images = child(folder, *IMAGES)
        name = SPLIT_FILES[dataset.options["views"]]
        tables = descend(folder, "realiad_jsons", name) or child(folder, name)
        if images is None or tables is None:
            raise DataError(
                f"{dataset.title} in {folder} has no folder {name}, which says what is tested"
            )
        for category in dataset.categories:
            place = child(images, category)
            table = find_file(tables, f"{category}.json")
            if place is None or table is None:
                absent = f"folder {images / category}" if place is None else f"{category}.json"
                found.notes.append(f"{absent} is not there, so that {category} was left out")
            elif not dataset.may_choose(category):
                found.unchosen.add(category)
            else:
                _list_category(images, table, category, dataset, found)
        if images.name.lower() != IMAGES[0]:
            found.notes.append(f"images of {images.name} are read")
        return found


def _list_category(
    images: Path, table: Path, category: str, dataset: LaidOutDataset, found: Listing
) -> None:
    content = _content(table)
    prefix, normal = content["meta"].get("prefix", ""), content["meta"].get("normal_class", "OK")
    for split in SPLITS:
        for row in content.get(split, ()):
            kind, drawn = row["anomaly_class"], row.get("mask_path")
            image = images / _inside(prefix, row["image_path"], table)
            if kind == normal:
                found.samples.append(dataset.sample(image, 0, category, split=split))
            elif not drawn:
                found.tell_no_mask(image)
            else:
                masks = [images / _inside(prefix, drawn, table)]
                found.samples.append(
                    dataset.sample(image, 1, category, anomaly_type=kind, split=split, masks=masks)
                )


def _inside(prefix: str, name: str, table: Path) -> PurePosixPath:
    """A path of a split file below the folder of images.

    Raises:
        DataError: it leads out of that folder.
    """
    path = PurePosixPath(prefix) / name
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{table} lists '{path}', which leads out of the dataset's folder")
    return path


def _content(table: Path) -> Mapping[str, Any]:
    """A split file: "meta", and rows of "train" and "test".

    Raises:
        DataError: it cannot be read, or a row has no image_path or anomaly_class.
    """
    with reading(table, "split file with image_path and anomaly_class", DataError):
        content = json.loads(table.read_text(encoding="utf-8"))
        rows = [row for split in SPLITS for row in content[split]]
        texts = [row[key] for row in rows for key in ("image_path", "anomaly_class")]
        texts += [row["mask_path"] for row in rows if row.get("mask_path")]
        texts += [content["meta"].get("prefix", "")]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{table} has a path or an anomaly_class that is not text")
    return dict(content)


class RowsOfAllViews(MetaJson):
    """A meta.json, which does not say what belongs to the split of one side."""

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        if dataset.options["views"] != "all":
            raise DataError(f"{folder}/meta.json has no split of one side: use the release's files")
        return super().index(folder, dataset)


class RealIAD(LaidOutDataset):
    """Real-IAD; the counts are those of all its json files together.

    The option `views` = "single" takes the split of the side from above alone.
    """

    name = "real_iad"
    layouts = (SplitFiles(), RowsOfAllViews())
    selections: ClassVar[Mapping[str, Sequence[str]]] = {"views": ("all", "single")}
