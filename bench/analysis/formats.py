"""A table as Markdown, CSV, LaTeX, HTML or JSON text.

This file only knows how each format writes a number, an emphasis and a footnote; the rest of a page
is a template. Everything from a record is escaped.
"""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ..files import csv_text
from ..names import known_name
from ..track import Track
from .latex import latex
from .style import Style, fill
from .table_data import DASH, Column, Number, Table, TableCell


def render(table: Table, fmt: str = "md") -> str:
    """A table as text, with those of further tracks below it.

    Args:
        table: what it says.
        fmt: md, csv, latex, html or json.

    Raises:
        UsageError: no such format.
    """
    return WRITERS[known_name("format", fmt, WRITERS)](table)


# -- Markdown and HTML -------------------------------------------------------------------------

# An underscore within a word is not emphasis.
_MARKDOWN_SPECIAL = re.compile(r"[\\|*`<>\[\]]|(?<!\w)_|_(?!\w)")


def _escape_markdown(text: str) -> str:
    return _MARKDOWN_SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


_MARKDOWN = Style(_escape_markdown, "**%s**", "<u>%s</u>", "[^%s]", "][^")
_HTML = Style(html.escape, "<strong>%s</strong>", "<u>%s</u>", "<sup>%s</sup>", ",")


def _pages(style: Style, template: str, table: Table) -> str:
    return "\n".join(_page(own, style, template) for own in table.tracks)


def _page(table: Table, style: Style, template: str) -> str:
    """The table of one track, with title, rows, remarks and footnotes."""
    header = [*map(style.escape, table.stub), *style.column_labels(table)]
    body = _body(table, style)
    return fill(
        template,
        table=table,
        title=style.escape(table.title),
        header=header,
        rows=list(zip(table.rows, body, strict=True)),
        grid=_grid(table, header, body) if style is _MARKDOWN else "",
        remarks=[style.escape(remark) for remark in table.remarks],
        footnotes=[(style.mark([m]), style.escape(t)) for m, t in table.footnotes.items()],
    )


def _grid(table: Table, header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Header and rows in Markdown."""
    from tabulate import tabulate

    if not body:
        return "(no rows)"
    align = ["left"] * len(table.stub) + ["right"] * len(table.columns)
    return tabulate(body, header, tablefmt="pipe", colalign=align, disable_numparse=True)


def _body(table: Table, style: Style) -> list[list[str]]:
    """All rows as texts; a group's name stands in its first row only."""
    lines = []
    group = None
    for row in table.rows:
        stub = [style.row_label(table, row)]
        if len(table.stub) == 2:
            stub.insert(0, "" if row.group == group else style.escape(row.group))
        group = row.group
        lines.append([*stub, *(style.cell(table, cell) for cell in row.cells)])
    return lines


# -- CSV and JSON -------------------------------------------------------------------------------


def _csv(table: Table) -> str:
    """One column per number; a missing number is empty, footnotes stand in the last column.

    Where a method is not of the zero-shot track, the first column is the track. Rows are of one
    track each: the columns of methods of other tracks are empty there.
    """
    fields = _csv_fields(table)
    columns = {column.label: column for own in table.tracks for column in own.columns}
    header = ["track"] * _tells_track(table) + [*table.stub]
    for column in columns.values():
        names = [f"{_csv_line(column.label)} {name}".strip() for name in column.names or ("",)]
        header += [name + field for name in names for field in fields]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*header, "notes"])
    for own in table.tracks:
        for row in (*own.rows, *own.left_out):
            line = [str(own.track)] * _tells_track(table)
            line += [_csv_line(text) for text in (row.group, row.label)[-len(own.stub) :]]
            cells = {c.label: cell for c, cell in zip(own.columns, row.cells, strict=True)}
            notes = [*row.notes]
            for label, column in columns.items():
                cell = cells.get(label, TableCell())
                line += _csv_values(column, cell, fields)
                notes += [f"{label}: {note}" for note in cell.notes]
            writer.writerow([*line, _csv_line("; ".join(notes))])
    return out.getvalue()


def _tells_track(table: Table) -> bool:
    return any(own.track is not Track.ZERO_SHOT for own in table.tracks)


def _csv_values(
    column: Column, cell: TableCell, fields: Mapping[str, Callable[[Number], str]]
) -> list[str]:
    """A cell as texts, one for each field of each number of its column."""
    line: list[str] = []
    for number in cell.numbers or (Number(),) * max(len(column.names), 1):
        values = [write(number) for write in fields.values()]
        line += values if cell.numbers else [_csv_line(cell.text), *values[1:]]
    return line


def _csv_fields(table: Table) -> dict[str, Callable[[Number], str]]:
    """The columns of each number: the ending of a column's name, and the text in it."""
    fields: dict[str, Callable[[Number], str]] = {"": lambda n: n.bare(n.value)}
    rows = [row for own in table.tracks for row in own.rows]
    if any(n.spread is not None for row in rows for c in row.cells for n in c.numbers):
        fields[" sd"] = lambda n: n.bare(n.spread)
    if table.published:
        fields[" printed"] = lambda n: n.bare(n.printed)
    if table.delta:
        fields[" difference"] = lambda n: n.delta_text.replace(DASH, "")
    return fields


def _csv_line(text: str) -> str:
    """A text on one line, as a CSV cell."""
    return csv_text(" ".join(text.split()))


def _json(table: Table) -> str:
    """The fields of `Table`; numbers in the unit that is shown, not rounded."""
    return json.dumps(dataclasses.asdict(table), indent=1, ensure_ascii=False) + "\n"


WRITERS: Mapping[str, Callable[[Table], str]] = {
    "md": partial(_pages, _MARKDOWN, "table.md"),
    "csv": _csv,
    "latex": latex,
    "html": partial(_pages, _HTML, "table.html"),
    "json": _json,
}
FORMATS = tuple(WRITERS)
