"""What `zsad run --profile` prints: where the seconds of each method went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..names import display_name
from ..records.cell import Cell, labelled
from ..records.stages import STAGES

if TYPE_CHECKING:
    from ..records.record import Record


def profile(records: Iterable[Record]) -> str:
    """A table of seconds per stage and method, over the records that state them; "" without any.

    Methods of one visual forward share the seconds of reading, forward and waiting, so that these
    are not to be added up over methods.
    """
    seconds: dict[str, dict[str, float]] = {}
    for record in records:
        if f"seconds_{STAGES[0]}" in record.timing:
            _add(seconds.setdefault(_method(record.cell), {}), record.timing)
    rows = [
        [method, int(spent["images"]), *(spent[f"seconds_{stage}"] for stage in STAGES)]
        for method, spent in seconds.items()
    ]
    headers = ["method", "images", *STAGES]
    from tabulate import tabulate

    return tabulate(rows, headers, tablefmt="simple", floatfmt=".2f") if rows else ""


def _method(cell: Cell) -> str:
    """The method of a cell as a user names it, with what tells it from another."""
    name = labelled(f"{display_name(cell.method)}@{cell.variant}", cell.label)
    return f"{name} {cell.options_text}".strip()


def _add(spent: dict[str, float], timing: Mapping[str, float]) -> None:
    for name in ("images", *(f"seconds_{stage}" for stage in STAGES)):
        spent[name] = spent.get(name, 0.0) + timing.get(name, 0.0)
