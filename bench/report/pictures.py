"""The gallery of a run as the page shows it, and which of its cases are shown at all."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
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
    run: Path, matrix: Matrix, method: EvaluatedMethod, target: TargetDataset
) -> list[tuple[Cell, Case]]:
    """The cases of a method on a dataset, of its first seed, each with its cell.

    Raises:
        GalleryError: an index is broken.
    """
    return [
        (record.cell, case)
        for record in matrix.finished(method, target)[:1]
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
    for target in matrix.datasets:
        order = {name: i for i, name in enumerate(matrix.categories(target))}
        for method in matrix.methods:
            for cell, case in cases_of(run, matrix, method, target):
                if case.category in order:
                    wanted.append((case.rank, order[case.category], target, method, cell, case))
    wanted.sort(key=lambda item: item[:2])  # every dataset's first category before its second
    pictures: dict[tuple[str, str, str], list[Picture]] = {}
    spent = shown = 0
    for _, _, target, method, cell, case in wanted if budget > 0 else []:
        uri = _data_uri(run, cell, case)
        if spent + len(uri) > budget:
            break
        spent, shown = spent + len(uri), shown + 1
        place = (target.name, case.category, method.label)
        pictures.setdefault(place, []).append(Picture(case, uri))
    groups = []
    for target in matrix.datasets:
        panels = [_panel(matrix, target, c, pictures) for c in matrix.categories(target)]
        panels = [panel for panel in panels if panel.columns]
        if panels:
            groups.append((target, panels))
    return GalleryView(groups, shown, len(wanted) - shown)


def _panel(
    matrix: Matrix,
    target: TargetDataset,
    category: str,
    pictures: Mapping[tuple[str, str, str], list[Picture]],
) -> PicturePanel:
    columns = []
    for method in matrix.methods:
        own = pictures.get((target.name, category, method.label), [])
        if own:
            own = sorted(own, key=lambda p: (KINDS.index(p.case.kind), p.case.rank))
            columns.append((method, own))
    return PicturePanel(category, columns)


def _data_uri(run: Path, cell: Cell, case: Case) -> str:
    """A strip as a data URI, much smaller than its PNG."""
    buffer = io.BytesIO()
    read_strip(run, cell, case).save(buffer, format="WEBP", quality=62, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
