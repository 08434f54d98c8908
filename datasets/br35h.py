"""Br35H: magnetic resonance slices of the head with and without a tumour, without masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ..bench.dataset import Counts, Source
from ._laid_out import LaidOutDataset, one_category
from ._layouts import CategoryTrees, LabelFolders
from ._meta import MetaJson


class Br35H(LaidOutDataset):
    """Br35H (Kaggle, ahmedhamada0): yes/ and no/ are tested, pred/ and Br35H-Mask-RCNN/ are not."""

    name = "br35h"
    title = "Br35H"
    domain = "medical"
    modality = "radiology (MRI)"
    in_benchmark = True
    has_masks = False
    folders = ("Br35H", "br35", "brain-tumor-detection", "Br35h_anomaly_detection")
    layouts = (LabelFolders(normal=("no",), anomalous=("yes",)), CategoryTrees(), MetaJson())
    categories = one_category("brain", Counts(1500, 1500, 0, 0))
    released_keys: ClassVar[Mapping[str, str | None]] = {"faprompt": "br35", "anomalyclip": None}
    source = Source(
        page="https://www.kaggle.com/datasets/ahmedhamada0/brain-tumor-detection",
        download="kaggle datasets download ahmedhamada0/brain-tumor-detection",
        licence="unverified (Kaggle page)",
        citation="hamada2020br35h",
        tree=("Br35H/\n  no/no0.jpg\n  yes/y0.jpg"),
    )
