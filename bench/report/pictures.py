"""The gallery of a run as the page shows it, and which of its cases are shown at all."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset
from ..records.cell import Cell
from ..records.gallery import KINDS, Case, read_gallery, read_strip


@dataclass(frozen=True)
class Picture:
    """A strip within the page, as a data URI."""

    case: Case
    uri: str


_Pictures = dict[tuple[TargetDataset, str, EvaluatedMethod], list[Picture]]


@dataclass(frozen=True)
class PicturePanel:
    """The pictures of one category: for each method its best and worst cases."""

    category: str
    columns: list[tuple[EvaluatedMethod, list[Picture]]]


@dataclass(frozen=True)
class GalleryView:
    """All pictures by dataset, and how many were left out."""

    groups: list[tuple[TargetDataset, list[PicturePanel]]]
    shown: int
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
        for case in read_gallery(run, record.cell)
    ]


def gallery(run: Path, matrix: Matrix, budget: int) -> GalleryView:
    """The pictures of the first seed of every cell, the most extreme ones first, within a budget.

    Args:
        run: the run directory.
        matrix: of its records.
        budget: bytes that the pictures may take within the page.

    Raises:
        GalleryError: an index or a picture is broken.
    """
    wanted = []
    for dataset in matrix.datasets:
        order = {name: i for i, name in enumerate(matrix.categories(dataset))}
        for method in matrix.methods:
            for cell, case in cases_of(run, matrix, method, dataset):
                if case.category in order:
                    wanted.append((case.rank, order[case.category], dataset, method, cell, case))
    wanted.sort(key=lambda item: item[:2])  # every dataset's first category before its second
    pictures: _Pictures = {}
    spent = shown = 0
    for _, _, dataset, method, cell, case in wanted if budget > 0 else []:
        uri = _data_uri(run, cell, case)
        if spent + len(uri) > budget:
            break
        spent, shown = spent + len(uri), shown + 1
        pictures.setdefault((dataset, case.category, method), []).append(Picture(case, uri))
    found = [(dataset, _panels(matrix, dataset, pictures)) for dataset in matrix.datasets]
    return GalleryView([group for group in found if group[1]], shown, len(wanted) - shown)


def _panels(matrix: Matrix, dataset: TargetDataset, pictures: _Pictures) -> list[PicturePanel]:
    """The categories of a dataset that have pictures."""
    panels = []
    for category in matrix.categories(dataset):
        columns = []
        for method in matrix.methods:
            own = pictures.get((dataset, category, method), [])
            if own:
                own.sort(key=lambda picture: (KINDS.index(picture.case.kind), picture.case.rank))
                columns.append((method, own))
        if columns:
            panels.append(PicturePanel(category, columns))
    return panels


def _data_uri(run: Path, cell: Cell, case: Case) -> str:
    """A strip as a data URI, much smaller than its PNG."""
    buffer = io.BytesIO()
    read_strip(run, cell, case).save(buffer, format="WEBP", quality=62, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
