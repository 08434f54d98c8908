"""Verbs for results that others read: `zsad validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json
from .terminal import echo


def validate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Run directories, results repositories or records.", show_default=False
        ),
    ],
    allow_unknown: Annotated[
        bool,
        typer.Option(
            "--allow-unknown", help="Take methods and datasets that are not installed here."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check records; exit with 1 if one is wrong, with 2 if one cannot be read."""
    from ..analysis.validation import validate as checked

    verdict = checked(paths, allow_unknown)
    echo((verdict.to_json() if as_json else verdict.render()).rstrip("\n"))
    if verdict.exit_code:
        raise typer.Exit(verdict.exit_code)
