"""LAG: fundus photographs with and without suspected glaucoma, without masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..bench.dataset import Counts, Source
from ..bench.errors import DataError
from ._folders import child, lacking, list_images
from ._laid_out import LaidOutDataset, Layout, Listing, SplitDataset, one_category
from ._layouts import CategoryTrees
from ._meta import MetaJson

NORMAL = ("non_glaucoma", "non-glaucoma", "nonglaucoma")
ANOMALOUS = ("suspicious_glaucoma", "glaucoma", "suspicious-glaucoma")


@dataclass(frozen=True)
class FundusFolders(Layout):
    """The release: {non,suspicious}_glaucoma/image/NNNN.jpg.

    attention_map/ holds where ophthalmologists looked. It does not mask a lesion and is not used.
    """

    key: str = "official"

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`."""
        return 2 if child(folder, *NORMAL) and child(folder, *ANOMALOUS) else 0

    def lacks(self, folder: Path, dataset: type[LaidOutDataset]) -> str:
        """See `Layout.lacks`."""
        return lacking({f"folder {n[0]}": child(folder, *n) for n in (NORMAL, ANOMALOUS)})

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        assert isinstance(dataset, LAG)
        found = Listing()
        for label, names in ((0, NORMAL), (1, ANOMALOUS)):
            outer = child(folder, *names)
            place = child(outer, "image", "images") or outer
            images = list_images(place) if place else []
            if not images:
                raise DataError(f"LAG: folder {place} holds no image")
            kind = "glaucoma" if label else None
            part = [dataset.sample(image, label, anomaly_type=kind) for image in images]
            found.samples += part if label else dataset.divide(part)
        return found


class LAG(SplitDataset):
    """LAG, part 1: a quarter of the normal images and all suspicious ones.

    No conversion script is public; that the seeded quarter of `NormalSplit` was taken is an
    inference from the count (786 of 3143), and the members depend on an order nobody recorded.
    """

    name = "lag"
    title = "LAG"
    domain = "medical"
    modality = "fundus photography"
    in_benchmark = True
    has_masks = False
    folders = ("LAG_database_part_1", "LAG", "LAG_database")
    layouts = (FundusFolders(), CategoryTrees(), MetaJson())
    categories = one_category("LAG", Counts(786, 1711, 2357, 0), "fundus", "retinal fundus")
    released_keys: ClassVar[Mapping[str, str | None]] = {"anomalyclip": None}
    source = Source(
        page="https://github.com/smilell/AG-CNN",
        download="on request from the page's authors (LAG_database_part_1.rar)",
        licence="academic use only, no re-upload",
        citation="li2019attention",
        tree=(
            "LAG_database_part_1/\n"
            "  non_glaucoma/image/0001.jpg\n"
            "  suspicious_glaucoma/image/0002.jpg"
        ),
    )
