"""The gallery of a run as the page shows it: a row for an image, all methods beside each other."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset
from ..records.cases import Case, coloured, mask_panel, read_cases, read_strip
from ..records.cell import Cell
from ..records.gallery_choice import CHOICES, Choice, Judged, choose
from ..records.map_sheets import Bytes, MapSheet, SheetImage, read_sheets

STEPS = 48  # of the colours of a map on the page
IMAGES_FOR_ONE = 16  # that a sheet has for each image that is shown of a choice

Groups = dict[TargetDataset, dict[str, list["Row"]]]
Strips = dict[TargetDataset, dict[str, dict[EvaluatedMethod, list[tuple[Case, str]]]]]


@dataclass(frozen=True)
class MapView:
    """The map of a method for an image.

    Attributes:
        uri: the picture.
        score: anomaly score of the image, None where the method gives none.
        pixel_auroc: of the image's own pixels, in [0, 1]; None without a mask with both kinds.
        levels: for each of `map_sheets.RATES` the level from which pixels are reported.
    """

    method: EvaluatedMethod
    uri: str
    score: float | None
    pixel_auroc: float | None
    levels: Sequence[int]


@dataclass(frozen=True)
class Row:
    """An image with its mask and the maps of all methods that have one.

    Attributes:
        choice: how it was chosen.
        name: of the image in its dataset.
        label: 0 normal, 1 anomalous.
        picture, mask: data URIs.
    """

    choice: Choice
    name: str
    label: int
    picture: str
    mask: str
    maps: tuple[MapView, ...]

    @property
    def title(self) -> str:
        """How it was chosen, in words."""
        return CHOICES[self.choice]

    @property
    def size(self) -> int:
        """Bytes of its pictures within the page."""
        return sum(map(len, (self.picture, self.mask, *(own.uri for own in self.maps))))


@dataclass(frozen=True)
class GalleryView:
    """What is shown of a gallery.

    Attributes:
        groups: rows by dataset and category, in the order of choices.
        strips: what runs of earlier versions kept instead, by dataset, category and method.
        left_out: how many rows and strips there are beside.
    """

    groups: Groups
    strips: Strips
    left_out: int


def cases_of(
    run: Path, matrix: Matrix, method: EvaluatedMethod, dataset: TargetDataset
) -> list[tuple[Cell, Case]]:
    """The cases of a method on a dataset, of its first seed, each with its cell.

    Raises:
        GalleryError: an index is broken.
    """
    return [
        (record.cell, case)
        for record in matrix.finished(method, dataset)[:1]
        for case in read_cases(run, record.cell)
    ]


def gallery(run: Path, matrix: Matrix, budget: int) -> GalleryView:
    """The gallery of the first seed of every cell, within a budget.

    Args:
        run: the run directory.
        matrix: of its records.
        budget: bytes that the pictures may take within the page. Each category's first row of
            every choice comes before any second one.

    Raises:
        GalleryError: an index or a picture is broken.
    """
    if budget <= 0:
        return GalleryView({}, {}, 0)
    shown: list[tuple[_Planned, Row]] = []
    left_out = 0
    planned = sorted(_planned(run, matrix), key=lambda own: (own.rank, own.place))
    for own in planned:
        row = own.drawn() if budget > 0 else None
        budget -= 0 if row is None else row.size
        if row is None or budget < 0:
            left_out += 1
            continue
        shown.append((own, row))
    order = list(CHOICES)
    shown.sort(key=lambda pair: (*reversed(pair[0].place), order.index(pair[0].choice)))
    groups: Groups = {}
    for own, row in shown:
        groups.setdefault(own.dataset, {}).setdefault(own.category, []).append(row)
    strips, more = _strips(run, matrix, budget)
    return GalleryView(groups, strips, left_out + more)


@dataclass(frozen=True)
class _Planned:
    """A row before its pictures are read.

    Attributes:
        rank: from 0, among the rows of its choice.
        place: of its category within its dataset, then of the dataset.
        sheets: of all methods that have the image.
    """

    dataset: TargetDataset
    category: str
    choice: Choice
    judged: Judged
    rank: int
    place: tuple[int, int]
    sheets: Mapping[EvaluatedMethod, MapSheet]

    def drawn(self) -> Row:
        """The row with its pictures."""
        name = self.judged.name
        first = next(iter(self.sheets.values()))
        place = _names(first).index(name)
        picture = _uri(Image.fromarray(first.picture_of(place)), quality=70)
        panel = mask_panel(first.mask_of(place), first.sheet.images[place])
        mask = _uri(Image.fromarray(panel), lossless=True)
        maps = tuple(_map_view(method, sheet, name) for method, sheet in self.sheets.items())
        return Row(self.choice, name, self.judged.label, picture, mask, maps)


def _planned(run: Path, matrix: Matrix) -> Iterator[_Planned]:
    for i, dataset in enumerate(matrix.datasets):
        by_category: dict[str, dict[EvaluatedMethod, MapSheet]] = {}
        for method in matrix.methods:
            for record in matrix.finished(method, dataset)[:1]:
                for sheet in read_sheets(run, record.cell):
                    by_category.setdefault(sheet.sheet.category, {})[method] = sheet
        for j, category in enumerate(matrix.categories(dataset)):
            sheets = by_category.get(category, {})
            images = _judged(sheets)
            count = max(1, round(len(images) / IMAGES_FOR_ONE))
            for choice, found in choose(images, count).items():
                for rank, judged in enumerate(found):
                    having = {m: s for m, s in sheets.items() if judged.name in _names(s)}
                    yield _Planned(dataset, category, choice, judged, rank, (j, i), having)


def _judged(sheets: Mapping[EvaluatedMethod, MapSheet]) -> list[Judged]:
    """The images of which most methods have maps, with what they say of them."""
    every: dict[str, list[SheetImage]] = {}
    for sheet in sheets.values():
        for image in sheet.sheet.images:
            every.setdefault(image.name, []).append(image)
    most = max(map(len, every.values()), default=0)
    return [
        Judged(name, own[0].label, tuple(i.quality for i in own if i.quality is not None))
        for name, own in every.items()
        if len(own) == most
    ]


def _names(sheet: MapSheet) -> list[str]:
    return [image.name for image in sheet.sheet.images]


def _map_view(method: EvaluatedMethod, sheet: MapSheet, name: str) -> MapView:
    place = _names(sheet).index(name)
    image, levels = sheet.sheet.images[place], sheet.sheet.levels
    picture = Image.fromarray(coloured(stepped(sheet.map_of(place), levels)))
    uri = _uri(picture, lossless=True)
    return MapView(method, uri, image.score, image.pixel_auroc, levels)


def stepped(levels: Bytes, edges: Sequence[int]) -> Bytes:
    """A map [M, M] in steps that the page can show in few bytes.

    A step begins at each of `edges`, so that what reaches one is the same as before.
    """
    even = np.linspace(0, 256, STEPS, endpoint=False).astype(int)
    starts = np.unique([0, *even, *(edge for edge in edges if edge < 256)])
    return starts[np.searchsorted(starts, levels, side="right") - 1].astype(np.uint8)


def _strips(run: Path, matrix: Matrix, budget: int) -> tuple[Strips, int]:
    """The strips of cells that have no sheets, and how many are left out."""
    found: Strips = {}
    left_out = 0
    for dataset in matrix.datasets:
        for method in matrix.methods:
            cases = cases_of(run, matrix, method, dataset)
            for cell, case in cases:
                if not _is_strip(case):
                    continue
                uri = _uri(read_strip(run, cell, case), quality=62) if budget > 0 else ""
                budget -= len(uri)
                if budget <= 0:
                    left_out += 1
                    continue
                columns = found.setdefault(dataset, {}).setdefault(case.category, {})
                columns.setdefault(method, []).append((case, uri))
    return found, left_out


def _is_strip(case: Case) -> bool:
    """Whether a case has a picture of its own, as earlier versions drew it."""
    return case.file.endswith(f"-{case.kind}-{case.rank}.png")


def _uri(picture: Image.Image, lossless: bool = False, quality: int = 30) -> str:
    """A picture as a data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", lossless=lossless, quality=quality, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
