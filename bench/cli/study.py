"""`zsad study`: how much metrics depend on choices that papers do not state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from ..names import known_name, registry_name
from .options import Metrics, Quiet, Run, comma_separated, out_option, progress_bar
from .results import Datasets, Format, OutFile, emit_table, format_of
from .terminal import echo

if TYPE_CHECKING:
    from ..analysis.study import Study

IMAGE_SIZE = "image_size"


def study(
    run: Run,
    over: Annotated[str, typer.Option()],
    values: Annotated[str, typer.Option(show_default=False)] = "",
    side: int | None = None,
    metric: Metrics = None,
    dataset: Datasets = None,
    figure: Annotated[Path | None, out_option("--figure")] = None,
    jobs: int | None = None,
    quiet: Quiet = False,
    format: Format = None,  # noqa: A002
    out: OutFile = None,
) -> None:
    """Show how much metrics depend on a choice that papers do not state.

    From the maps of a run made with --save-maps, without a model; image-size runs the methods.

    Args:
        over: map-size, smoothing, interpolation, mask-rule or pro-limit, from kept maps; image-size
            does the run again at each size.
        values: Comma-separated. [default: the usual ones; image-size needs them]
        side: Size to which maps are brought by an interpolation or a mask rule. [default: half of
            theirs]
        figure: Draw it too: a .png, .pdf or .svg file.
        jobs: Processes of image-size, as of a run.
    """
    from ..analysis.choice_table import choice_table
    from ..analysis.choices import Question
    from ..analysis.formats import FORMATS
    from ..analysis.study import study_maps

    known_name("format", format_of(format, out), FORMATS)
    if figure is not None:
        from ..report.canvas import check_format

        check_format(figure)
    named, metrics, datasets = comma_separated(values), metric or (), dataset or ()
    if registry_name(over) == IMAGE_SIZE:
        if side is not None:
            raise UsageError("--side is for interpolation and mask-rule: leave it out")
        found = _of_sizes(run, named, metrics, datasets, jobs, quiet)
    else:
        question = Question.ask(over, metrics, named, side)
        found = study_maps(run, question, datasets, _silent if quiet else _told)
    if figure is not None:
        from ..report.study_figure import draw_study

        echo(f"wrote {draw_study(found, figure)}", err=True)
    emit_table(choice_table(found), format, out)


def _told(line: str) -> None:
    echo(line, err=True)


def _silent(line: str) -> None:
    del line


def _of_sizes(
    run: Path,
    values: Sequence[str],
    metrics: Sequence[str],
    datasets: Sequence[str],
    jobs: int | None,
    quiet: bool,
) -> Study:
    """Do a run's plan again at several sizes of the input, below the run; resumes."""
    from ..analysis.study import study_runs
    from ..running import parallel
    from ..running.image_sizes import plan_of_sizes

    if not all(value.isdigit() for value in values) or not values:
        raise UsageError(
            "image-size takes sizes in pixels that the backbone's patches divide: --values "
            "224,336,518"
        )
    sizes = list(dict.fromkeys(map(int, values)))
    plan = plan_of_sizes(run, sizes, datasets)
    echo(f"the run with images of {', '.join(map(str, sizes))} pixels: {plan.out}", err=True)
    with progress_bar(quiet) as progress:
        parallel.run(plan, progress, jobs)
    return study_runs(Path(plan.out), sizes, metrics, datasets)
