"""`zsad list`: the methods, datasets and backbones that there are."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import registry
from ..errors import UsageError
from ..names import display_name
from .terminal import echo


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command("list")(list_names)


def list_names(
    what: Annotated[str, typer.Argument(help="methods, datasets or backbones")] = "methods",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="All that is known.")] = False,
) -> None:
    """List the methods, datasets or backbones that there are."""
    if what not in ("methods", "datasets", "backbones"):
        raise UsageError(f"list takes methods, datasets or backbones, not '{what}'")
    if verbose or what == "backbones":
        from .describe import DESCRIPTIONS

        echo(DESCRIPTIONS[what]())
        return
    for name in registry.names(what.removesuffix("s")):
        echo(display_name(name))
