"""Collects a category's gallery while it runs: the maps of all methods for the same images.

Which images are kept does not depend on the method, so that methods can be compared on one image:
of many images a random part is looked at, which their names decide, and of this part those are kept
on which the methods disagree most, all fail or all succeed, and some at random. Methods that are
scored later, by another process or after a kill, keep the same images.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..files import file_name
from .array_file import ArrayFile
from .cell import Cell
from .gallery_choice import Judged, drawn, spread
from .map_sheets import (
    MAP_SIDE,
    PICTURE_SIDE,
    RATES,
    Bytes,
    Sheet,
    SheetImage,
    names_shown,
    write_shared,
    write_sheet,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.loading import Batch
    from ..preprocess import Preprocess

CONSIDERED: Final = (64, 192)  # normal and anomalous images of a category that may be shown
PER_CHOICE = 4  # a sheet has four times as many images as are shown of each of four choices
BINS = 4096  # in which the values of one map are ranked

Heat = NDArray[np.float32]


def _pictures() -> ArrayFile:
    return ArrayFile((PICTURE_SIDE, PICTURE_SIDE, 3), np.uint8)


def _heats() -> ArrayFile:
    return ArrayFile((MAP_SIDE, MAP_SIDE), np.float32)


@dataclass
class _Considered:
    """The images that may be shown: for each label those that come first in a random order.

    Attributes:
        pictures: RGB [S, S, 3] by name.
        masks: [M, M] by name, how much of each pixel is anomalous; None without a mask.
        labels: by name.
    """

    pictures: ArrayFile = field(default_factory=_pictures)
    masks: dict[str, Bytes | None] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    _order: tuple[list[tuple[int, str]], ...] = field(default_factory=lambda: ([], []))

    def admits(self, name: str, label: int) -> bool:
        """Whether an image is among them, or comes before one of them."""
        order = self._order[label]
        full = len(order) == CONSIDERED[label]
        return name in self.labels or not full or _place(name) > order[0][0]

    def add(self, name: str, label: int, picture: Bytes, mask: Bytes | None) -> str | None:
        """Add an image that is admitted; returns the name of the one that gives way, if any."""
        order, gone = self._order[label], None
        if len(order) == CONSIDERED[label]:
            _, gone = heapq.heapreplace(order, (_place(name), name))
            self.pictures.drop(gone)
            del self.masks[gone], self.labels[gone]
        else:
            heapq.heappush(order, (_place(name), name))
        self.pictures[name], self.masks[name], self.labels[name] = picture, mask, label
        return gone


def _place(name: str) -> int:
    """The first in random order is the greatest, as a heap that drops its least one needs it."""
    return -int.from_bytes(drawn(name)[:8], "big")


@dataclass
class _Answers:
    """What one method said of the category.

    Attributes:
        heats: maps [M, M] of the considered images by name.
        scores: of all images, by label and name.
        low, high: range of all maps.
    """

    heats: ArrayFile = field(default_factory=_heats)
    scores: dict[int, dict[str, float]] = field(default_factory=partial(defaultdict, dict))
    low: float = float("inf")
    high: float = float("-inf")

    def quality(self, name: str, label: int, pixel_auroc: float | None) -> float | None:
        """See `gallery_choice`; without scores of both labels the image's own AUROC of pixels."""
        score = self.scores[label].get(name)
        others = np.array([*self.scores[1 - label].values()])
        if score is None or not len(others):
            return pixel_auroc
        difference = (score - others) * (1 if label else -1)
        return float(np.mean((difference > 0) + 0.5 * (difference == 0)))

    @property
    def is_ranked(self) -> bool:
        """Whether images have a quality without their maps."""
        return bool(self.scores[0] and self.scores[1])

    def levels(self, name: str) -> Bytes:
        """A map from the lowest value of the category, 0, to its highest, 255."""
        heat, span = self.heats[name], self.high - self.low
        scaled = (heat - self.low) / span if span > 0 else np.zeros_like(heat)
        found: Bytes = np.rint(255 * scaled.clip(0, 1)).astype(np.uint8)
        return found


