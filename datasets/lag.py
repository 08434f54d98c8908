"""LAG: fundus photographs with and without suspected glaucoma, without masks."""

from __future__ import annotations

from ._laid_out import SplitDataset
from ._layouts import USUAL_LAYOUTS, LabelFolders

FUNDUS_FOLDERS = LabelFolders(
    normal=("non_glaucoma", "non-glaucoma", "nonglaucoma"),
    anomalous=("suspicious_glaucoma", "glaucoma", "suspicious-glaucoma"),
    key="official",
    inner=("image", "images"),
    kind="glaucoma",
    certain=True,
)
"""The release: {non,suspicious}_glaucoma/image/NNNN.jpg. attention_map/ beside image/ holds where
ophthalmologists looked; it does not mask a lesion and is not used."""


class LAG(SplitDataset):
    """LAG, part 1: a quarter of the normal images and all suspicious ones.

    No conversion script is public; that the seeded quarter of `NormalSplit` was taken is an
    inference from the count (786 of 3143), and the members depend on an order that no source
    states.
    """

    name = "lag"
    layouts = (FUNDUS_FOLDERS, *USUAL_LAYOUTS)
