"""The gallery of a run as the page shows it, and which of its cases are shown at all."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset
from ..records.cases import KINDS, Case, read_cases, read_strip
from ..records.cell import Cell

Groups = dict[TargetDataset, dict[str, dict[EvaluatedMethod, list[tuple[Case, str]]]]]


@dataclass(frozen=True)
class GalleryView:
    """Cases by dataset, category and method, best first, each with its strip as a data URI.

    Attributes:
        left_out: how many strips are not in the groups.
    """

    groups: Groups
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
    """The pictures of the first seed of every cell, the most extreme ones first, within a budget.

    Args:
        run: the run directory.
        matrix: of its records.
        budget: bytes that the pictures may take within the page.

    Raises:
        GalleryError: an index or a picture is broken.
    """
    wanted = []
    for i, dataset in enumerate(matrix.datasets):
        order = matrix.categories(dataset)
        for method in matrix.methods:
            for cell, case in cases_of(run, matrix, method, dataset):
                if case.category in order:
                    place = i, order.index(case.category), method.index
                    wanted.append((place, dataset, method, cell, case))
    # every dataset's first category before its second
    wanted.sort(key=lambda item: (item[-1].rank, item[0][1], item[0]))
    shown = []
    for place, dataset, method, cell, case in wanted if budget > 0 else []:
        uri = _data_uri(run, cell, case)
        budget -= len(uri)
        if budget < 0:
            break
        shown.append((place, KINDS.index(case.kind), case.rank, dataset, method, case, uri))
    groups: Groups = {}
    for *_, dataset, method, case, uri in sorted(shown, key=lambda item: item[:3]):
        columns = groups.setdefault(dataset, {}).setdefault(case.category, {})
        columns.setdefault(method, []).append((case, uri))
    return GalleryView(groups, len(wanted) - len(shown))


def _data_uri(run: Path, cell: Cell, case: Case) -> str:
    """A strip as a data URI, much smaller than its PNG."""
    buffer = io.BytesIO()
    read_strip(run, cell, case).save(buffer, format="WEBP", quality=62, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
