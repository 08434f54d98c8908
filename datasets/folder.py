"""A user's own images: a normal and an anomalous folder, masks optional."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..bench.errors import DataError
from ..bench.sample import Dataset, Source
from ._layouts import (
    CategoryTrees,
    LaidOutDataset,
    Layout,
    Listing,
    list_images,
    pair_masks,
    subfolders,
)
from ._meta import MetaJson, names_masks

NORMAL = ("normal", "good", "ok", "no")
ANOMALOUS = ("anomalous", "anomaly", "abnormal", "defective", "defect", "bad", "ko", "ng", "yes")
MASKS = ("masks", "mask", "ground_truth", "groundtruth", "gt")


@dataclass(frozen=True)
class OwnFolders(Layout):
    """normal/ and anomalous/ (also in each category's folder), and masks/ named as the images are.

    Folders are searched to any depth below normal/ and anomalous/; a link that leads back into
    its own parents is refused.
    """

    key: str = "folders"
    mask_endings: tuple[str, ...] = ("", "_mask", "_gt", "_label")

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`."""
        if _is_category(subfolders(folder)):
            return 2
        return int(any(_is_category(subfolders(path)) for path in subfolders(folder).values()))

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        assert isinstance(dataset, Folder)
        found = Listing()
        if _is_category(subfolders(folder)):
            trees = {folder.resolve().name: folder}
        else:
            inside = subfolders(folder).values()
            trees = {path.name: path for path in inside if _is_category(subfolders(path))}
        for name, path in trees.items():
            drawn = _first(subfolders(path), MASKS)
            self._index_category(path, name, drawn, dataset, found)
        return found

    def _index_category(
        self,
        folder: Path,
        category: str,
        drawn: Path | None,
        dataset: LaidOutDataset,
        found: Listing,
    ) -> None:
        inside = subfolders(folder)
        normal, anomalous = _first(inside, NORMAL), _first(inside, ANOMALOUS)
        images = walk_images(normal) if normal else []
        found.samples += [dataset.sample(image, 0, category) for image in images]
        images = walk_images(anomalous) if anomalous else []
        if not images:
            raise DataError(f"folder {anomalous or folder / 'anomalous'} holds no image")
        masks: dict[Path, Path] = {}
        if drawn is not None:
            masks = pair_masks(images, walk_images(drawn), self.mask_endings, found)
        elif dataset.has_masks:
            found.gaps.append(f"category {folder} has no masks folder, others have")
        found.samples += [
            dataset.sample(
                image,
                1,
                category,
                anomaly_type="anomaly" if image.parent == anomalous else image.parent.name,
                masks=[masks[image]] if image in masks else [],
            )
            for image in images
            if drawn is None or image in masks
        ]


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


def _is_category(inside: Mapping[str, Path]) -> bool:
    return _first(inside, ANOMALOUS) is not None and "test" not in inside


def _first(inside: Mapping[str, Path], names: tuple[str, ...]) -> Path | None:
    return next((inside[name] for name in names if name in inside), None)


class Folder(LaidOutDataset):
    """Own images: folders normal/ and anomalous/ with optional masks/, MVTec's tree or a meta.json.

    Categories are the folder names; class names are these names, readable where the option
    class_names says so. Pixel-level metrics exist where masks do.
    """

    name = "folder"
    title = "Folder"
    domain = "custom"
    open_categories = True
    folders = ()
    layouts = (OwnFolders(), CategoryTrees(), MetaJson())
    option_defaults: ClassVar[Mapping[str, Any]] = LaidOutDataset.option_defaults
    source = Source(
        page="your own files",
        download="your own files",
        licence="yours",
        tree=(
            "<folder>/            or one such folder for each category\n"
            "  normal/*.png\n"
            "  anomalous/*.png\n"
            "  masks/*.png        optional; named as the anomalous images, or <stem>_mask"
        ),
    )

    def __init__(self, root: Path | str | None = None, **options: Any) -> None:
        super().__init__(root, **options)
        here = [self.root, *subfolders(self.root).values()]
        drawn = any(_first(subfolders(place), MASKS) for place in here)
        self.has_masks = drawn or names_masks(self.root)

    @classmethod
    def find_root(cls, root: Path | str | None) -> Path:
        """The very folder that was named: a user's own images bear no usual name.

        Raises:
            DataError: it does not exist.
        """
        if root is None or not Path(root).expanduser().is_dir():
            raise DataError(f"folder {root} does not exist; expected is\n{cls.source.tree}")
        return Path(root).expanduser()

    def class_name(self, category: str) -> str:
        """The folder's name, with blanks for underscores if readable names are asked for."""
        name = Dataset.class_name(self, category)
        readable = self.options["class_names"] == "readable" and not self.options["class_name"]
        return name.replace("_", " ").strip() if readable else name
