r"""A table as LaTeX that fits the page of an article.

Each table is a float with a caption, a label and its notes. Of the ways to arrange it the first one
is taken that stays readable within the width of the text: as it is, with rows and columns
exchanged, a table for each metric, turned by a quarter. What is still too wide is shrunk by
`\resizebox` or, where nobody could read it then, parted by columns; what is too high is parted
by rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from .latex_text import LATEX, broken, points, slug
from .style import fill
from .table_data import Row, Table
from .table_parts import by_metric, halves, with_rows

READABLE = 0.8  # share of the natural size (8 points) that is good to read
SMALLEST = 0.65  # what is still smaller is parted
GAP = 6.0  # points between two columns
LINE = 10.0  # points from row to row
LONGEST_GROUP = 80.0  # points; longer names of groups are lines of their own
NOTE_SCALE = 7 / 8  # of notes, which are set in 7 points
EMPHASIS = "Bold: the best of a {}; underlined: the second best."
PACKAGES = ("booktabs", "graphicx", "rotating", "threeparttable")


@dataclass(frozen=True)
class Page:
    """A kind of float and the room in it, in points of the class article at 10 points."""

    environment: str
    width: float
    height: float


UPRIGHT = Page("table", 345.0, 520.0)
TURNED = Page("sidewaystable", 550.0, 320.0)


@dataclass(frozen=True)
class _Grid:
    """A table as LaTeX text.

    Attributes:
        stub: headings of the rows' groups and of their labels.
        columns: group and label of each.
        rows: group, label and cells of each.
    """

    stub: tuple[str, str]
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, str, Sequence[str]]]

    @classmethod
    def of(cls, table: Table, exchanged: bool) -> _Grid:
        """The grid of a table, on demand with rows and columns exchanged."""
        labels = LATEX.column_labels(table)
        rows = [
            (
                LATEX.escape(row.group),
                LATEX.row_label(table, row),
                [LATEX.cell(table, cell) for cell in row.cells],
            )
            for row in table.rows
        ]
        if not exchanged:
            group, stub = ("", *map(LATEX.escape, table.stub))[-2:]
            return cls((group, stub), [("", label) for label in labels], rows)
        columns = [(group, label) for group, label, _ in rows]
        turned = [("", label, [cells[i] for _, _, cells in rows]) for i, label in enumerate(labels)]
        return cls(("", ""), columns, turned)

    @property
    def groups(self) -> list[str]:
        """The names of the groups of rows, in order."""
        return [group for group, _ in groupby(group for group, _, _ in self.rows)]

    @property
    def groups_are_lines(self) -> bool:
        """Whether groups are named in lines of their own, not in a first column."""
        return any(points(group) > LONGEST_GROUP for group in self.groups)

    @property
    def stub_columns(self) -> int:
        """How many columns stand before the cells."""
        return 2 if any(self.groups) and not self.groups_are_lines else 1

    def widths(self) -> list[float]:
        """The natural width of each column in points, its broken heading included."""
        stubs = [[self.stub[1], *(label for _, label, _ in self.rows)]]
        if self.stub_columns == 2:
            stubs.insert(0, [self.stub[0], *self.groups])
        found = [max(map(points, texts), default=0.0) for texts in stubs]
        for i, (_, label) in enumerate(self.columns):
            cells = max((points(row[2][i]) for row in self.rows), default=0.0)
            found.append(max(cells, *(points(word) for word in label.split(" "))))
        return found

    @property
    def width(self) -> float:
        """Its natural width in points."""
        widths = self.widths()
        return sum(widths) + GAP * len(widths)

    @property
    def height(self) -> float:
        """Its natural height in points, without caption and notes."""
        between = len(self.groups) * (1.6 if self.groups_are_lines else 0.6)
        broken = max((label.count(" ") for _, label in self.columns), default=0)
        return LINE * (3 + broken + len(self.rows) + between)

    def header(self) -> list[str]:
        """The lines of the heading: groups of columns where there are any, then all labels."""
        widths = self.widths()[self.stub_columns :]
        labels = [broken(text, w) for (_, text), w in zip(self.columns, widths, strict=True)]
        lines = [" & ".join([*self.stub[-self.stub_columns :], *labels])]
        if any(group for group, _ in self.columns):
            runs = [(g, len(list(own))) for g, own in groupby(group for group, _ in self.columns)]
            spans = [rf"\multicolumn{{{n}}}{{c}}{{{g}}}" for g, n in runs]
            lines.insert(0, " & ".join([*[""] * self.stub_columns, *spans]))
        return lines

    def lines(self) -> Iterator[str]:
        r"""The lines of the body, with a rule above each group."""
        whole = self.stub_columns + len(self.columns)
        for group, rows in groupby(self.rows, lambda row: row[0]):
            yield r"\midrule"
            if group and self.groups_are_lines:
                yield rf"\multicolumn{{{whole}}}{{l}}{{\textit{{{group}}}}} \\"
            for i, (_, label, cells) in enumerate(rows):
                first = [group if i == 0 else ""] * (self.stub_columns - 1)
                yield " & ".join([*first, label, *cells]) + r" \\"


@dataclass(frozen=True)
class _Arrangement:
    """Tables that stand for one, and how each is set."""

    tables: Sequence[Table]
    page: Page
    exchanged: bool = False

    @property
    def scale(self) -> float:
        """How much the widest table must shrink; 1 if it need not."""
        widths = [_Grid.of(table, self.exchanged).width for table in self.tables]
        return min([1.0, *(self.page.width / width for width in widths)])

    def height(self, table: Table) -> float:
        """How high a table is as it is set, with its caption and notes, in points."""
        notes = sum(points(f"{mark} {text} ") for mark, text in self.notes(table))
        lines = notes * NOTE_SCALE / self.page.width
        return 40.0 + self.scale * _Grid.of(table, self.exchanged).height + LINE * (lines + 1)

    def notes(self, table: Table) -> list[tuple[str, str]]:
        """The mark, "" for none, and the text of each note below a table."""
        found = [("", remark) for remark in table.remarks]
        if any(n.rank for row in table.rows for cell in row.cells for n in cell.numbers):
            found.append(("", EMPHASIS.format("column" if self.exchanged else "row")))
        found += table.footnotes.items()
        return [(mark, LATEX.escape(text)) for mark, text in found]


def latex(table: Table) -> str:
    """A table, and those of other tracks below it, as floats of LaTeX."""
    floats = [text for own in table.tracks for text in _floats(own)]
    return f"% needs \\usepackage{{{','.join(PACKAGES)}}}\n" + "\n".join(floats)


def _floats(table: Table) -> Iterator[str]:
    arrangement = _best(table)
    parts = [part for own in arrangement.tables for part in _by_height(own, arrangement)]
    for title, same in groupby(parts, lambda part: part.title):
        several = list(same)
        for i, part in enumerate(several, start=1):
            number = f", part {i} of {len(several)}" if len(several) > 1 else ""
            first = part if i == 1 else dataclasses.replace(part, remarks=())
            yield _float(dataclasses.replace(first, title=title + number), arrangement)


def _best(table: Table) -> _Arrangement:
    """The first readable arrangement, else the one that shrinks least, else parts of it."""
    single = by_metric(table)
    ways = [
        _Arrangement([table], UPRIGHT),
        _Arrangement([table], UPRIGHT, exchanged=True),
        _Arrangement(single, UPRIGHT),
        _Arrangement(single, UPRIGHT, exchanged=True),
        _Arrangement([table], TURNED),
        _Arrangement(single, TURNED),
    ]
    for way in ways:
        if way.scale >= READABLE:
            return way
    best = max(ways, key=lambda way: way.scale)
    if best.scale < SMALLEST:
        best = ways[-1]
    while best.scale < SMALLEST and len(best.tables[0].columns) > 1:
        best = dataclasses.replace(best, tables=[half for t in best.tables for half in halves(t)])
    return best


def _by_height(table: Table, arrangement: _Arrangement) -> Iterator[Table]:
    """The table in parts that are not higher than the page, of at least one row."""
    rows: list[Row] = []
    for row in table.rows:
        taller = with_rows(table, [*rows, row])
        if rows and arrangement.height(taller) > arrangement.page.height:
            yield with_rows(table, rows)
            rows = []
        rows.append(row)
    yield with_rows(table, rows)


def _float(table: Table, arrangement: _Arrangement) -> str:
    """One float: caption, label, rows, and the notes on them."""
    grid = _Grid.of(table, arrangement.exchanged)
    return fill(
        "table.tex",
        environment=arrangement.page.environment,
        title=LATEX.escape(table.title),
        label=slug(table.title),
        columns="l" * grid.stub_columns + "c" * len(grid.columns),
        header=grid.header(),
        lines=list(grid.lines()),
        notes=arrangement.notes(table),
    )
