"""Br35H: magnetic resonance slices of the head with and without a tumour, without masks."""

from __future__ import annotations

from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS, LabelFolders


class Br35H(LaidOutDataset):
    """Br35H (Kaggle, ahmedhamada0): yes/ and no/ are tested, pred/ and Br35H-Mask-RCNN/ are not."""

    name = "br35h"
    layouts = (LabelFolders(normal=("no",), anomalous=("yes",)), *USUAL_LAYOUTS)
