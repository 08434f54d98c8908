"""What a reader of a report or a figure must know before the first number."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.record import Record
from .matrix import EvaluatedMethod, Matrix, TargetDataset
from .values import source_notes

BUILT_IN = ("synthetic", "synthetic_aux")
TINY = "tiny"
BUILT_IN_NOTE = (
    "a built-in set for trying, teaching and guarding; "
    "its ranking of methods says nothing about real data"
)


def is_built_in(record: Record) -> bool:
    """Whether a record comes from a built-in dataset or from the tiny backbone."""
    return record.cell.dataset in BUILT_IN or record.protocol.get("backbone") == TINY


def notices(
    matrix: Matrix,
    methods: Sequence[EvaluatedMethod] | None = None,
    datasets: Sequence[TargetDataset] | None = None,
) -> list[str]:
    """One sentence each on built-in data, on what datasets lack, and on limits.

    Args:
        matrix: of the run.
        methods: those that are shown; all if None.
        datasets: those that are shown; all if None.
    """
    cells = {
        dataset: [r for m in methods or matrix.methods for r in matrix.cell(m, dataset)]
        for dataset in datasets or matrix.datasets
    }
    records = [record for own in cells.values() for record in own]
    parts = []
    if any(record.cell.dataset in BUILT_IN for record in records):
        parts.append("dataset “synthetic”")
    if any(record.protocol.get("backbone") == TINY for record in records):
        parts.append("backbone “tiny”")
    text = " and ".join(parts)
    found = [f"{text[0].upper()}{text[1:]}: {BUILT_IN_NOTE}."] if parts else []
    for dataset, own in cells.items():
        notes = source_notes(own)
        found += [f"{dataset.title}: {'; '.join(notes)}."] if notes else []
    limits = {record.protocol.get("limit") for record in records if record.error is None}
    if limits - {None}:
        most = max(limit for limit in limits if limit is not None)
        found.append(
            f"Only a part of the images: at most {most} for each category and label"
            f"{' in some cells' if None in limits else ''}."
        )
    return found
