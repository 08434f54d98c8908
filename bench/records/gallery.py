"""The best and worst cases of a method in a category, as strips: image, mask, anomaly map.

    gallery/<cell>/<category>.json            what the strips show
    gallery/<cell>/<category>-best-1.png      three squares side by side, transparent between them

A case is an anomalous image that the method ranks against the normal ones, or a normal image that
raised a false alarm. Only candidates are kept while a category runs, as thumbnails, so that memory
does not grow with the number of images.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ZsadError
from ..files import file_name, read_json, reading, write_json, write_png
from ..json_fields import Binary, Count, Fraction, Label, as_list, as_mapping, from_json, matching
from .cell import Cell
from .run_folder import gallery_folder, strip_path

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.loading import Batch
    from ..preprocess import Preprocess

SIDE = 112
GAP = 4
HEAT = "inferno"
"""Brightness rises with the anomaly score, so the map reads without colour vision too."""

Kind = Literal["best", "worst"]
KINDS: tuple[Kind, ...] = ("best", "worst")


class GalleryError(ZsadError):
    """The pictures of a run are missing or broken."""


OwnPicture = Annotated[str, matching(r"[^/\\\0]*\.png")]  # a name in the index's own folder


@dataclass(frozen=True)
class Case:
    """One strip of a cell's gallery.

    Attributes:
        category: of the image.
        kind: best or worst.
        rank: 1 is the very best, or the very worst.
        name: identity of the image in its dataset.
        label: 0 normal, 1 anomalous.
        score: the method's anomaly score of the image; None where it gives none.
        quality: share of the images (of the pixels, where there is no score) of the other label
            that this one is ordered right against, in [0, 1]; None where there are none.
        file: name of the PNG beside the index.
    """

    category: Label
    kind: Kind
    rank: Count
    name: str
    label: Binary
    score: float | None
    quality: Fraction | None
    file: OwnPicture

    @property
    def note(self) -> str:
        """One sentence that says how the case was judged."""
        if self.quality is None:
            return ("normal", "anomalous")[self.label]
        share = f"{100 * self.quality:.0f}%"
        if self.score is None:
            return f"anomalous, its region outranks {share} of its other pixels"
        if self.label:
            return f"anomalous, scored above {share} of the normal images"
        return f"normal, scored below {share} of the anomalous images"


@dataclass(frozen=True)
class _Candidate:
    """An image that may become a case: thumbnails only."""

    value: float  # what it is ranked by: the score, or the AUROC of its own pixels
    name: str
    label: int
    score: float | None
    image: NDArray[np.uint8]  # [SIDE, SIDE, 3]
    mask: NDArray[np.bool_] | None  # [SIDE, SIDE]
    heat: NDArray[np.float32]  # [SIDE, SIDE]


@dataclass
class _Candidates:
    """What is kept of one cell: its most extreme images, all scores, the range of the maps.

    Attributes:
        highest, lowest: for each label at most `keep` images; equal values are ordered by name.
        scores: for each label, of all images.
        low, high: range of all maps.
    """

    keep: int
    highest: dict[int, list[_Candidate]] = field(default_factory=partial(defaultdict, list))
    lowest: dict[int, list[_Candidate]] = field(default_factory=partial(defaultdict, list))
    scores: dict[int, list[float]] = field(default_factory=partial(defaultdict, list))
    low: float = float("inf")
    high: float = float("-inf")

    def is_ordinary(self, label: int, value: float) -> bool:
        """Whether an image of this value cannot be among the extremes."""
        highest, lowest = self.highest[label], self.lowest[label]
        if len(highest) < self.keep or len(lowest) < self.keep:
            return False
        return not self.keep or lowest[-1].value < value < highest[-1].value

    def offer(self, new: _Candidate) -> None:
        """Keep an image if it is among the extremes."""
        for kept, sign in ((self.highest, -1), (self.lowest, 1)):
            ranked = sorted([*kept[new.label], new], key=lambda c: (sign * c.value, c.name))
            kept[new.label] = ranked[: self.keep]

    def best(self) -> list[_Candidate]:
        """Anomalous images with the highest values; without any, normal ones with the lowest."""
        return self.highest[1] or self.lowest[0]

    def worst(self) -> list[_Candidate]:
        """The images of lowest quality that are not among the best."""
        best = {candidate.name for candidate in self.best()}
        ranked = sorted(
            [*enumerate(self.lowest[1]), *enumerate(self.highest[0])],
            key=lambda item: (self.quality(item[1]) or 0.0, item[0], -item[1].label),
        )
        return [candidate for _, candidate in ranked if candidate.name not in best][: self.keep]

    def quality(self, candidate: _Candidate) -> float | None:
        """The share of the other label's scores on the right side; a tie counts half."""
        if candidate.score is None:
            return candidate.value
        others = np.asarray(self.scores[1 - candidate.label])
        if not len(others):
            return None
        difference = (candidate.score - others) * (1 if candidate.label else -1)
        return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


