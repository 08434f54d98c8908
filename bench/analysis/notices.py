"""What a reader of a report or a figure must know before reading its numbers."""

from __future__ import annotations

from ..records.record import Record
from .matrix import Matrix
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


def notices(matrix: Matrix) -> list[str]:
    """One sentence each on built-in data, on what datasets lack, and on limits."""
    cells = {dataset: matrix.of_dataset(dataset) for dataset in matrix.datasets}
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
