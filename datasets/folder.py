"""A user's own images: a normal and an anomalous folder, masks optional."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..bench.content import content_hashes
from ..bench.dataset import Dataset
from ..bench.errors import DataError
from ._folders import child, lacking_folders, list_images, subfolders, unreadable
from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS
from ._listing import Layout, Listing
from ._masks import normal_masks, pair_masks
from ._meta import names_masks

NORMAL = ("normal", "good", "ok", "no")
ANOMALOUS = ("anomalous", "anomaly", "abnormal", "defective", "defect", "bad", "ko", "ng", "yes")
MASKS = ("masks", "mask", "ground_truth", "groundtruth", "gt")


class OwnFolders(Layout):
    """normal/ and anomalous/ (also in each category's folder), and masks/ named as the images are.

    Folders are searched to any depth below normal/ and anomalous/; a link that leads back into
    its own parents is refused.
    """

    key = "folders"
    mask_endings = ("", "_mask", "_gt", "_label")

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`."""
        if _is_category(folder):
            return 2
        return int(any(_is_category(path) for path in subfolders(folder).values()))

    def lacks(self, folder: Path, dataset: type[LaidOutDataset]) -> str:
        """See `Layout.lacks`."""
        return lacking_folders(folder, NORMAL, ANOMALOUS)

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        assert isinstance(dataset, Folder)
        found = Listing()
        if _is_category(folder):
            self._index_category(folder, folder.resolve().name, dataset, found)
            return found
        for path in subfolders(folder).values():
            if _is_category(path) or unreadable(path):
                found.add_category(path, path.name, dataset, self._index_category)
            elif not dataset.may_choose(path.name):
                continue
            elif child(path, *NORMAL):
                found.faults.append(
                    f"category {path} has no folder of anomalous images and was left out"
                )
            elif path.name.lower() not in MASKS:
                found.faults.append(
                    f"folder {path} has no folders of normal and anomalous images and was left out"
                )
        return found

    def _index_category(
        self, folder: Path, category: str, dataset: LaidOutDataset, found: Listing
    ) -> None:
        inside = subfolders(folder)
        taken: list[Path | None] = []
        for names in (NORMAL, ANOMALOUS, MASKS):
            several = [inside[name] for name in names if name in inside]
            taken.append(several[0] if several else None)
            found.faults += [
                f"folder {path} was left out: {several[0]} means the same and was taken"
                for path in several[1:]
            ]
        normal, anomalous, drawn = taken
        normals = walk_images(normal) if normal else []
        found.samples += [dataset.sample(image, 0, category) for image in normals]
        images = walk_images(anomalous) if anomalous else []
        masks: dict[Path, Path] = {}
        if drawn is not None and anomalous is not None:
            files = walk_images(drawn)
            spared = self._masks_of_normals(normals, images, files, drawn)
            found.normal_masks |= spared
            files = [mask for mask in files if mask not in set(spared.values())]
            masks = pair_masks(images, files, self.mask_endings, found, (anomalous, drawn))
        elif dataset.has_masks:
            found.gaps.append(f"category {folder} has no masks folder, others have")
        found.samples += [
            dataset.sample(
                image,
                1,
                category,
                anomaly_type=None if image.parent == anomalous else image.parent.name,
                masks=[masks.get(image)],
            )
            for image in images
            if drawn is None or image in masks
        ]

    def _masks_of_normals(
        self, normals: Sequence[Path], images: Sequence[Path], files: Sequence[Path], drawn: Path
    ) -> dict[Path, Path]:
        """The masks that belong to normal images.

        Args:
            normals: normal images.
            images: anomalous images, which go first where both have the stem of a mask.
            files: the masks.
            drawn: the folder that the masks lie below.
        """
        stems = {image.stem.lower() + ending for image in images for ending in self.mask_endings}
        theirs = [
            mask
            for mask in files
            if mask.relative_to(drawn).parts[0].lower() in NORMAL or mask.stem.lower() not in stems
        ]
        return normal_masks(normals, theirs, self.mask_endings)


def walk_images(folder: Path) -> list[Path]:
    """Image files at any depth, sorted.

    Raises:
        DataError: a link leads back to a folder that is being walked.
    """
    images: list[Path] = []

    def visit(place: Path, parents: frozenset[Path]) -> None:
        real = place.resolve()
        if real in parents:
            raise DataError(f"{place} is a link that leads back to {real}: remove it")
        images.extend(list_images(place))
        for below in subfolders(place).values():
            visit(below, parents | {real})

    visit(folder, frozenset())
    return sorted(images)


def _is_category(folder: Path) -> bool:
    return child(folder, *ANOMALOUS) is not None and child(folder, "test") is None


class Folder(LaidOutDataset):
    """Own images: folders normal/ and anomalous/ with optional masks/, MVTec's tree or a meta.json.

    Categories are the folder names; class names are these names, readable where the option
    class_names says so. Pixel-level metrics exist where masks do.
    """

    name = "folder"
    open_categories = True
    drops_unmeasurable = True
    layouts = (OwnFolders(), *USUAL_LAYOUTS)

    def __init__(self, root: Path | str | None = None, **options: Any) -> None:
        super().__init__(root, **options)
        inside = subfolders(self.root).values()
        here = [self.root, *(place for place in inside if self.may_choose(place.name))]
        drawn = any(child(place, *MASKS) for place in here)
        self.has_masks = drawn or names_masks(self.root)

    def oddities(self, found: Listing) -> list[str]:
        """See `LaidOutDataset.oddities`: images of equal content that are normal and anomalous."""
        by_label = [[s.image_path for s in found.samples if s.label == label] for label in (0, 1)]
        sizes = [{path: path.stat().st_size for path in paths} for paths in by_label]
        shared = set(sizes[0].values()) & set(sizes[1].values())
        normal, anomalous = (
            content_hashes([path for path, size in part.items() if size in shared])
            for part in sizes
        )
        twins = {digest: path for path, digest in normal.items()}
        return [
            f"image {path} is anomalous and has the content of normal image {twins[digest]}"
            for path, digest in anomalous.items()
            if digest in twins
        ]

    def class_name(self, category: str) -> str:
        """The folder's name, with blanks for underscores if readable names are asked for."""
        name = Dataset.class_name(self, category)
        readable = self.options["class_names"] == "readable" and not self.options["class_name"]
        return name.replace("_", " ").strip() if readable else name
