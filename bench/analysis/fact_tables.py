"""What methods cost and what was scored: Tables 4, 5 and 6 of the FAPrompt paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..metric_table import HEADLINES
from ..names import normalize_name
from ..records.record import CategoryResult, Record
from . import published as paper
from .costs import Cost, cost_of
from .formats import Column, Number, Row, Table, TableCell, has_printed
from .layout import Request
from .matrix import Matrix, TargetDataset, place
from .protocol_notes import column_notes
from .values import measure, source_notes

ALL = "all"  # the label of a row that counts a dataset's categories together
COST_COLUMNS = (
    "Parameters",
    "of them learning",
    "Training ms/batch",
    "Training s",
    "Inference ms/image",
    "Images/s",
    "Peak memory MB",
)

# -- complexity (Table 6) -----------------------------------------------------------------------


def complexity_table(matrix: Matrix, request: Request) -> Table:
    """Table 6: parameters, training time per batch and inference time per image, and ours."""
    found = [cost_of(matrix, method) for method in matrix.methods]
    rows = [_cost_row(matrix, cost) for cost in found]
    devices = sorted({device for cost in found for device in cost.devices})
    remarks = [f"Measured on: {', '.join(devices)}."] if devices else []
    remarks.append(
        "Parameters as the paper counts them; those that learn receive a gradient. Inference "
        "counts the visual forward in full for each method, although methods share it in a run."
    )
    if request.beside and has_printed(rows):
        remarks.append(
            "Table 6 of the FAPrompt paper was measured on an RTX 3090: training per batch of 8, "
            "inference per image. In brackets its numbers, in braces the difference to them."
        )
    return Table(
        "complexity",
        "Complexity",
        ("Method",),
        tuple(map(Column, COST_COLUMNS)),
        tuple(rows),
        tuple(remarks),
    )


def _cost_row(matrix: Matrix, cost: Cost) -> Row:
    """A method's row, beside its row of Table 6; the reason where nothing finished."""
    records, printed = matrix.of_method(cost.method), cost.printed
    notes = () if any(r.error is None for r in records) else measure(records, HEADLINES[0]).notes
    numbers = (
        _whole(cost.parameters, printed.parameters if printed else None),
        _whole(cost.trained_parameters),
        Number(cost.train_ms_per_batch, printed=printed.train_ms if printed else None),
        Number(cost.train_seconds),
        Number(cost.ms_per_image, printed=printed.infer_ms if printed else None),
        Number(cost.images_per_second),
        _whole(cost.memory_mb),
    )
    notes += (*source_notes(records), *column_notes(matrix, cost.method))
    return Row(cost.method.label, tuple(TableCell((number,)) for number in numbers), notes=notes)


def _whole(value: float | None, printed: float | None = None) -> Number:
    return Number(value, printed=printed, decimals=0)


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
    columns = ("Domain", "Modality", "Type", "Categories", "Test normal", "Test anomalous")
    return Table(
        "datasets",
        "Datasets: the images that were scored",
        ("Dataset", "Category"),
        tuple(Column(name) for name in columns),
        rows,
        tuple(remarks if request.beside and has_printed(rows) else ()),
    )


def _dataset_rows(matrix: Matrix, dataset: TargetDataset) -> list[Row]:
    """A row per category where the paper has one, then a row for the whole dataset."""
    title, domain = dataset.title, dataset.domain
    scored = [record for record in matrix.of_dataset(dataset) if record.status == "ok"]
    if not scored:
        notes = measure(matrix.of_dataset(dataset), HEADLINES[0]).notes
        return [Row(ALL, (TableCell(text=domain), *(TableCell(),) * 5), title, notes)]
    printed = {
        normalize_name(c.category): c
        for c in paper.counts()
        if normalize_name(c.dataset) == normalize_name(dataset.name)
    }
    record = max(scored, key=lambda r: len(r.categories))
    notes = () if _same_counts(scored) else ("records of this dataset differ in their images",)
    held = dict.fromkeys(r.completeness.words() for r in scored if r.completeness is not None)
    notes += tuple(words for words in held if words)
    rows = []
    whole = printed.get("")
    if len(printed) > 1:
        whole = _total(list(printed.values()))
        order = {name: i for i, name in enumerate(matrix.categories(dataset))}
        results = sorted(record.categories, key=lambda r: order[r.category])
        rows = [
            Row(
                r.category,
                _counts(domain, r.category, [r], printed.get(normalize_name(r.category))),
                title,
            )
            for r in results
        ]
    cells = _counts(domain, ALL, record.categories, whole)
    return [*rows, Row(ALL, cells, title, notes, summary=bool(rows))]


def _counts(
    domain: str,
    label: str,
    results: Sequence[CategoryResult],
    printed: paper.PrintedCounts | None,
) -> tuple[TableCell, ...]:
    """The cells of a row in the order of the columns; only a whole dataset counts categories."""
    normal = sum(result.n_normal for result in results)
    anomalous = sum(result.n_anomalous for result in results)
    categories = _whole(len(results), int(printed.n_categories or 0) if printed else None)
    return (
        TableCell(text=domain),
        TableCell(text=printed.modality if printed else ""),
        TableCell(text=printed.type if printed else ""),
        TableCell((categories,)) if label == ALL else TableCell(),
        TableCell((_whole(normal, printed.test_normal if printed else None),)),
        TableCell((_whole(anomalous, printed.test_anomalous if printed else None),)),
    )


def _total(parts: Sequence[paper.PrintedCounts]) -> paper.PrintedCounts:
    return dataclasses.replace(
        parts[0],
        category="",
        type="",
        n_categories=str(len(parts)),
        test_normal=sum(part.test_normal for part in parts),
        test_anomalous=sum(part.test_anomalous for part in parts),
    )


def _same_counts(records: Sequence[Record]) -> bool:
    seen = {
        tuple(sorted((r.category, r.n_normal, r.n_anomalous) for r in record.categories))
        for record in records
    }
    return len(seen) == 1
