"""Br35H: magnetic resonance slices of the head with and without a tumour, without masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ._catalogue import categories_of, source_of
from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS, LabelFolders


class Br35H(LaidOutDataset):
    """Br35H (Kaggle, ahmedhamada0): yes/ and no/ are tested, pred/ and Br35H-Mask-RCNN/ are not."""

    name = "br35h"
    title = "Br35H"
    domain = "medical"
    modality = "radiology (MRI)"
    in_benchmark = True
    has_masks = False
    folders = ("Br35H", "br35", "brain-tumor-detection", "Br35h_anomaly_detection")
    layouts = (LabelFolders(normal=("no",), anomalous=("yes",)), *USUAL_LAYOUTS)
    categories = categories_of("br35h")
    released_keys: ClassVar[Mapping[str, str | None]] = {"faprompt": "br35", "anomalyclip": None}
    source = source_of("br35h")
