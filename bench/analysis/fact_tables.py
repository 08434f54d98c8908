"""What methods cost and what was scored: Tables 4, 5 and 6 of the FAPrompt paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from ..metric_table import HEADLINES, METRICS
from ..names import normalize_name
from ..records.record import CategoryResult
from . import published as paper
from .costs import Cost, cost_of
from .layout import Request
from .matrix import EvaluatedMethod, Matrix, TargetDataset, place
from .protocol_notes import column_notes
from .table_data import Column, Number, Row, Table, TableCell, has_printed
from .values import measure, source_notes

CostColumn = tuple[str, str, int, str]
"""Label, attribute of `Cost`, digits after the point, column of Table 6 beside it."""
COST_COLUMNS: tuple[CostColumn, ...] = (
    ("Parameters", "parameters", 0, "parameters"),
    ("of them learning", "trained_parameters", 0, ""),
    ("Training ms/batch", "train_ms_per_batch", 1, "train_ms"),
    ("Training s", "train_seconds", 1, ""),
    ("Inference ms/image", "ms_per_image", 1, "infer_ms"),
    ("Images/s", "images_per_second", 1, ""),
    ("Peak memory MB", "memory_mb", 0, ""),
)
OWN_FORWARDS = ("Own forwards/image", "own_forwards", 0, "")  # shown where records state it
ALL = "all"  # the label of a row that counts a dataset's categories together
COUNT_COLUMNS = ("Domain", "Modality", "Type", "Categories", "Test normal", "Test anomalous")

# -- complexity (Table 6) -----------------------------------------------------------------------


def complexity_table(matrix: Matrix, request: Request) -> Table:
    """Table 6: parameters, training time per batch and inference time per image, and ours."""
    found = [cost_of(matrix, method) for method in matrix.methods]
    stated = any(cost.own_forwards is not None for cost in found)
    shown = (*COST_COLUMNS, OWN_FORWARDS) if stated else COST_COLUMNS
    means = {metric: _means(matrix, metric) for metric in request.metrics}
    rows = [
        _cost_row(matrix, cost, shown, [own[cost.method] for own in means.values()])
        for cost in found
    ]
    devices = sorted({device for cost in found for device in cost.devices})
    remarks = [f"Measured on: {', '.join(devices)}."] if devices else []
    remarks.append(
        "Parameters as the paper counts them; those that learn receive a gradient. Inference "
        "counts the visual forward in full for each method, although methods share it in a run."
    )
    if stated:
        remarks.append(
            "Own forwards are those beside the visual forward that methods share, as declared."
        )
    if means:
        remarks.append(
            "Metrics are means in percent over the datasets where every method shown has a value."
        )
    if request.beside and has_printed(rows):
        remarks.append(
            "Table 6 of the FAPrompt paper was measured on an RTX 3090: training per batch of 8, "
            "inference per image. In brackets its numbers, in braces the difference to them."
        )
    labels = (*(label for label, *_ in shown), *(METRICS[metric].title for metric in means))
    columns = tuple(map(Column, labels))
    return Table("complexity", "Complexity", ("Method",), columns, tuple(rows), tuple(remarks))


def _cost_row(
    matrix: Matrix, cost: Cost, shown: Sequence[CostColumn], more: Iterable[TableCell]
) -> Row:
    """A method's row, beside its row of Table 6; the reason where nothing finished.

    Args:
        matrix: of the run.
        cost: of the method.
        shown: columns as in `COST_COLUMNS`.
        more: cells after those of the costs.
    """
    records = matrix.of_method(cost.method)
    notes = () if any(r.error is None for r in records) else measure(records, HEADLINES[0]).notes
    notes += (*source_notes(records), *column_notes(matrix, cost.method))
    notes += (f"keeps {cost.keeps}",) if cost.keeps else ()
    cells = []
    for _, name, decimals, beside in shown:
        printed = getattr(cost.printed, beside, None)
        cells.append(TableCell((Number(getattr(cost, name), None, printed, decimals),)))
    return Row(cost.method.label, (*cells, *more), notes=notes)


def _means(matrix: Matrix, metric: str) -> Mapping[EvaluatedMethod, TableCell]:
    """The mean of a metric for each method, over the datasets where all methods have a value."""
    values = [[matrix.value(m, d, metric).value for m in matrix.methods] for d in matrix.datasets]
    common = [own for own in values if None not in own]
    if not common:
        nothing = ("no dataset where every method shown has a value",)
        return dict.fromkeys(matrix.methods, TableCell((Number(),), notes=nothing))
    means = [fmean(v for v in own if v is not None) for own in zip(*common, strict=True)]
    return {m: TableCell((Number(100 * v),)) for m, v in zip(matrix.methods, means, strict=True)}


# -- datasets (Tables 4 and 5) ------------------------------------------------------------------


def datasets_table(matrix: Matrix, request: Request) -> Table:
    """Tables 4 and 5: how many test images were scored, beside the printed counts."""
    order = list(dict.fromkeys(normalize_name(count.dataset) for count in paper.counts()))
    datasets = sorted(matrix.datasets, key=lambda d: place(normalize_name(d.name), order))
    remarks = [
        "In brackets the counts of Tables 4 and 5, in braces the difference to them. For AITEX and "
        "ELPV the paper counts defect and module types; both are scored as one category. For tile "
        "it prints 83 anomalous images where the dataset has 84."
    ]
    rows = tuple(row for dataset in datasets for row in _dataset_rows(matrix, dataset))
    return Table(
        "datasets",
        "Datasets: the images that were scored",
        ("Dataset", "Category"),
        tuple(map(Column, COUNT_COLUMNS)),
        rows,
        tuple(remarks if request.beside and has_printed(rows) else ()),
    )


def _dataset_rows(matrix: Matrix, dataset: TargetDataset) -> list[Row]:
    """A row per category where the paper has one, then a row for the whole dataset."""
    scored = [record for record in matrix.of_dataset(dataset) if record.status == "ok"]
    if not scored:
        notes = measure(matrix.of_dataset(dataset), HEADLINES[0]).notes
        empty = (TableCell(),) * (len(COUNT_COLUMNS) - 1)
        return [Row(ALL, (TableCell(text=dataset.domain), *empty), dataset.title, notes)]
    name = normalize_name(dataset.name)
    printed = [count for count in paper.counts() if normalize_name(count.dataset) == name]
    record = max(scored, key=lambda r: len(r.categories))
    rows = []
    for category in matrix.categories(dataset) if len(printed) > 1 else ():
        if category in record.by_category:
            own = [p for p in printed if normalize_name(p.category) == normalize_name(category)]
            cells = _counts(dataset, [record.by_category[category]], own)
            cells[3] = TableCell()  # only a whole dataset counts categories
            rows.append(Row(category, tuple(cells), dataset.title))
    counts = {
        frozenset((c.category, c.n_normal, c.n_anomalous) for c in r.categories) for r in scored
    }
    notes = ("records of this dataset differ in their images",) * (len(counts) > 1)
    held = dict.fromkeys(r.completeness.words() for r in scored if r.completeness is not None)
    notes += tuple(words for words in held if words)
    cells = _counts(dataset, record.categories, printed)
    return [*rows, Row(ALL, tuple(cells), dataset.title, notes, summary=bool(rows))]


def _counts(
    dataset: TargetDataset,
    results: Sequence[CategoryResult],
    printed: Sequence[paper.PrintedCounts],
) -> list[TableCell]:
    """The cells of a row in the order of the columns, beside the printed counts of its categories.

    Table 5 prints one row for all categories of a dataset.
    """
    return [
        TableCell(text=dataset.domain),
        TableCell(text=printed[0].modality if printed else ""),
        TableCell(text=printed[0].type if len(printed) == 1 else ""),
        _count(len(results), [int(p.n_categories or 1) for p in printed]),
        _count(sum(r.n_normal for r in results), [p.test_normal for p in printed]),
        _count(sum(r.n_anomalous for r in results), [p.test_anomalous for p in printed]),
    ]


def _count(value: int, printed: Sequence[int]) -> TableCell:
    """A count beside the sum of the printed ones."""
    return TableCell((Number(value, None, sum(printed) if printed else None, decimals=0),))
