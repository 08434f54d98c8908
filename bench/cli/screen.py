"""A table of results on a terminal: whole if it fits, else one metric at a time or turned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as Screen
from rich.text import Text

from ..analysis.style import Style
from ..analysis.table_parts import by_number
from .terminal import printable

if TYPE_CHECKING:
    from ..analysis.table_data import Table

STYLE = Style(lambda text: escape(printable(text)), "[bold]%s[/]", "[u]%s[/]", "[dim] %s[/]", ",")


def show_table(table: Table, console: Console) -> None:
    """Print the table of each track, with remarks and footnotes, as it fits the terminal."""
    for own in table.tracks:
        console.print(_text(STYLE.strong % STYLE.escape(own.title)))
        for screen in _fitting(own, console):
            console.print(screen)
        for remark in own.remarks:
            console.print(_text(STYLE.escape(remark)))
        for mark, text in own.footnotes.items():
            console.print(_text(f"[dim]{mark}[/] {STYLE.escape(text)}"))


def _fitting(table: Table, console: Console) -> list[Screen]:
    """The first way of showing a table that fits the width, or the narrowest one."""
    ways = [[_upright(table)], [_turned(table)]]
    together = {column.names for column in table.columns}
    if len(together) == 1 and len(*together) > 1:
        parts = by_number(table)
        ways += [[_upright(part) for part in parts], [_turned(part) for part in parts]]

    def width(way: Sequence[Screen]) -> int:
        wide = console.options.update(width=10_000)
        return max(Measurement.get(console, wide, screen).minimum for screen in way)

    return next((way for way in ways if width(way) <= console.width), min(ways, key=width))


def _upright(table: Table) -> Screen:
    """Rows and columns as they are; a group's name stands in its first row only."""
    rows, group = [], None
    for row in table.rows:
        stub = [STYLE.row_label(table, row)]
        if len(table.stub) == 2:
            stub.insert(0, "" if row.group == group else STYLE.escape(row.group))
        group = row.group
        rows.append([*stub, *(STYLE.cell(table, cell) for cell in row.cells)])
    head = [*map(STYLE.escape, table.stub), *STYLE.column_labels(table)]
    return _screen(table, head, rows, len(table.stub))


def _turned(table: Table) -> Screen:
    """A column for each row."""
    head = ["", *(STYLE.row_label(table, row) for row in table.rows)]
    rows = [
        [label, *(STYLE.cell(table, row.cells[place]) for row in table.rows)]
        for place, label in enumerate(STYLE.column_labels(table))
    ]
    return _screen(table, head, rows, 1)


def _screen(table: Table, head: Sequence[str], rows: Sequence[Sequence[str]], stubs: int) -> Screen:
    """Markup as a table whose cells stay whole; the names of columns may be wrapped."""
    names = {", ".join(column.names) for column in table.columns}
    caption = next(iter(names)) if len(names) == 1 else ""
    screen = Screen(
        box=SIMPLE_HEAD,
        pad_edge=False,
        caption=_text(STYLE.escape(caption)) if caption else None,
        caption_justify="left",
    )
    texts = [[_text(cell) for cell in row] for row in rows]
    for place, label in enumerate(head):
        widest = max((row[place].cell_len for row in texts), default=1)
        justify: Literal["left", "right"] = "left" if place < stubs else "right"
        screen.add_column(_text(label), justify=justify, min_width=widest)
    for row in texts:
        screen.add_row(*row)
    return screen


def _text(markup: str) -> Text:
    return Text.from_markup(markup, emoji=False)
