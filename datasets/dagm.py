"""DAGM 2007: ten artificial textures; defects are marked by filled ellipses."""

from __future__ import annotations

from pathlib import Path

from ..bench.dataset import SPLITS, Split
from ..bench.errors import DataError, reading
from ._folders import child, descend, find_file, list_images, subfolders
from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS
from ._listing import Layout, Listing


def read_labels(path: Path) -> dict[str, str]:
    """Labels.txt: image name -> name of its label image, "" for a normal image.

    Lines are tab-separated, "0002 1 0002.PNG 0 0002_label.PNG"; the first line is a lone "1".

    Raises:
        DataError: the file cannot be read or a line is none of these.
    """
    labels: dict[str, str] = {}
    with reading(path, "list of labels", DataError):
        lines = path.read_text(encoding="latin-1").splitlines()
    for line in lines:
        cells = line.split()
        if len(cells) < 2:
            continue
        if len(cells) < 5 or cells[1] not in ("0", "1"):
            raise DataError(f"{path} has the line '{line}', not '0002 1 0002.PNG 0 0002_label.PNG'")
        labels[cells[2]] = cells[4] if cells[1] == "1" else ""
    return labels


class LabelledClasses(Layout):
    """Class<N>/{Train,Test}/0001.PNG with Label/0001_label.PNG for defective images alone.

    As in AnomalyCLIP an image is anomalous if it has a label image; Labels.txt, where there is
    one, must agree and names the images that must exist.
    """

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`."""
        known = dataset.known_folders(folder)
        return 2 if any(descend(path, "test", "label") for path in known) else 0

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = Listing()
        for name, place in subfolders(folder).items():
            category = dataset.category_named(name)
            if category is None:
                found.notes.append(f"folder {place} is not a class of DAGM and was left out")
                continue
            if not dataset.may_choose(category):
                found.unchosen.add(category)
                continue
            for split in SPLITS:
                part = child(place, split)
                if part is None:
                    found.faults.append(f"{place} has no {split} folder")
                else:
                    self._index_part(part, category, split, dataset, found)
        return found

    def _index_part(
        self, part: Path, category: str, split: Split, dataset: LaidOutDataset, found: Listing
    ) -> None:
        drawn = child(part, "label")
        masks = {
            mask.stem.lower().removesuffix("_label"): mask
            for mask in (list_images(drawn) if drawn else [])
        }
        images = {image.stem.lower(): image for image in list_images(part)}
        table = None if drawn is None else find_file(drawn, "labels.txt")
        for name, label_name in (read_labels(table) if table else {}).items():
            stem = name.rpartition(".")[0].lower()
            if stem not in images:
                found.gaps.append(f"{table} lists {name}, which does not exist")
            elif label_name and stem not in masks:
                found.tell_no_mask(images.pop(stem))
            elif not label_name and stem in masks:
                found.faults.append(f"{table} calls {name} normal, but {masks[stem]} exists")
        found.tell_unused([mask for stem, mask in masks.items() if stem not in images])
        for stem, image in images.items():
            mask = masks.get(stem)
            label, kind = (0, None) if mask is None else (1, "defect")
            found.samples.append(
                dataset.sample(image, label, category, anomaly_type=kind, split=split, masks=[mask])
            )


class DAGM(LaidOutDataset):
    """DAGM 2007 as uploaded to Kaggle; the counts are those of its twenty Labels.txt."""

    name = "dagm"
    layouts = (LabelledClasses(), *USUAL_LAYOUTS)
