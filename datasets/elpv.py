"""ELPV: electroluminescence images of solar cells, graded by how likely they are defective."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ..bench.dataset import Sample
from ..bench.errors import DataError, reading
from ._folders import begins_with, child, find_file, lacking
from ._laid_out import LaidOutDataset, SplitDataset
from ._layouts import USUAL_LAYOUTS
from ._listing import Layout, Listing


def read_grades(path: Path) -> list[tuple[str, float, str]]:
    """Path, probability of a defect and kind of module of each row of labels.csv.

    It has no header and is padded with blanks.

    Raises:
        DataError: the file is missing or a row is not "path probability type".
    """
    with reading(path, "table with rows of 'images/cell0001.png 1.0 mono'", DataError):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        rows = [line.replace(",", " ").split() for line in lines if line.strip()]
        return [(name, float(probability), module) for name, probability, module in rows]


class GradedCells(Layout):
    """The release: labels.csv beside images/. Probability 0 is normal, 1 anomalous, the rest out.

    The rule is that of DRA's convert_elpv.py; the order of labels.csv decides the split.
    """

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`."""
        labelled = begins_with(folder, "labels.csv", b"cell")
        return 2 if labelled and (folder / "images").is_dir() else 0

    def lacks(self, folder: Path, dataset: type[LaidOutDataset]) -> str:
        """See `Layout.lacks`."""
        table, images = find_file(folder, "labels.csv"), child(folder, "images")
        return lacking({"labels.csv": table, "folder images": images})

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = Listing()
        there = {path.name for path in (folder / "images").iterdir()}
        normals: list[Sample] = []
        for name, probability, module in read_grades(folder / "labels.csv"):
            image = folder / name
            if probability not in (0.0, 1.0):
                continue
            if image.name not in there:
                found.gaps.append(f"labels.csv lists {name}, which does not exist")
            elif probability == 1:
                found.samples.append(dataset.sample(image, 1, anomaly_type=module))
            else:
                normals.append(dataset.sample(image, 0))
        found.samples += dataset.divide(normals)
        return found


class ELPV(SplitDataset):
    """ELPV: 377 normal and 715 anomalous test cells, pooled over both kinds of module.

    Without a folder the images come from the PyPI package `elpv-dataset`, if it is installed.
    """

    name = "elpv"
    layouts = (GradedCells(), *USUAL_LAYOUTS)

    @classmethod
    def packaged(cls) -> Path | None:
        """See `Dataset.packaged`: the data of `elpv-dataset`."""
        return packaged_folder()

    def notes(self) -> list[str]:
        """Says so where the images are the package's."""
        mine = self.root == packaged_folder()
        return [*super().notes(), *(["from the package elpv-dataset"] if mine else [])]


def packaged_folder() -> Path | None:
    """The data folder of the installed package `elpv-dataset`; nothing of it is imported."""
    spec = find_spec("elpv_dataset")
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    found = [Path(place) / "data" for place in places]
    return next((folder for folder in found if (folder / "labels.csv").is_file()), None)