class Gallery:
    """Collects the cases of one category while it runs, and writes them at its end.

    Args:
        run: the run folder.
        keep: how many best and how many worst cases are kept of each cell.
    """

    def __init__(self, run: Path, keep: int = 2) -> None:
        self.run = run
        self.keep = keep
        self._cells: dict[Cell, _Candidates] = {}

    def add_batch(
        self,
        cell: Cell,
        batch: Batch,
        scores: Tensor | None,
        maps: Tensor,
        preprocess: Preprocess,
    ) -> None:
        """Offer the images of a batch.

        Args:
            cell: of the run.
            batch: with images as `preprocess` made them.
            scores: [B], or None where the method gives none.
            maps: [B, M, M], greater is more anomalous.
            preprocess: the method's own; the thumbnails show its images without normalisation.
        """
        for i, name in enumerate(batch.names):
            self.add(
                cell,
                name,
                int(batch.labels[i]),
                None if scores is None else float(scores[i]),
                preprocess.picture(batch.images[i]),
                None if batch.masks is None else batch.masks[i].cpu().numpy(),
                maps[i].cpu().float().numpy(),
            )

    def add(
        self,
        cell: Cell,
        name: str,
        label: int,
        score: float | None,
        image: NDArray[np.uint8],
        mask: NDArray[np.bool_] | None,
        heat: NDArray[np.float32],
    ) -> None:
        """Offer one image; it is kept if it is among the extremes so far.

        Without a score an image is judged by the AUROC of its own pixels, which needs a mask with
        both kinds of pixels; other images are then passed over.

        Args:
            cell: of the run.
            name: identity of the image in its dataset.
            label: 0 normal, 1 anomalous.
            score: the method's anomaly score, or None.
            image: RGB [H, W, 3].
            mask: [M, M], True = anomalous, or None.
            heat: anomaly map [M, M], greater is more anomalous.
        """
        found = self._cells.setdefault(cell, _Candidates(self.keep))
        found.low = min(found.low, float(heat.min()))
        found.high = max(found.high, float(heat.max()))
        if score is not None:
            found.scores[label].append(score)
            if found.is_ordinary(label, score):
                return
        small_mask = None if mask is None else _shrink(mask.astype(np.uint8) * 255) > 0
        small_heat = _shrink(heat.astype(np.float32))
        value = _pixel_auroc(small_mask, small_heat) if score is None else score
        if value is not None:
            found.offer(
                _Candidate(value, name, label, score, _shrink(image), small_mask, small_heat)
            )

    def write(self, category: str) -> None:
        """Write the strips of every cell as those of this category, and forget them."""
        for cell, found in self._cells.items():
            folder = gallery_folder(self.run, cell)
            cases = []
            for kind, candidates in zip(KINDS, (found.best(), found.worst()), strict=True):
                for rank, own in enumerate(candidates, start=1):
                    file = f"{file_name(category)}-{kind}-{rank}.png"
                    write_png(folder / file, _strip(own, found.low, found.high))
                    judged = own.name, own.label, own.score, found.quality(own)
                    cases.append(Case(category, kind, rank, *judged, file))
            index = {
                "category": category,
                "lowest": found.low,
                "highest": found.high,
                "cases": [dataclasses.asdict(case) for case in cases],
            }
            write_json(folder / f"{file_name(category)}.json", index)
        self._cells.clear()


def read_gallery(run: Path, cell: Cell) -> list[Case]:
    """The cases of a cell, by category, best first; empty where a run kept no pictures.

    Raises:
        GalleryError: an index is broken, or names a file outside its folder.
    """
    cases = []
    fix = ": delete its folder, or run with --gallery and --retry always"
    for path in sorted(gallery_folder(run, cell).glob("*.json")):
        with reading(path, "index of pictures", GalleryError, fix):
            raw = as_list(as_mapping(read_json(path))["cases"])
            cases += [from_json(Case, case) for case in raw]
    return sorted(cases, key=lambda c: (c.category, KINDS.index(c.kind), c.rank))


def read_strip(run: Path, cell: Cell, case: Case) -> Image.Image:
    """The strip of a case, RGBA.

    Raises:
        GalleryError: it is missing or not a picture.
    """
    path = strip_path(run, cell, case.file)
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise GalleryError(f"{path} is not a readable picture ({error})") from error


# -- drawing ------------------------------------------------------------------------------------


def _shrink(picture: NDArray[Any]) -> NDArray[Any]:
    """A square thumbnail; a pixel is the mean of its area, so that no small region vanishes."""
    small = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small)


def _pixel_auroc(mask: NDArray[np.bool_] | None, heat: NDArray[np.float32]) -> float | None:
    """AUROC of an image's own pixels; None without both kinds of pixels."""
    from ..metrics import auroc

    if mask is None or mask.all() or not mask.any():
        return None
    return auroc(mask.astype(np.uint8), heat)


def _strip(candidate: _Candidate, low: float, high: float) -> Image.Image:
    """Image, mask and map side by side, transparent between them."""
    panels = (candidate.image, _mask_panel(candidate), _heat_panel(candidate, low, high))
    strip = Image.new("RGBA", (3 * SIDE + 2 * GAP, SIDE), (0, 0, 0, 0))
    for i, panel in enumerate(panels):
        strip.paste(Image.fromarray(panel), (i * (SIDE + GAP), 0))
    return strip


def _mask_panel(candidate: _Candidate) -> NDArray[np.uint8]:
    """White where anomalous; grey stripes where an anomalous image has no mask."""
    if candidate.mask is None and candidate.label:
        y, x = np.mgrid[:SIDE, :SIDE]
        grey = np.where((x + y) // 8 % 2, 150, 175)
    else:
        known = np.zeros((SIDE, SIDE), bool) if candidate.mask is None else candidate.mask
        grey = np.where(known, 245, 24)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def _heat_panel(candidate: _Candidate, low: float, high: float) -> NDArray[np.uint8]:
    """The map from the category's lowest to its highest value, over a hint of the image."""
    from matplotlib import colormaps

    scaled = (candidate.heat - low) / (high - low) if high > low else np.zeros_like(candidate.heat)
    colours: NDArray[np.float64] = colormaps[HEAT](scaled.clip(0, 1))[..., :3]
    grey = candidate.image.mean(axis=2, keepdims=True) / 255
    blended: NDArray[np.float64] = 255 * (0.82 * colours + 0.18 * grey)
    return np.rint(blended).astype(np.uint8)
