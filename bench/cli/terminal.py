"""What the command prints.

Names of files, datasets and plug-ins are printed in rows and messages, and a terminal would act on
control characters in them.
"""

from __future__ import annotations

import logging
import unicodedata

import typer


def printable(text: str) -> str:
    r"""A text without control characters except line ends and tabs.

    Bytes of a file name that are not text become "\N{REPLACEMENT CHARACTER}".

    >>> printable("\x1b[31mred\x07.png")
    '[31mred.png'
    """
    if text.isprintable():
        return text
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    return "".join("\N{REPLACEMENT CHARACTER}" if "\ud800" <= c <= "\udfff" else c for c in kept)


def echo(text: str, err: bool = False) -> None:
    """Print a line without control characters."""
    typer.echo(printable(text), err=err)


class PrintableFormatter(logging.Formatter):
    """Writes log lines without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a log record."""
        return printable(super().format(record))
