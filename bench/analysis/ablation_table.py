"""The table of ablations: datasets by the paper's models (Tables 20, 21 and 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ..errors import UsageError
from ..metric_table import Level
from . import published as paper
from .formats import Row, Table
from .layout import Request, method_columns, remarks
from .matrix import EvaluatedMethod, Matrix, place
from .paired_rows import MEAN, Models, PairedRows, is_complete

ABLATION_TABLES: Mapping[Level, int] = {"image": 20, "pixel": 21}
AVERAGES = (3, 10)  # the paper's tables of domain means


def ablation_table(matrix: Matrix, request: Request) -> Table:
    """Tables 20 and 21 with the averages of Table 3: datasets by models, both levels."""
    matrix, models = _studied(matrix)
    rows: list[Row] = []
    for level, table in ABLATION_TABLES.items():
        pairs = PairedRows(matrix, request, level, table, models, request.pair(level))
        for domain in matrix.domains:
            group = f"{level}, {domain}"
            measured = {d: pairs.values(d) for d in matrix.datasets if d.domain == domain}
            defined = {d: v for d, v in measured.items() if any(map(is_complete, v.values()))}
            rows += [pairs.row(dataset, values, group) for dataset, values in defined.items()]
            mean = pairs.mean(defined, domain, group)
            if mean is not None:
                rows.append(_beside_averages(mean, models, level, domain))
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
    names = {method: models[method] for method in shown}
    return dataclasses.replace(matrix, methods=tuple(shown)), names


def _model(method: EvaluatedMethod, models: Sequence[str]) -> str | None:
    """The paper's name of an ablation: by the variant where that is one, else by the method."""
    if method.ablation is not None:
        return method.ablation
    return None if method.options else method.printed_as(models)


def _beside_averages(mean: Row, models: Models, level: Level, domain: str) -> Row:
    """A mean row beside the averages that Table 3 prints, if it covers what they cover."""
    if mean.label != MEAN:
        return mean
    printed = {
        p.model: (p.auroc, p.second)
        for p in paper.ablations()
        if p.table in AVERAGES and (p.level, p.domain) == (level, domain)
    }
    cells = []
    for model, cell in zip(models.values(), mean.cells, strict=True):
        pair = printed.get(model or "", tuple(n.printed for n in cell.numbers))
        numbers = (
            dataclasses.replace(n, printed=p) for n, p in zip(cell.numbers, pair, strict=True)
        )
        cells.append(dataclasses.replace(cell, numbers=tuple(numbers)))
    return dataclasses.replace(mean, cells=tuple(cells))