class Gallery:
    """Collects the maps of one category while it runs, and writes them at its end.

    Args:
        run: the run folder.
        keep: how many images of each choice can be shown.
    """

    def __init__(self, run: Path, keep: int = 2) -> None:
        self.run = run
        self.room = PER_CHOICE * 4 * keep
        self._considered = _Considered()
        self._answers: dict[Cell, _Answers] = {}
        self._lock = Lock()

    def add_batch(
        self,
        cell: Cell,
        batch: Batch,
        scores: Tensor | None,
        maps: Tensor,
        preprocess: Preprocess,
    ) -> None:
        """Offer the images of a batch; methods may do so from several threads.

        Args:
            cell: of the run.
            batch: with images as `preprocess` made them.
            scores: [B], or None where the method gives none.
            maps: [B, M, M], greater is more anomalous.
            preprocess: the method's own; images are shown as it sees them, without normalisation.
        """
        low, high = _range(maps)
        with self._lock:
            for i, name in enumerate(batch.names):
                label = int(batch.labels[i])
                score = None if scores is None else float(scores[i])
                if not self._notes(cell, name, label, score, low, high):
                    continue
                if name not in self._considered.labels:
                    mask = None if batch.masks is None else batch.masks[i].cpu().numpy()
                    self._consider(name, label, preprocess.picture(batch.images[i]), mask)
                self._answers[cell].heats[name] = _small(maps[i].cpu().float().numpy())

    def _notes(
        self, cell: Cell, name: str, label: int, score: float | None, low: float, high: float
    ) -> bool:
        """Note a score and the range of maps; answers whether the map itself is wanted."""
        own = self._answers.setdefault(cell, _Answers())
        own.low, own.high = min(own.low, low), max(own.high, high)
        if score is not None:
            own.scores[label][name] = score
        return self._considered.admits(name, label)

    def _consider(
        self, name: str, label: int, image: Bytes, mask: NDArray[np.bool_] | None
    ) -> None:
        picture = Image.fromarray(image).resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BOX)
        small = None if mask is None else _small(mask.astype(np.float32))
        share = None if small is None else np.ceil(255 * small).astype(np.uint8)
        gone = self._considered.add(name, label, np.asarray(picture), share)
        if gone is not None:
            for own in self._answers.values():
                own.heats.drop(gone)

    def write(self, category: str) -> None:
        """Write the sheets of every cell as those of this category, and forget them."""
        by_dataset: dict[str, dict[Cell, _Answers]] = {}
        for cell, own in self._answers.items():
            by_dataset.setdefault(cell.target, {})[cell] = own
        for dataset, answers in by_dataset.items():
            names = self._chosen(dataset, category, answers)
            if names:
                self._write_sheets(category, names, answers)
        self.close()

    def close(self) -> None:
        """Forget what was collected and give back its temporary files."""
        for kept in (self._considered.pictures, *(own.heats for own in self._answers.values())):
            kept.close()
        self._considered, self._answers = _Considered(), {}

    def _chosen(
        self, dataset: str, category: str, answers: Mapping[Cell, _Answers]
    ) -> Sequence[str]:
        """The images to keep: those of sheets that exist, filled up with what is worth a look."""
        known = self._considered.labels
        earlier = [name for name in names_shown(self.run, dataset, category) if name in known]
        if len(earlier) >= min(self.room, len(known)):
            return earlier[: self.room]
        judged = [
            Judged(name, label, self._qualities(name, answers)) for name, label in known.items()
        ]
        more = spread(judged, self.room - len(earlier), earlier)
        return [*earlier, *more]

    def _qualities(self, name: str, answers: Mapping[Cell, _Answers]) -> tuple[float, ...]:
        """The qualities of an image for the methods that have its map."""
        label, found = self._considered.labels[name], []
        for own in answers.values():
            if name in own.heats:
                auroc = None if own.is_ranked else self._pixel_auroc(name, own)
                found.append(own.quality(name, label, auroc))
        return tuple(quality for quality in found if quality is not None)

    def _pixel_auroc(self, name: str, own: _Answers) -> float | None:
        mask = self._considered.masks[name]
        return None if mask is None else pixel_auroc(own.heats[name], mask)

    def _write_sheets(
        self, category: str, names: Sequence[str], answers: Mapping[Cell, _Answers]
    ) -> None:
        considered = self._considered
        pictures, masks = write_shared(
            self.run,
            [considered.pictures[name] for name in names],
            [considered.masks[name] for name in names],
        )
        for cell, own in answers.items():
            if any(name not in own.heats for name in names):
                continue  # it failed on the way
            images = [self._described(name, own) for name in names]
            levels = rate_levels(self._normal_levels(own))
            described = category, cell.target, own.low, own.high, images, levels
            file = f"{file_name(category)}.png"
            sheet = Sheet(*described, file, pictures, masks)
            write_sheet(self.run, cell, sheet, [own.levels(name) for name in names])

    def _described(self, name: str, own: _Answers) -> SheetImage:
        label, mask = self._considered.labels[name], self._considered.masks[name]
        auroc = self._pixel_auroc(name, own)
        score, quality = own.scores[label].get(name), own.quality(name, label, auroc)
        return SheetImage(name, label, score, quality, auroc, int(mask is not None))

    def _normal_levels(self, own: _Answers) -> NDArray[np.int64]:
        """How many normal pixels of the considered images have each level, [256]."""
        counts = np.zeros(256, np.int64)
        for normal in (True, False):  # without any normal pixel, all pixels
            for name in own.heats:
                mask, label = self._considered.masks[name], self._considered.labels[name]
                levels = own.levels(name)
                if normal and mask is not None:
                    levels = levels[mask == 0]
                elif normal and label:
                    continue
                counts += np.bincount(levels.ravel(), minlength=256)
            if counts.any():
                break
        return counts


