"""How Markdown, HTML and LaTeX write a cell: escapes, emphasis and footnote marks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .table_data import DASH, Number, Row, Table, TableCell

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Style:
    """How a format escapes, emphasises and marks; the text stands in place of %s.

    Attributes:
        escape: text of a record as text of the page.
        strong, underlined: emphasis.
        marks: footnote marks.
        between: what parts the marks of a cell.
    """

    escape: Callable[[str], str]
    strong: str
    underlined: str
    marks: str
    between: str

    def mark(self, marks: Sequence[str]) -> str:
        """Footnote marks, "" for none."""
        return self.marks % self.between.join(marks) if marks else ""

    def column_labels(self, table: Table) -> list[str]:
        """The headings of the columns of cells, with their marks."""
        return [self.escape(c.label) + self.mark(table.marks(c.notes)) for c in table.columns]

    def row_label(self, table: Table, row: Row) -> str:
        """The heading of a row, with its marks."""
        label = self.escape(row.label)
        if row.summary and label:
            label = self.strong % label
        return label + self.mark(table.marks(row.notes))

    def cell(self, table: Table, cell: TableCell) -> str:
        """A cell's text: value, printed value in brackets, difference in braces, marks."""
        marks = self.mark(table.marks(cell.notes))
        if not cell.numbers:
            return self.escape(cell.text) + marks
        missing = all(number.value is None for number in cell.numbers)
        text = self.escape(DASH)
        if not missing:
            text = ", ".join(map(self._ranked, cell.numbers))
            text = text if len(cell.numbers) == 1 else f"({text})"
        if any(number.printed is not None for number in cell.numbers):
            if table.published:
                text += f" [{', '.join(self.escape(n.printed_text) for n in cell.numbers)}]"
            if table.delta and not missing:
                inner = ", ".join(self.escape(n.delta_text) for n in cell.numbers)
                text += " " + self.escape("{") + inner + self.escape("}")
        return text + marks

    def _ranked(self, number: Number) -> str:
        emphasis = {1: self.strong, 2: self.underlined}.get(number.rank, "%s")
        return emphasis % self.escape(number.text)


def fill(template: str, **content: Any) -> str:
    """A template of tables with its content, which a style has escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,
        block_start_string="[%",
        block_end_string="%]",
        variable_start_string="[[",
        variable_end_string="]]",
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return templates.get_template(template).render(**content)
