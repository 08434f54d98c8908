"""Tables on a terminal: emphasis without marks, in a way that fits; plain text when piped."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console
from zsad.bench.analysis.tables import make_table
from zsad.bench.cli.grid import Grid, echo_grid, plain
from zsad.bench.cli.screen import show_table


def shown(table, width):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    show_table(table, console)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 200])
def test_all_numbers_of_nine_methods_are_whole_at_any_width(paper_run, width):
    table = make_table(paper_run, "image", datasets=["visa", "btad", "mpdd"])
    text = shown(table, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    numbers = [n.text for row in table.rows for c in row.cells for n in c.numbers]
    assert all(text.count(number) >= numbers.count(number) for number in set(numbers))
    assert "…" not in text
    assert all(column.label in text for column in table.columns)


def test_a_wide_terminal_shows_a_table_as_it_is(paper_run):
    table = make_table(paper_run, "image", datasets=["visa"])
    text = shown(table, 200)
    row = next(line for line in text.splitlines() if "VisA" in line)
    assert row.count("(") == len(table.columns)
    assert "**" not in text and "<u>" not in text


def test_text_of_a_record_is_no_markup(make_record):
    record = make_record("[red]X[/red]\x1b[1m", "btad", {"x": {"image_auroc": 0.5}})
    assert "[red]X[/red]" in shown(make_table([record], "image"), 100)


def test_rows_are_plain_when_piped_and_styled_on_a_terminal(capsys, monkeypatch):
    grid = Grid(["name", "state"], [["a\x07", "done"], ["b", None]], colours={"done": "green"})
    echo_grid(grid)
    assert capsys.readouterr().out == plain(grid).replace("\x07", "") + "\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    echo_grid(grid)
    text = capsys.readouterr().out
    assert "─" in text and "\x07" not in text
