"""The best and worst cases of a method in a category, as strips: image, mask, anomaly map.

    gallery/<cell>/<category>.json            what the strips show
    gallery/<cell>/<category>-best-1.png      three squares side by side, transparent between them

A case is an anomalous image that the method ranks against the normal ones, or a normal image that
raised a false alarm. Only the candidates are kept while a category runs, as thumbnails, so memory
does not grow with the number of images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ZsadError
from ..files import file_name, read_json, whole_file, write_json
from .json_fields import (
    as_class,
    as_count,
    as_fraction,
    as_label,
    as_mapping,
    as_number,
    as_text,
    build,
    list_of,
    optional,
    shown,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.loading import Batch
    from ..preprocess import Preprocess

GALLERY = "gallery"
SIDE = 112
GAP = 4
HEAT = "inferno"
"""Brightness rises with the anomaly score, so the map reads without colour vision too."""

Kind = Literal["best", "worst"]
KINDS: tuple[Kind, ...] = ("best", "worst")


class GalleryError(ZsadError):
    """The pictures of a run are missing or broken."""


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

    category: str
    kind: Kind
    rank: int
    name: str
    label: int
    score: float | None
    quality: float | None
    file: str

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
    """A case in the making: thumbnails only."""

    value: float  # what it is ranked by: the score, or the AUROC of its own pixels
    name: str
    label: int
    score: float | None
    image: NDArray[np.uint8]  # [SIDE, SIDE, 3]
    mask: NDArray[np.bool_] | None  # [SIDE, SIDE]
    heat: NDArray[np.float32]  # [SIDE, SIDE]


@dataclass
class _Shelf:
    """What is kept of one cell and category: a few candidates, all scores, the maps' range."""

    top: dict[int, list[_Candidate]] = field(default_factory=lambda: {0: [], 1: []})
    bottom: dict[int, list[_Candidate]] = field(default_factory=lambda: {0: [], 1: []})
    scores: dict[int, list[float]] = field(default_factory=lambda: {0: [], 1: []})
    low: float = float("inf")
    high: float = float("-inf")


class Gallery:
    """Collects cases while categories run, and writes them category by category.

    Args:
        folder: the run's gallery folder.
        keep: so many best and so many worst cases per cell and category.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep
        self._shelves: dict[tuple[str, str], _Shelf] = {}

    def add_batch(
        self,
        cell_key: str,
        batch: Batch,
        scores: Tensor | None,
        maps: Tensor,
        preprocess: Preprocess,
    ) -> None:
        """Offer a batch of one category; `write` names that category later.

        Args:
            cell_key: `Cell.key` of the cell.
            batch: with images as `preprocess` made them.
            scores: [B], or None where the method gives none.
            maps: [B, H, W], greater is more anomalous.
            preprocess: the method's own; it is taken back for the thumbnails.
        """
        for i, name in enumerate(batch.names):
            self.add(
                cell_key,
                "",
                name,
                int(batch.labels[i]),
                None if scores is None else float(scores[i]),
                preprocess.picture(batch.images[i], batch.sizes[i]),
                None if batch.masks is None else batch.masks[i].cpu().numpy(),
                maps[i].cpu().float().numpy(),
            )

    def add(
        self,
        cell_key: str,
        category: str,
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
            cell_key: `Cell.key` of the cell.
            category: "" stands for the one that `write` will name.
            name: identity of the image in its dataset.
            label: 0 normal, 1 anomalous.
            score: the method's anomaly score, or None.
            image: RGB [H, W, 3].
            mask: [H, W], True = anomalous, or None.
            heat: anomaly map [H, W], greater is more anomalous.
        """
        shelf = self._shelves.setdefault((cell_key, category), _Shelf())
        shelf.low = min(shelf.low, float(heat.min()))
        shelf.high = max(shelf.high, float(heat.max()))
        if score is not None:
            shelf.scores[label].append(score)
            if self._is_ordinary(shelf, label, score):
                return
        small_mask = None if mask is None else _shrink_mask(mask)
        small_heat = _shrink_map(heat)
        value = score if score is not None else _pixel_rank(small_mask, small_heat)
        if value is None or self._is_ordinary(shelf, label, value):
            return
        candidate = _Candidate(
            value, name, label, score, _shrink_image(image), small_mask, small_heat
        )
        shelf.top[label] = _extremes([*shelf.top[label], candidate], -1, self.keep)
        shelf.bottom[label] = _extremes([*shelf.bottom[label], candidate], 1, self.keep)

    def _is_ordinary(self, shelf: _Shelf, label: int, value: float) -> bool:
        """Whether a value cannot enter either end of a full shelf."""
        if not self.keep:
            return True
        top, bottom = shelf.top[label], shelf.bottom[label]
        full = len(top) == len(bottom) == self.keep
        return full and bottom[-1].value < value < top[-1].value

    def write(self, category: str) -> None:
        """Write the strips of a category for every cell, and forget them."""
        for cell_key, own in list(self._shelves):
            if own in ("", category):
                shelf = self._shelves.pop((cell_key, own))
                self._write_shelf(self.folder / cell_key, category, shelf)

    def _write_shelf(self, folder: Path, category: str, shelf: _Shelf) -> None:
        best, worst = _chosen(shelf, self.keep)
        cases = []
        for kind, candidates in zip(KINDS, (best, worst), strict=True):
            for rank, candidate in enumerate(candidates, start=1):
                name = f"{file_name(category)}-{kind}-{rank}.png"
                _save(_strip(candidate, shelf.low, shelf.high), folder / name)
                cases.append(
                    Case(
                        category,
                        kind,
                        rank,
                        candidate.name,
                        candidate.label,
                        candidate.score,
                        _quality(candidate, shelf),
                        name,
                    )
                )
        index = {
            "category": category,
            "lowest": shelf.low,
            "highest": shelf.high,
            "cases": [dataclasses.asdict(case) for case in cases],
        }
        write_json(folder / f"{file_name(category)}.json", index)


