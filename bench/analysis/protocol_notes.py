"""What makes two numbers of a matrix incomparable: entries of the protocol that differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from ..records.protocol import TF32
from ..records.record import Record
from .matrix import EvaluatedMethod, Matrix, TargetDataset, options_words

NULL = "null"  # an entry of the protocol that is not there, as JSON

# Protocol entries that belong to a dataset must agree along its row, the others along a column.
ROW_PROTOCOL = (
    "dataset_fingerprint",
    "dataset_options",
    "mask_threshold",
    "mask_resize",
    "limit",
)
# Entries that say no more than others do: the learned weights follow from what was learned, the
# normal images that a method is shown from dataset, seed and shots, tf32 from the precision.
SILENT_PROTOCOL = (
    *("dataset_title", "domain", "seed", "checkpoint_sha256"),
    *("references", "references_sha256", TF32),
)
# Entries that all columns of a table should share.
SHARED_PROTOCOL = ("backbone", "weights_sha256", "map_size", "metric_version", "precision")

CellNotes = Mapping[tuple[EvaluatedMethod, TargetDataset], tuple[str, ...]]
_Entries = Mapping[str, str]  # a protocol, flat, its values as JSON texts


def protocol_notes(matrix: Matrix) -> CellNotes:
    """For each cell, what of its protocol differs from the rest of its column and of its row.

    The rest is represented by the most common value; where there is none, by the first.
    """
    cells = {key: _described(records) for key, records in matrix.cells.items()}
    notes: dict[tuple[EvaluatedMethod, TargetDataset], list[str]] = {key: [] for key in cells}
    for axis, where in ((0, "column"), (1, "row")):
        for line in {key[axis] for key in cells}:
            own = {key: described for key, described in cells.items() if key[axis] == line}
            every = [entries for described in own.values() for entries in described]
            names = dict.fromkeys(name for entries in every for name in entries)
            usual = {n: _most_common(every, n) for n in names if _agrees_along(n) == where}
            for key, described in own.items():
                notes[key] += _differing(described, usual, f"elsewhere in this {where}")
    return {key: tuple(dict.fromkeys(texts)) for key, texts in notes.items()}


def column_notes(matrix: Matrix, method: EvaluatedMethod) -> tuple[str, ...]:
    """What tells a column from most others: shared protocol entries, its options and its shots."""
    described = {m: _described(matrix.of_method(m)) for m in matrix.methods}
    notes = []
    for name in SHARED_PROTOCOL if described[method] else ():
        values = {m: _most_common(entries, name) for m, entries in described.items() if entries}
        usual = Counter(values.values()).most_common(1)[0][0]
        if values[method] != usual:
            notes.append(f"{name} is {_short(values[method])}, in most columns {_short(usual)}")
    if any(text.startswith("backbone ") for text in notes):  # the weights are then others anyway
        notes = [text for text in notes if not text.startswith("weights_sha256 ")]
    if method.options:
        notes.append(f"with {options_words(method.options)}")
    for shots in dict.fromkeys(r.protocol.get("shots") for r in matrix.of_method(method)):
        notes += [f"shown {shots} normal images of each category"] if shots else []
    return tuple(notes)


def protocol_difference(left: Sequence[Record], right: Sequence[Record]) -> list[str]:
    """What differs between two sides of what a row and the columns of a table should share."""
    names = (*SHARED_PROTOCOL, *ROW_PROTOCOL)
    sides = [_described(left), _described(right)]
    found = []
    for name in dict.fromkeys(n for side in sides for entries in side for n in entries):
        a, b = (_most_common(side, name) for side in sides)
        if name.partition(".")[0] in names and a != b:
            found.append(f"{name} is {_short(a)} in a, {_short(b)} in b")
    return found


def _agrees_along(name: str) -> str:
    """Along what a protocol entry must agree: a "row" or "column" of a table, or "" for neither."""
    entry = name.partition(".")[0]
    if entry in ROW_PROTOCOL:
        return "row"
    return "" if entry in SILENT_PROTOCOL else "column"


def _differing(described: Sequence[_Entries], usual: _Entries, where: str) -> list[str]:
    """What of a cell's protocols differs from the usual values."""
    return [
        f"{name} is {_short(entries.get(name, NULL))}, {where} {_short(value)}"
        for entries in described
        for name, value in usual.items()
        if entries.get(name, NULL) != value
    ]


def _most_common(described: Sequence[_Entries], name: str) -> str:
    values = Counter(entries.get(name, NULL) for entries in described)
    return values.most_common(1)[0][0] if values else NULL


def _described(records: Sequence[Record]) -> list[_Entries]:
    return [_entries(record) for record in records if record.protocol]


def _entries(record: Record) -> _Entries:
    """The protocol as JSON texts; what is inside an object is an entry of its own ("options.k").

    An option that the protocol states in effect as well (image_size) is left out.
    """
    found: dict[str, str] = {}
    for name, value in record.protocol.items():
        if isinstance(value, Mapping):
            inner = {f"{name}.{k}": v for k, v in value.items() if k not in record.protocol}
        else:
            inner = {name: value}
        found |= {k: json.dumps(v, sort_keys=True, default=str) for k, v in inner.items()}
    return found


def _short(text: str) -> str:
    """A protocol entry as a footnote may show it: hashes and long lists are cut."""
    plain = text.strip('"')
    return plain if len(plain) <= 24 else f"{plain[:12]}…"
