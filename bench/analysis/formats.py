"""A table as data, and as Markdown, CSV, LaTeX or HTML text.

What a table says is decided in `tables`; this file only knows how each format writes a number, an
emphasis and a footnote. Everything that comes from a record is escaped.
"""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import unknown_name
from ..files import csv_text

DASH = "–"
FORMATS = ("md", "csv", "latex", "html", "json")


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
    """Whether any number can be held against a printed one."""
    return any(n.delta_text != DASH for row in rows for cell in row.cells for n in cell.numbers)


@dataclass(frozen=True)
class Table:
    """A table that can be written in every format.

    Attributes:
        layout: its kind ("image"); its first letter tells its footnote marks from other tables'.
        title: one line above it.
        stub: names of the first columns: the group's and the row's, or only the row's.
        columns, rows: its contents; every row has as many cells as there are columns.
        remarks: lines below it that belong to no mark.
        published: the printed numbers are shown in brackets.
        delta: the differences to them are shown in braces.
        left_out: rows without any value that only CSV and JSON show, their reason as a note; a
            remark tells of them elsewhere.
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

    @property
    def header(self) -> list[str]:
        """The names of all columns without marks."""
        return [*self.stub, *(column.label for column in self.columns)]

    @cached_property
    def footnotes(self) -> dict[str, str]:
        """Mark -> text, in the order of reading; equal texts share a mark."""
        texts = [note for column in self.columns for note in column.notes]
        for row in self.rows:
            texts += row.notes
            texts += [note for cell in row.cells for note in cell.notes]
        return {f"{self.layout[0]}{i}": text for i, text in enumerate(dict.fromkeys(texts), 1)}

    def marks(self, notes: Sequence[str]) -> list[str]:
        """The marks of some footnote texts."""
        return [self._marks_by_text[note] for note in notes]

    @cached_property
    def _marks_by_text(self) -> dict[str, str]:
        return {text: mark for mark, text in self.footnotes.items()}

    def render(self, fmt: str = "md") -> str:
        """The table as text.

        Args:
            fmt: md, csv, latex, html or json.

        Raises:
            UsageError: no such format.
        """
        writers: dict[str, Callable[[Table], str]] = {
            "md": _markdown,
            "csv": _csv,
            "latex": _latex,
            "html": _html,
            "json": _json,
        }
        if fmt not in writers:
            raise unknown_name("format", fmt, FORMATS)
        return writers[fmt](self)


@dataclass(frozen=True)
class _Style:
    """How a format escapes, emphasises and marks."""

    escape: Callable[[str], str]
    best: Callable[[str], str]
    second: Callable[[str], str]
    mark: Callable[[Sequence[str]], str]
    strong: Callable[[str], str]


def _cell(table: Table, cell: TableCell, style: _Style) -> str:
    """A cell's text: value, printed value in brackets, difference in braces, marks."""
    marks = style.mark(table.marks(cell.notes))
    if not cell.numbers:
        return style.escape(cell.text) + marks
    missing = all(number.value is None for number in cell.numbers)
    text = style.escape(DASH) if missing else _tuple([_ranked(n, style) for n in cell.numbers])
    if any(number.printed is not None for number in cell.numbers):
        if table.published:
            text += f" [{', '.join(style.escape(n.printed_text) for n in cell.numbers)}]"
        if table.delta and not missing:
            inner = ", ".join(style.escape(n.delta_text) for n in cell.numbers)
            text += " " + style.escape("{") + inner + style.escape("}")
    return text + marks


def _ranked(number: Number, style: _Style) -> str:
    text = style.escape(number.text)
    if number.rank == 1:
        return style.best(text)
    return style.second(text) if number.rank == 2 else text