def read_gallery(run: Path, cell_key: str) -> list[Case]:
    """The cases of a cell, by category, best first; empty where a run kept no pictures.

    Raises:
        GalleryError: an index is broken, or names a file outside its folder.
    """
    cases = []
    for path in sorted((run / GALLERY / file_name(cell_key)).glob("*.json")):
        try:
            cases += list_of(_case)(as_mapping(read_json(path))["cases"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise GalleryError(
                f"{path} is no readable index of pictures ({error}): delete its folder, or run "
                "with --gallery and --retry always"
            ) from error
    return sorted(cases, key=lambda c: (c.category, KINDS.index(c.kind), c.rank))


def strip_path(run: Path, cell_key: str, case: Case) -> Path:
    """Where the PNG of a case lies."""
    return run / GALLERY / file_name(cell_key) / case.file


def _case(raw: Any) -> Case:
    case: Case = build(
        Case,
        raw,
        category=as_label,
        kind=_kind,
        rank=as_count,
        name=as_text,
        label=as_class,
        score=optional(as_number),
        quality=optional(as_fraction),
        file=_own_png,
    )
    return case


def _kind(value: Any) -> str:
    if value not in KINDS:
        raise ValueError(f"neither of {' and '.join(KINDS)}: {shown(value)}")
    return str(value)


def _own_png(value: Any) -> str:
    """The name of a PNG in the index's own folder."""
    name = as_text(value)
    if name != Path(name).name or not name.endswith(".png") or "\\" in name or "\0" in name:
        raise ValueError(f"names a picture that is none of its own: {shown(value)}")
    return name


# -- choosing -----------------------------------------------------------------------------------


def _extremes(candidates: list[_Candidate], sign: int, keep: int) -> list[_Candidate]:
    """The first `keep` by rising (1) or falling (-1) value; ties go to the name."""
    return sorted(candidates, key=lambda c: (sign * c.value, c.name))[:keep]


def _chosen(shelf: _Shelf, keep: int) -> tuple[list[_Candidate], list[_Candidate]]:
    """The best and the worst cases, no image twice."""
    best = (shelf.top[1] or shelf.bottom[0])[:keep]
    taken = {candidate.name for candidate in best}
    pools = (shelf.bottom[1], shelf.top[0])
    ranked = [
        (_order(_quality(candidate, shelf)), place, 1 - candidate.label, candidate)
        for pool in pools
        for place, candidate in enumerate(pool)
        if candidate.name not in taken
    ]
    ranked.sort(key=lambda item: item[:3])
    return best, [candidate for *_, candidate in ranked[:keep]]


def _order(quality: float | None) -> float:
    return 0.0 if quality is None else quality


def _quality(candidate: _Candidate, shelf: _Shelf) -> float | None:
    """The share of the other label's scores on the right side; a tie counts half."""
    if candidate.score is None:
        return candidate.value
    others = np.asarray(shelf.scores[1 - candidate.label])
    if not len(others):
        return None
    sign = 1 if candidate.label else -1
    difference = sign * (candidate.score - others)
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def _pixel_rank(mask: NDArray[np.bool_] | None, heat: NDArray[np.float32]) -> float | None:
    """AUROC of an image's own pixels; None without both kinds of pixels."""
    from ..metrics import auroc

    if mask is None or mask.all() or not mask.any():
        return None
    return auroc(mask.astype(np.uint8), heat)


# -- drawing ------------------------------------------------------------------------------------


def _shrink_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    small = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8)


def _shrink_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A square thumbnail in which the smallest region stays visible."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX)) > 0


def _shrink_map(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    small = Image.fromarray(heat.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def _strip(candidate: _Candidate, low: float, high: float) -> Image.Image:
    """Image, mask and map side by side, transparent between them."""
    panels: Sequence[NDArray[Any]] = (
        candidate.image,
        _mask_panel(candidate),
        _heat_panel(candidate, low, high),
    )
    strip = Image.new("RGBA", (3 * SIDE + 2 * GAP, SIDE), (0, 0, 0, 0))
    for i, panel in enumerate(panels):
        strip.paste(Image.fromarray(panel.astype(np.uint8)), (i * (SIDE + GAP), 0))
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


def _save(image: Image.Image, path: Path) -> None:
    """Write a PNG that is whole or absent."""
    with whole_file(path) as file:
        image.save(file, format="PNG", optimize=True)


def categories_of(cases: Iterable[Case]) -> list[str]:
    """The categories of some cases, in order, without repetitions."""
    return list(dict.fromkeys(case.category for case in cases))
