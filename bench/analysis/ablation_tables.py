"""The tables that compare a few models on both levels: ablations, TCP, averaging, full-shot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import UsageError
from ..metric_table import METRICS
from ..names import normalize_name
from ..track import Track
from . import published as paper
from .layout import Request, method_columns, remarks
from .matrix import EvaluatedMethod, Matrix, place
from .protocol_notes import protocol_notes
from .rows import Models, RowMaker, is_complete
from .table_data import Row, Table

TCP_VARIANTS = {"v1": "TCP_V1", "v2": "TCP_V2"}


@dataclass(frozen=True)
class Study:
    """A comparison of the paper and the models that take part in it.

    Attributes:
        layout, title: of the table.
        tables: numbers of the paper's tables with the printed values.
        where: these tables in words.
        models: the paper's names, in its order.
        model_of: the paper's name of a method among these, None where it has none.
        whole_methods: every variant of a method that takes part is shown, not the models alone.
        notes: remarks below the table.
    """

    layout: str
    title: str
    tables: tuple[int, ...]
    where: str
    models: Callable[[], Sequence[str]]
    model_of: Callable[[EvaluatedMethod, Sequence[str]], str | None]
    whole_methods: bool = False
    notes: tuple[str, ...] = ()


def study_table(matrix: Matrix, request: Request, study: Study) -> Table:
    """Datasets by models with means over domains, image level above pixel level.

    Raises:
        UsageError: no dataset has a value, or more metrics of one level are chosen than of the
            other.
    """
    matrix, models = _studied(matrix, study)
    protocol = protocol_notes(matrix)
    shown = request.metrics_by_level()
    rows: list[Row] = []
    for level, metrics in shown.items():
        maker = RowMaker(matrix, request, models, study.tables, protocol, metrics)
        measured = {dataset: maker.values(dataset) for dataset in matrix.datasets}
        defined = {d: v for d, v in measured.items() if any(map(is_complete, v.values()))}
        rows += maker.by_domain(defined, group_prefix=f"{level}, ")
    if not rows:
        raise UsageError(f"no dataset has a value to show in layout '{study.layout}'")
    labels = {level: [METRICS[metric].label for metric in own] for level, own in shown.items()}
    names = tuple("/".join(dict.fromkeys(column)) for column in zip(*labels.values(), strict=True))
    columns = zip(method_columns(matrix, names), matrix.methods, strict=True)
    told = (f"({', '.join(own)}) at {level} level" for level, own in labels.items())
    exact_pro = any("pixel_pro" in metrics for metrics in shown.values())
    return Table(
        study.layout,
        f"{study.title}: {', '.join(told)}, in percent",
        ("Level", "Dataset"),
        tuple(dataclasses.replace(own, label=_apart(models[m]) or own.label) for own, m in columns),
        tuple(rows),
        (*remarks(matrix, request, study.where, exact_pro, rows), *study.notes),
    )


def _studied(matrix: Matrix, study: Study) -> tuple[Matrix, Models]:
    """The columns of a study in the paper's order, and the paper's name of each.

    Shown are the models of the study, or all variants of their methods; every method if there is
    none of them.
    """
    order = study.models()
    models = {method: study.model_of(method, order) for method in matrix.methods}
    found = [method for method, name in models.items() if name is not None]
    if study.whole_methods:
        names = {method.method for method in found}
        found = [method for method in matrix.methods if method.method in names]
    shown = found or list(matrix.methods)
    shown.sort(key=lambda m: place(models[m], order))
    return dataclasses.replace(matrix, methods=tuple(shown)), models


def _apart(model: str | None) -> str | None:
    """The paper's name as a column's label, where it is not that of a whole method."""
    whole = (*paper.models(), *paper.full_shot_settings())
    return None if model in whole else model


# -- ablations (Tables 20, 21, 3 and 10) ---------------------------------------------------------


def _ablation(method: EvaluatedMethod, models: Sequence[str]) -> str | None:
    """By the variant where that is one of the paper's, else by the method."""
    if method.ablation is not None:
        return method.ablation
    return None if method.options else method.printed_as(models)


ABLATION = Study(
    "ablation",
    "Ablation",
    (20, 21, 3, 10),
    "Tables 20, 21 and 3",
    paper.ablation_models,
    _ablation,
    whole_methods=True,
)


# -- TCP (Table 8) -------------------------------------------------------------------------------


def _tcp(method: EvaluatedMethod, models: Sequence[str]) -> str | None:
    if method.options:
        return None
    of_tcp = method.method_among(["TCP"]) and method.track is Track.ZERO_SHOT
    return TCP_VARIANTS.get(method.variant) if of_tcp else method.printed_as(models)


TCP = Study(
    "tcp",
    "Class-aware prompt tuning (TCP)",
    (8,),
    "Table 8",
    lambda: list(dict.fromkeys(printed.model for printed in paper.tcp())),
    _tcp,
    notes=("Table 8 prints means over domains alone.",),
)


# -- averaging (Table 9) -------------------------------------------------------------------------

AVERAGED = ("FAPrompt_0.1", "FAPrompt_0.2", "FAPrompt")


def _averaging(method: EvaluatedMethod, models: Sequence[str]) -> str | None:
    name = _ablation(method, models)
    return name if name in models else None


AVERAGING = Study(
    "averaging",
    "Prototype of the abnormal prompts",
    (9,),
    "Table 9",
    lambda: AVERAGED,
    _averaging,
    notes=(
        "Table 9 prints means over domains; its numbers of FAPrompt_0.1 and FAPrompt_0.2 are not "
        "in the text that was read, so that nothing stands beside theirs. FAPrompt's are those of "
        "Table 3.",
    ),
)


# -- full-shot (Table 7) -------------------------------------------------------------------------


def _full_shot(method: EvaluatedMethod, models: Sequence[str]) -> str | None:
    if method.options or method.ablation is not None:
        return None
    name = method.method_among(models)
    same = name is not None and paper.full_shot_settings()[name] == method.track
    return name if same else None


FULL_SHOT = Study(
    "full_shot",
    "References that learn from all normal images",
    (7,),
    "Table 7",
    lambda: list(paper.full_shot_settings()),
    _full_shot,
    notes=(
        "PatchCore and RD4AD learn from all normal training images of a category and look at "
        "images through a network of their own, without CLIP.",
    ),
)


def full_shot_table(matrix: Matrix, request: Request) -> Table:
    """Table 7: its datasets, or all where the run has none of them."""
    printed = {normalize_name(number.dataset) for number in paper.full_shot()}
    own = tuple(d for d in matrix.datasets if normalize_name(d.name) in printed)
    chosen = dataclasses.replace(matrix, datasets=own or matrix.datasets)
    return study_table(chosen, request, FULL_SHOT)