def _tuple(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


def _header(table: Table, style: _Style) -> list[str]:
    return [
        *(style.escape(name) for name in table.stub),
        *(style.escape(c.label) + style.mark(table.marks(c.notes)) for c in table.columns),
    ]


def _body(table: Table, style: _Style) -> list[list[str]]:
    """All rows as texts; a group's name stands in its first row only."""
    lines = []
    group = None
    for row in table.rows:
        label = style.escape(row.label)
        label = (style.strong(label) if row.summary and label else label) + style.mark(
            table.marks(row.notes)
        )
        stub = [label]
        if len(table.stub) == 2:
            stub = ["" if row.group == group else style.escape(row.group), label]
        group = row.group
        lines.append([*stub, *(_cell(table, cell, style) for cell in row.cells)])
    return lines


# -- Markdown -----------------------------------------------------------------------------------


# An underscore within a word is not emphasis.
_MARKDOWN_SPECIAL = re.compile(r"[\\|*`<>\[\]]|(?<!\w)_|_(?!\w)")


def _escape_markdown(text: str) -> str:
    return _MARKDOWN_SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


_MARKDOWN = _Style(
    escape=_escape_markdown,
    best=lambda text: f"**{text}**",
    second=lambda text: f"<u>{text}</u>",
    mark=lambda marks: "".join(f"[^{mark}]" for mark in marks),
    strong=lambda text: f"**{text}**",
)


def _markdown(table: Table) -> str:
    from tabulate import tabulate

    header = _header(table, _MARKDOWN)
    align = ["left"] * len(table.stub) + ["right"] * len(table.columns)
    lines = [f"**{_escape_markdown(table.title)}**", ""]
    lines.append(
        tabulate(
            _body(table, _MARKDOWN),
            headers=header,
            tablefmt="pipe",
            colalign=align,
            disable_numparse=True,
        )
        if table.rows
        else "(no rows)"
    )
    for remark in table.remarks:
        lines += ["", _escape_markdown(remark)]
    if table.footnotes:
        lines.append("")
    lines += [f"[^{mark}]: {_escape_markdown(text)}" for mark, text in table.footnotes.items()]
    return "\n".join(lines) + "\n"


# -- CSV ----------------------------------------------------------------------------------------


def _csv(table: Table) -> str:
    """One column per number; a missing number is empty, footnotes stand in the last column."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [*table.stub, *(n for c in table.columns for n in _csv_names(table, c)), "notes"]
    )
    for row in (*table.rows, *table.left_out):
        stub = [row.group, row.label] if len(table.stub) == 2 else [row.label]
        values = [
            text
            for column, cell in zip(table.columns, row.cells, strict=True)
            for text in _csv_values(table, column, cell)
        ]
        writer.writerow([*map(_csv_line, stub), *values, _csv_line(_csv_notes(table, row))])
    return out.getvalue()


def _csv_names(table: Table, column: Column) -> list[str]:
    label = _csv_line(column.label)
    names = [f"{label} {name}".strip() for name in column.names or ("",)]
    kinds = ["", *[" sd"] * _has_spread(table)]
    kinds += [" printed"] * table.published + [" difference"] * table.delta
    return [name + kind for name in names for kind in kinds]


def _csv_values(table: Table, column: Column, cell: TableCell) -> list[str]:
    numbers = cell.numbers or (Number(),) * max(len(column.names), 1)
    texts: list[str] = []
    for number in numbers:
        texts.append(number.bare(number.value) if cell.numbers else _csv_line(cell.text))
        texts += [number.bare(number.spread)] * _has_spread(table)
        texts += [number.bare(number.printed)] * table.published
        texts += [number.delta_text.replace(DASH, "")] * table.delta
    return texts


def _csv_notes(table: Table, row: Row) -> str:
    parts = list(row.notes)
    for column, cell in zip(table.columns, row.cells, strict=True):
        parts += [f"{column.label}: {note}" for note in cell.notes]
    return "; ".join(parts)


def _csv_line(text: str) -> str:
    """A text on one line, as a CSV cell."""
    return csv_text(" ".join(text.split()))


def _has_spread(table: Table) -> bool:
    return any(n.spread is not None for row in table.rows for c in row.cells for n in c.numbers)


# -- JSON ---------------------------------------------------------------------------------------


def _json(table: Table) -> str:
    """The fields of `Table`; numbers in the unit that is shown, not rounded."""
    return json.dumps(dataclasses.asdict(table), indent=1, ensure_ascii=False) + "\n"


# -- LaTeX --------------------------------------------------------------------------------------

_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    DASH: "--",
}


def _escape_latex(text: str) -> str:
    return "".join(_LATEX_SPECIAL.get(char, char) for char in " ".join(text.split()))


_LATEX = _Style(
    escape=_escape_latex,
    best=lambda text: rf"\textbf{{{text}}}",
    second=lambda text: rf"\underline{{{text}}}",
    mark=lambda marks: rf"\textsuperscript{{{','.join(marks)}}}" if marks else "",
    strong=lambda text: rf"\textbf{{{text}}}",
)


def _latex(table: Table) -> str:
    columns = "l" * len(table.stub) + "c" * len(table.columns)
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escape_latex(table.title)}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(_header(table, _LATEX)) + r" \\",
    ]
    group: str | None = None
    for row, texts in zip(table.rows, _body(table, _LATEX), strict=True):
        lines += [r"\midrule"] if row.group != group else []
        group = row.group
        lines.append(" & ".join(texts) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    notes = [_escape_latex(remark) for remark in table.remarks]
    notes += [_LATEX.mark([m]) + " " + _escape_latex(t) for m, t in table.footnotes.items()]
    lines += [rf"\par\footnotesize {note}" for note in notes]
    lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


# -- HTML ---------------------------------------------------------------------------------------

_HTML = _Style(
    escape=html.escape,
    best=lambda text: f"<strong>{text}</strong>",
    second=lambda text: f"<u>{text}</u>",
    mark=lambda marks: f"<sup>{','.join(marks)}</sup>" if marks else "",
    strong=lambda text: f"<strong>{text}</strong>",
)


def _html(table: Table) -> str:
    """A figure element: the table and its footnotes."""
    lines = [
        f'<figure class="zsad-table" data-layout="{html.escape(table.layout)}">',
        "<table>",
        f"<caption>{html.escape(table.title)}</caption>",
        "<thead><tr>",
        *(f'<th scope="col">{text}</th>' for text in _header(table, _HTML)),
        "</tr></thead>",
        "<tbody>",
    ]
    stubs = len(table.stub)
    for row, texts in zip(table.rows, _body(table, _HTML), strict=True):
        lines.append('<tr class="summary">' if row.summary else "<tr>")
        lines += [f'<th scope="row">{text}</th>' for text in texts[:stubs]]
        lines += [f"<td>{text}</td>" for text in texts[stubs:]]
        lines.append("</tr>")
    lines += ["</tbody>", "</table>"]
    notes = [html.escape(remark) for remark in table.remarks]
    notes += [f"<sup>{m}</sup> {html.escape(t)}" for m, t in table.footnotes.items()]
    if notes:
        lines += ["<figcaption>", *(f"<p>{note}</p>" for note in notes), "</figcaption>"]
    lines.append("</figure>")
    return "\n".join(lines) + "\n"
