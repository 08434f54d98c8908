"""3CAD: parts of computers, phones and motors from production lines, with masks."""

from __future__ import annotations

from ._laid_out import LaidOutDataset
from ._layouts import USUAL_LAYOUTS


class ThreeCAD(LaidOutDataset):
    """3CAD; the counts are those of the authors' page."""

    name = "threecad"
    layouts = USUAL_LAYOUTS
