"""The table of ablations: datasets by the paper's models (Tables 20, 21 and 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..errors import UsageError
from ..metric_table import LEVELS
from . import published as paper
from .formats import Row, Table
from .layout import Request, method_columns, remarks
from .matrix import EvaluatedMethod, Matrix, place
from .protocol_notes import protocol_notes
from .rows import Models, RowMaker, is_complete

ABLATION_TABLES = (20, 21, 3, 10)  # of datasets at image and at pixel level, of domain means


def ablation_table(matrix: Matrix, request: Request) -> Table:
    """Tables 20 and 21 with the averages of Table 3: datasets by models, both levels."""
    matrix, models = _studied(matrix)
    protocol = protocol_notes(matrix)
    rows: list[Row] = []
    for level in LEVELS:
        metrics = request.pair(level)
        maker = RowMaker(matrix, request, models, ABLATION_TABLES, protocol, metrics)
        measured = {dataset: maker.values(dataset) for dataset in matrix.datasets}
        defined = {d: v for d, v in measured.items() if any(map(is_complete, v.values()))}
        rows += maker.by_domain(defined, group_prefix=f"{level}, ")
    if not rows:
        raise UsageError("no dataset has a value to show in layout 'ablation'")
    columns = zip(method_columns(matrix, ("AUROC", "AP/PRO")), matrix.methods, strict=True)
    return Table(
        "ablation",
        "Ablation: (AUROC, AP) at image level, (AUROC, PRO) at pixel level, in percent",
        ("Level", "Dataset"),
        tuple(dataclasses.replace(own, label=m.ablation or own.label) for own, m in columns),
        tuple(rows),
        tuple(remarks(matrix, request, "Tables 20, 21 and 3", True, rows)),
    )


def _studied(matrix: Matrix) -> tuple[Matrix, Models]:
    """The columns of an ablation in the paper's order, and the paper's name of each.

    Shown are the methods of which a variant is among the paper's models; all if there is none.
    """
    order = paper.ablation_models()
    models = {method: _model(method, order) for method in matrix.methods}
    studied = {method.method for method, name in models.items() if name is not None}
    shown = [m for m in matrix.methods if not studied or m.method in studied]
    shown.sort(key=lambda m: place(models[m], order))
    return dataclasses.replace(matrix, methods=tuple(shown)), models


def _model(method: EvaluatedMethod, models: Sequence[str]) -> str | None:
    """The paper's name of an ablation: by the variant where that is one, else by the method."""
    if method.ablation is not None:
        return method.ablation
    return None if method.options else method.printed_as(models)
