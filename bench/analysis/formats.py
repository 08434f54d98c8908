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
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..files import csv_text
from ..names import known_name
from ..track import Track
from .table_data import DASH, Column, Number, Table, TableCell

TEMPLATES = Path(__file__).parent / "templates"


def render(table: Table, fmt: str = "md") -> str:
    """A table as text, with those of further tracks below it.

    Args:
        table: what it says.
        fmt: md, csv, latex, html or json.

    Raises:
        UsageError: no such format.
    """
    return WRITERS[known_name("format", fmt, WRITERS)](table)


# -- Markdown, LaTeX and HTML -------------------------------------------------------------------


@dataclass(frozen=True)
class _Style:
    """How a format escapes, emphasises and marks; the text stands in place of %s.

    Attributes:
        template: the file that lays the page out.
        escape: text of a record as text of the page.
        strong, underlined: emphasis.
        marks: footnote marks.
        between: what parts the marks of a cell.
    """

    template: str
    escape: Callable[[str], str]
    strong: str
    underlined: str
    marks: str
    between: str

    def mark(self, marks: Sequence[str]) -> str:
        """Footnote marks, "" for none."""
        return self.marks % self.between.join(marks) if marks else ""


# An underscore within a word is not emphasis.
_MARKDOWN_SPECIAL = re.compile(r"[\\|*`<>\[\]]|(?<!\w)_|_(?!\w)")
_LATEX_SPECIAL = str.maketrans(
    {
        **{char: f"\\{char}" for char in "{}&%$#_"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "±": r"$\pm$",
        DASH: "--",
    }
)


def _escape_markdown(text: str) -> str:
    return _MARKDOWN_SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def _escape_latex(text: str) -> str:
    return " ".join(text.split()).translate(_LATEX_SPECIAL)


_MARKDOWN = _Style("table.md", _escape_markdown, "**%s**", "<u>%s</u>", "[^%s]", "][^")
_LATEX = _Style(
    "table.tex", _escape_latex, r"\textbf{%s}", r"\underline{%s}", r"\textsuperscript{%s}", ","
)
_HTML = _Style("table.html", html.escape, "<strong>%s</strong>", "<u>%s</u>", "<sup>%s</sup>", ",")


def _pages(table: Table, style: _Style) -> str:
    """A table and those of other tracks, each with title, rows, remarks and footnotes."""
    return "\n".join(_page(own, style) for own in table.tracks)


def _page(table: Table, style: _Style) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # the style has escaped everything
        block_start_string="[%",
        block_end_string="%]",
        variable_start_string="[[",
        variable_end_string="]]",
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    header = [style.escape(name) for name in table.stub]
    header += [style.escape(c.label) + style.mark(table.marks(c.notes)) for c in table.columns]
    body = _body(table, style)
    return templates.get_template(style.template).render(
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


def _body(table: Table, style: _Style) -> list[list[str]]:
    """All rows as texts; a group's name stands in its first row only."""
    lines = []
    group = None
    for row in table.rows:
        label = style.escape(row.label)
        if row.summary and label:
            label = style.strong % label
        stub = [label + style.mark(table.marks(row.notes))]
        if len(table.stub) == 2:
            stub.insert(0, "" if row.group == group else style.escape(row.group))
        group = row.group
        lines.append([*stub, *(_cell(table, cell, style) for cell in row.cells)])
    return lines


def _cell(table: Table, cell: TableCell, style: _Style) -> str:
    """A cell's text: value, printed value in brackets, difference in braces, marks."""
    marks = style.mark(table.marks(cell.notes))
    if not cell.numbers:
        return style.escape(cell.text) + marks
    missing = all(number.value is None for number in cell.numbers)
    text = style.escape(DASH)
    if not missing:
        text = ", ".join(_ranked(number, style) for number in cell.numbers)
        text = text if len(cell.numbers) == 1 else f"({text})"
    if any(number.printed is not None for number in cell.numbers):
        if table.published:
            text += f" [{', '.join(style.escape(n.printed_text) for n in cell.numbers)}]"
        if table.delta and not missing:
            inner = ", ".join(style.escape(n.delta_text) for n in cell.numbers)
            text += " " + style.escape("{") + inner + style.escape("}")
    return text + marks


def _ranked(number: Number, style: _Style) -> str:
    emphasis = {1: style.strong, 2: style.underlined}.get(number.rank, "%s")
    return emphasis % style.escape(number.text)


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
    "md": partial(_pages, style=_MARKDOWN),
    "csv": _csv,
    "latex": partial(_pages, style=_LATEX),
    "html": partial(_pages, style=_HTML),
    "json": _json,
}
FORMATS = tuple(WRITERS)
