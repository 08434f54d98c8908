"""`zsad report` and `zsad figure`: a run as a page, and as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import AllowIncomplete, Run, out_option
from .terminal import echo


def report(
    run: Run,
    out: Annotated[Path | None, out_option()] = None,
    title: str | None = None,
    pictures: float = 8.0,
    allow_incomplete: AllowIncomplete = False,
) -> None:
    """Write one HTML file with everything about a run; it needs no network.

    Args:
        out: HTML file; RUN/report.html if not given.
        title: Title; the run's name if not given.
        pictures: Megabytes that the gallery may take; 0 omits it.
    """
    from ..files import write_text
    from ..report.page import render_report

    path = out or run / "report.html"
    write_text(path, render_report(run, title, pictures, allow_incomplete))
    echo(str(path))


def figure(
    run: Run,
    kind: str = "scatter",
    out: Annotated[Path | None, out_option()] = None,
    metric: list[str] | None = None,
    method: list[str] | None = None,
    dataset: list[str] | None = None,
    category: str | None = None,
    panels: Annotated[int, typer.Option(min=1)] = 8,
    option: str | None = None,
) -> None:
    """Draw a figure of a run as PNG, PDF or SVG.

    Args:
        kind: scatter, radar, sweep, tsne, curves or maps.
        out: A .png, .pdf or .svg file.
        metric: Metric to draw, may be repeated.
        method: Only these methods, may be repeated.
        dataset: Only these datasets, may be repeated.
        category: Only this category.
        panels: The most panels of a t-SNE figure.
        option: The option that a sweep varies; a,b for two that move together.
    """
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
