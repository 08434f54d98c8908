"""`zsad list`: the methods, datasets, backbones and metrics that there are."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import registry
from ..errors import UsageError
from ..metric_table import METRICS
from ..names import display_name
from .terminal import echo


def list_names(
    what: Annotated[
        str, typer.Argument(help="methods, datasets, backbones or metrics")
    ] = "methods",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Describe each.")] = False,
) -> None:
    """List the methods, datasets, backbones or metrics that there are."""
    if what not in ("methods", "datasets", "backbones", "metrics"):
        raise UsageError(f"list takes methods, datasets, backbones or metrics, not '{what}'")
    if what == "metrics":
        for metric in METRICS.values():
            name = display_name(metric.name)
            echo(f"{name}: {metric.title}, {metric.definition}" if verbose else name)
        return
    if verbose or what == "backbones":
        from .describe import DESCRIPTIONS

        echo(DESCRIPTIONS[what]())
        return
    for name in registry.names(what.removesuffix("s")):
        echo(display_name(name))
