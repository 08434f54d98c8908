"""CVC-ColonDB: colonoscopy frames, each with a polyp and its mask."""

from __future__ import annotations

from pathlib import Path

from ._folders import list_images
from ._laid_out import LaidOutDataset
from ._layouts import IMAGES_AND_MASKS, USUAL_LAYOUTS
from ._listing import Layout, Listing


class NumberedFrames(Layout):
    """The release, flat: frame N.tiff (77 to 97 are N.tif), mask pN.tiff, contour cpN.tiff."""

    def match(self, folder: Path, dataset: type[LaidOutDataset]) -> int:
        """See `Layout.match`."""
        stems = {image.stem.lower() for image in list_images(folder)}
        return 2 if any(stem.isdigit() and f"p{stem}" in stems for stem in stems) else 0

    def index(self, folder: Path, dataset: LaidOutDataset) -> Listing:
        """See `Layout.index`."""
        found = Listing()
        files = {image.stem.lower(): image for image in list_images(folder)}
        frames = sorted((stem for stem in files if stem.isdigit()), key=int)
        masks = {stem[1:]: path for stem, path in files.items() if stem[0] == "p"}
        for stem in frames:
            if stem not in masks:
                found.tell_no_mask(files[stem])
                continue
            found.samples.append(dataset.sample(files[stem], 1, masks=[masks[stem]]))
        found.tell_unused([path for stem, path in masks.items() if stem not in files])
        return found


class CVCColonDB(LaidOutDataset):
    """CVC-ColonDB, the official TIFFs or a PNG copy."""

    name = "cvc_colondb"
    layouts = (
        NumberedFrames(),
        IMAGES_AND_MASKS,
        *USUAL_LAYOUTS,
    )
