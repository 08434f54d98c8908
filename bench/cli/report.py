"""`zsad report` and `zsad figure`: a run as a page, and as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import AllowIncomplete, Run, out_option
from .terminal import echo


def report(
    run: Run,
    out: Annotated[Path | None, out_option(help="HTML file; RUN/report.html if not given.")] = None,
    title: Annotated[str | None, typer.Option(help="Title; the run's name if not given.")] = None,
    pictures: Annotated[
        float, typer.Option(help="Megabytes that the gallery may take; 0 omits it.")
    ] = 8.0,
    allow_incomplete: AllowIncomplete = False,
) -> None:
    """Write one HTML file with everything about a run; it needs no network."""
    from ..files import write_text
    from ..report.page import render_report

    path = out or run / "report.html"
    write_text(path, render_report(run, title, pictures, allow_incomplete))
    echo(str(path))


def figure(
    run: Run,
    kind: Annotated[
        str, typer.Option(help="scatter, radar, sweep, tsne, curves or maps.")
    ] = "scatter",
    out: Annotated[Path | None, out_option(help="A .png, .pdf or .svg file.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Metric to draw, may be repeated.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Only these methods, may be repeated.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Only these datasets, may be repeated.")
    ] = None,
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    panels: Annotated[int, typer.Option(min=1, help="The most panels of a t-SNE figure.")] = 8,
    option: Annotated[
        str | None,
        typer.Option(help="The option that a sweep varies; a,b for two that move together."),
    ] = None,
) -> None:
    """Draw a figure of a run as PNG, PDF or SVG."""
    from ..report.figures import draw
    from ..report.scene import Choice

    choice = Choice(
        metrics=tuple(metric or ()),
        methods=tuple(method or ()),
        datasets=tuple(dataset or ()),
        category=category,
        option=option,
        panels=panels,
    )
    echo(str(draw(run, kind, out or run / f"{kind}.png", choice)))
