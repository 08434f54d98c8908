"""A table as data: cells with numbers and footnotes, rows, columns, and the marks of footnotes.

What a table says is decided in `tables`, how it is written in `formats`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..track import Track

DASH = "–"
# Letters of footnote marks where a layout's first letter is that of another one.
LAYOUT_MARKS: Mapping[str, str] = {"averaging": "v"}
# What tells the footnote marks of a track's table from those of the other tracks' tables.
TRACK_MARKS: Mapping[Track, str] = {
    Track.ZERO_SHOT: "",
    Track.TRANSDUCTIVE: "t",
    Track.FEW_SHOT: "f",
    Track.FULL_SHOT: "a",
}


@dataclass(frozen=True)
class Number:
    """One number of a cell.

    Attributes:
        value: in the unit that is shown; None is undefined or not there.
        spread: standard deviation over seeds, in the same unit.
        printed: the paper's number, in the same unit.
        decimals: digits after the point.
        rank: 1 best and 2 second best of its row, else 0.
    """

    value: float | None = None
    spread: float | None = None
    printed: float | None = None
    decimals: int = 1
    rank: int = 0

    @property
    def text(self) -> str:
        """The value as shown, with its spread; a dash without a value."""
        if self.value is None:
            return DASH
        spread = "" if self.spread is None else f"±{self.bare(self.spread)}"
        return self.bare(self.value) + spread

    @property
    def shown(self) -> float | None:
        """The value as rounded for show."""
        return None if self.value is None else float(self.bare(self.value))

    @property
    def printed_text(self) -> str:
        """The paper's number as shown, a dash where the paper has none."""
        return self.bare(self.printed) or DASH

    @property
    def delta_text(self) -> str:
        """What is shown minus what is printed, with its sign; a dash where one is missing."""
        if self.shown is None or self.printed is None:
            return DASH
        delta = self.shown - float(self.bare(self.printed))
        return f"{round(delta, self.decimals) + 0.0:+.{self.decimals}f}"  # -0.0 becomes 0.0

    def bare(self, value: float | None) -> str:
        """Any value with this number's decimals, empty for None."""
        return "" if value is None else f"{value:.{self.decimals}f}"


@dataclass(frozen=True)
class TableCell:
    """Numbers or a text, and the footnotes that belong to them."""

    numbers: tuple[Number, ...] = ()
    text: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column of cells: its label, the names of its numbers, its footnotes."""

    label: str
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A row of a table; `summary` marks means and totals."""

    label: str
    cells: tuple[TableCell, ...]
    group: str = ""
    notes: tuple[str, ...] = ()
    summary: bool = False


def has_printed(rows: Iterable[Row]) -> bool:
    """Whether any number has a printed one beside it."""
    return any(n.printed is not None for row in rows for cell in row.cells for n in cell.numbers)


def has_differences(rows: Iterable[Row]) -> bool:
    """Whether any number can be compared with a printed one."""
    return any(n.delta_text != DASH for row in rows for cell in row.cells for n in cell.numbers)


@dataclass(frozen=True)
class Table:
    """A table that can be written in every format.

    Attributes:
        layout: its kind ("image"); its letter tells its footnote marks from other tables'.
        title: one line above it.
        stub: names of the first columns: the group's and the row's, or only the row's.
        columns, rows: its contents; every row has as many cells as there are columns.
        remarks: lines below it that belong to no mark.
        published: the printed numbers are shown in brackets.
        delta: the differences to them are shown in braces.
        left_out: rows without any value that only CSV and JSON show, their reason as a note; a
            remark tells of them elsewhere.
        track: of its methods.
        other_tracks: the tables of the other tracks, which are written below it.
    """

    layout: str
    title: str
    stub: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()
    published: bool = False
    delta: bool = False
    left_out: tuple[Row, ...] = ()
    track: Track = Track.ZERO_SHOT
    other_tracks: tuple[Table, ...] = ()

    @property
    def tracks(self) -> list[Table]:
        """This table, then those of the other tracks."""
        return [self, *self.other_tracks]

    @cached_property
    def _marks(self) -> dict[str, str]:
        """Text of a footnote -> its mark, in the order of reading; equal texts share a mark."""
        texts = [note for column in self.columns for note in column.notes]
        for row in self.rows:
            texts += row.notes
            texts += [note for cell in row.cells for note in cell.notes]
        kind = LAYOUT_MARKS.get(self.layout, self.layout[0]) + TRACK_MARKS[self.track]
        return {text: f"{kind}{i}" for i, text in enumerate(dict.fromkeys(texts), 1)}

    @property
    def footnotes(self) -> dict[str, str]:
        """Mark -> text, in the order of reading."""
        return {mark: text for text, mark in self._marks.items()}

    def marks(self, notes: Sequence[str]) -> list[str]:
        """The marks of some footnote texts."""
        return [self._marks[note] for note in notes]
