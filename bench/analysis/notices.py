"""What a reader of a report or a figure must know before reading its numbers."""

from __future__ import annotations

from ..names import display_name
from ..records.record import Record
from .matrix import Matrix
from .values import source_notes

BUILT_IN_DOMAINS = ("surfaces", "objects", "lesions")
TINY = "tiny"
BUILT_IN_NOTE = (
    "a built-in set for trying, teaching and guarding; "
    "its ranking of methods says nothing about real data"
)


def is_built_in(record: Record) -> bool:
    """Whether a record comes from a built-in dataset or from the tiny backbone."""
    return _is_drawn(record) or record.protocol.get("backbone") == TINY


def _is_drawn(record: Record) -> bool:
    """Whether a record's dataset is one that zsad draws; a failed record may not state a domain."""
    named = record.cell.dataset in ("synthetic", "synthetic_aux")
    return named or record.protocol.get("domain") in BUILT_IN_DOMAINS


def notices(matrix: Matrix) -> list[str]:
    """One sentence each on built-in data, on what datasets lack, and on limits."""
    cells = {dataset: matrix.of_dataset(dataset) for dataset in matrix.datasets}
    records = [record for own in cells.values() for record in own]
    parts = []
    drawn = sorted({f"“{display_name(r.cell.dataset)}”" for r in records if _is_drawn(r)})
    if drawn:
        parts.append(f"dataset{'s' * (len(drawn) > 1)} {', '.join(drawn)}")
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
    learned = {record.protocol.get("auxiliary_limit") for record in records} - {None}
    if learned:
        most = max(limit for limit in learned if limit is not None)
        found.append(
            f"Methods learned from a part of their auxiliary dataset: at most {most} images of "
            "each category and label."
        )
    return found
