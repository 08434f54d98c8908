"""Rows and facts on screen: a table of rich on a terminal, plain text of 100 columns elsewhere."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .terminal import echo, printable

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 100  # of what is piped


@dataclass(frozen=True)
class Grid:
    """Rows below the names of their columns.

    Attributes:
        head: names of the columns.
        rows: texts and numbers, as many in each as there are columns.
        wrapped: column -> characters at which its texts are wrapped where they are piped.
        colours: text of a cell -> its style on a terminal.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    wrapped: Mapping[str, int] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)


def console() -> Console | None:
    """The terminal that standard output is; None for a pipe, a file or a terminal without style."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return None
    from rich.console import Console

    return Console(highlight=False, emoji=False, markup=False)


def echo_grid(grid: Grid) -> None:
    """Print rows; on a terminal they are wrapped to its width."""
    screen = console()
    if screen is None or not grid.rows:
        echo(plain(grid))
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(*grid.head, box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column, own in zip(table.columns, zip(*grid.rows, strict=True), strict=True):
        column.justify = "right" if all(map(_is_number, own)) else "left"
        column.min_width = 8 if str(column.header) in grid.wrapped else None
        column.overflow = "fold"
    table.columns[0].no_wrap = True
    for row in grid.rows:
        texts = [printable(_text(value)) for value in row]
        table.add_row(*(Text(text, style=grid.colours.get(text, "")) for text in texts))
    screen.print(table)


def plain(grid: Grid) -> str:
    """Rows as text, the same wherever it goes."""
    from tabulate import tabulate

    if not grid.rows:
        return "(none)"
    return str(
        tabulate(
            [[_text(value) for value in row] for row in grid.rows],
            headers=grid.head,
            tablefmt="simple",
            disable_numparse=True,
            maxcolwidths=[grid.wrapped.get(name) for name in grid.head],
        )
    )


def echo_facts(title: str, facts: Mapping[str, object]) -> None:
    """Print what is known of one thing: its title, and below it a line for each fact."""
    screen = console()
    width = WIDTH if screen is None else min(screen.width, WIDTH)
    room = max(map(len, facts), default=0) + 4
    lines = []
    for name, value in facts.items():
        lines += textwrap.wrap(
            _text(value),
            max(width, room + 20),
            initial_indent=f"  {name:<{room - 2}}",
            subsequent_indent=" " * room,
            break_on_hyphens=False,
        )
    if screen is None:
        echo("\n".join([title, *lines, ""]))
        return
    from rich.text import Text

    screen.print(Text(printable(title), style="bold"))
    screen.print(Text(printable("\n".join([*lines, ""]))))


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{own:,} {name}" for name, own in value.items() if own is not None)
    return str(value)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