def rate_levels(counts: NDArray[np.int64]) -> list[int]:
    """For each of `RATES` the lowest level that no larger share of the pixels reaches.

    Args:
        counts: pixels of each level, [256].
    """
    reaching = np.cumsum(counts[::-1])[::-1]  # [256], pixels at or above a level
    return [int(np.count_nonzero(reaching > rate * max(counts.sum(), 1))) for rate in RATES]


def pixel_auroc(heat: Heat, mask: Bytes) -> float | None:
    """AUROC of an image's own pixels [M, M], to about a thousandth; None without both kinds.

    Args:
        heat: anomaly map.
        mask: 0 to 255, the part of each pixel that is anomalous.
    """
    share = mask.ravel() / 255
    if not share.any() or (share == 1).all():
        return None
    low, high = float(heat.min()), float(heat.max())
    if high <= low:
        return 0.5
    bins = ((BINS - 1) * ((heat.ravel() - low) / (high - low))).astype(np.int64)
    anomalous = np.bincount(bins, weights=share, minlength=BINS)
    normal = np.bincount(bins, weights=1 - share, minlength=BINS)
    below = np.cumsum(normal) - normal / 2
    value = float((anomalous * below).sum() / (anomalous.sum() * normal.sum()))
    return min(max(value, 0.0), 1.0)


def _range(maps: Tensor) -> tuple[float, float]:
    """The least and the greatest value of maps.

    On the host with NumPy: torch would take all cores for it, from the thread that measures, and
    the visual forward beside it would wait for its own.
    """
    if maps.device.type == "cpu":
        values = maps.numpy()
        return float(values.min()), float(values.max())
    low, high = maps.aminmax()
    return float(low), float(high)


def _small(picture: NDArray[Any]) -> Heat:
    """A square of `MAP_SIDE` pixels; each is the mean of its area, so no small region vanishes."""
    small = Image.fromarray(picture).resize((MAP_SIDE, MAP_SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32)
