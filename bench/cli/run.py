"""`zsad run` and `zsad plan`: from the command line and a plan file to a plan, and its answer."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import UsageError
from ..metric_table import HEADLINES, LEVELS, METRICS, Level, of_level
from ..names import display_name, registry_name
from ..running.plan import PUBLISHED, Plan, make_plan, read_plan_settings
from ..running.plan_entries import methods_meant_by
from .grid import Grid, console, echo_grid
from .options import (
    SETTINGS,
    Json,
    Quiet,
    chosen_device,
    comma_separated,
    method_option,
    method_table,
    progress_bar,
    with_dataset_options,
    with_options,
)
from .outcome import run_json
from .profile import profile
from .terminal import echo

if TYPE_CHECKING:
    from ..data.completeness import Completeness
    from ..records.record import Record

STATES = {"done": "green", "failed": "red", "changed": "yellow", "blocked": "red"}  # colours
A_PLAN = with_options(
    "plan_file", *SETTINGS, "option", "dataset_option", "checkpoint", "learned_from", "metric"
)


@A_PLAN
def run(
    context: typer.Context,
    jobs: int | None = None,
    parallel: str = "loky",
    scheduler: str | None = None,
    shard: str = "0/1",
    quiet: Quiet = False,
    as_json: Json = False,
    **line: Any,
) -> None:
    """Compare methods on datasets and print the tables; the same command again resumes.

    Without arguments: all methods on the built-in set with the built-in backbone.

    Args:
        jobs: Processes, sharing what GPUs there are. [default: 1; one per core, up to 4, for the
            built-in backbone on a CPU]
        parallel: loky, threads or dask.
        scheduler: tcp://... of a Dask cluster.
        shard: i/n: every n-th unit from the i-th (0-based).
    """
    from ..running import parallel as engine

    plan = _plan(context, line)
    backend = "dask" if scheduler else parallel
    with progress_bar(quiet) as progress:
        engine.run(plan, progress, jobs, backend, scheduler, _shard(shard))
    _summary(plan, as_json)


@A_PLAN
def show_plan(
    context: typer.Context,
    as_json: Json = False,
    calibrate: bool = True,
    **line: Any,
) -> None:
    """Show what a run would do: cells, what is done, time, missing data and weights.

    Args:
        calibrate: Measure for up to 10 s how long parts of the run take here.
    """
    from ..running.dry_run import HEAD, dry_run

    view = dry_run(_plan(context, line), calibrate)
    if as_json or console() is None:
        echo(view.to_json() if as_json else view.to_text())
    else:
        echo_grid(Grid(HEAD, view.rows, {"options": 30}, STATES))
        echo("\n".join(view.remarks()))
    raise typer.Exit(0 if view.ready else 1)


def _plan(context: typer.Context, line: Mapping[str, Any]) -> Plan:
    """The plan of the command line: what is given there overrides the plan file.

    Args:
        context: tells what stands on the command line.
        line: the values of the options of `A_PLAN`, given or not.
    """
    plan_file = line["plan_file"]
    settings = read_plan_settings(plan_file) if plan_file is not None else {}
    given = {name: value for name, value in line.items() if _is_given(context, name)}
    if plan_file is None or given.keys() & {"methods", "option", "checkpoint"}:
        settings["methods"] = _method_tables(given, plan_file)
    if given.get("learned_from") and not given.get("checkpoint"):
        raise UsageError("--learned-from says what a --checkpoint was trained on: give one")
    if "datasets" in given:
        settings["datasets"] = comma_separated(given["datasets"])
    if "seeds" in given:
        settings["seeds"] = [_whole(seed) for seed in comma_separated(given["seeds"])]
    if given.get("metric"):
        settings["metrics"] = given["metric"]
    plain = SETTINGS.keys() - {"methods", "datasets", "seeds"}
    settings |= {name: value for name, value in given.items() if name in plain}
    if given.get("batch_size", "").isdigit():
        settings["batch_size"] = int(given["batch_size"])
    if settings.get("data_root") is None:  # of the environment: a plan file goes before it
        settings["data_root"] = line["data_root"]
    settings["device"] = chosen_device(str(settings.get("device", line["device"])))
    plan = with_dataset_options(make_plan(**settings), given.get("dataset_option", []))
    if plan.backbone != PUBLISHED and (plan.backbone, plan.backbone_config) != ("tiny", None):
        from ..weights import check_backbone  # imports open_clip, which takes seconds

        check_backbone(plan.backbone, plan.pretrained, plan.backbone_config)
    return plan


def _is_given(context: typer.Context, name: str) -> bool:
    return str(context.get_parameter_source(name)).endswith("COMMANDLINE")


def _method_tables(given: Mapping[str, Any], plan_file: Path | None) -> list[dict[str, Any]]:
    """The methods of the command line with their options and checkpoints, as a plan has them.

    Raises:
        UsageError: options or checkpoints of no method, or beside those of a plan file.
    """
    options, checkpoints = given.get("option", []), given.get("checkpoint", [])
    if plan_file is not None and "methods" not in given:
        flag = "--option" if options else "--checkpoint"
        raise UsageError(f"{flag} beside a plan file needs --methods: put it into the file")
    names = comma_separated(given.get("methods", "all"))
    tables = [method_table(name, options) for word in names for name in methods_meant_by(word)]
    chosen = {registry_name(table["name"]) for table in tables}
    for flag, target_of, texts in (
        ("--option", method_option, options),
        ("--checkpoint", _checkpoint, checkpoints),
    ):
        for text in texts:
            if target_of(text)[0] not in chosen:
                raise UsageError(f"{flag} {text} is for a method that is not part of this run")
    for table in tables:
        _give_checkpoints(table, checkpoints, given.get("learned_from"))
    return tables


def _give_checkpoints(
    table: dict[str, Any], checkpoints: list[str], learned_from: str | None
) -> None:
    """Put the files of --checkpoint that concern a method into its table."""
    files: dict[str, list[str]] = {}
    for text in checkpoints:
        target, auxiliary, file = _checkpoint(text)
        if target == registry_name(table["name"]):
            files.setdefault(auxiliary, []).append(file)
    if files:
        table |= {"checkpoint": files, "learned_from": learned_from}


def _checkpoint(text: str) -> tuple[str, str, str]:
    """METHOD.AUXILIARY=FILE or METHOD=FILE: method, auxiliary dataset or "", file."""
    target, equals, file = text.partition("=")
    method, _, auxiliary = target.partition(".")
    if not (equals and method and file):
        raise UsageError(f"--checkpoint takes METHOD.AUXILIARY=FILE or METHOD=FILE, not '{text}'")
    return registry_name(method), auxiliary.strip(), file


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"'{text}' is not a whole number") from error


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UsageError(f"--shard takes i/n with 0 <= i < n, not '{text}'")
    return int(index), int(count)


def _summary(plan: Plan, as_json: bool = False) -> None:
    """Print both tables, or JSON, and what failed; exit with 1 if a cell failed."""
    from ..records.record import read_records

    records = [r for r in read_records(plan.out) if r.cell in plan.cells()]
    failed = [r for r in records if r.error is not None]
    if not records:
        echo("no records yet: this shard has no unit, or others work on it", err=True)
    warnings = [*_gaps(records), *_oddities(records), *_unmeasured(records, plan.measured)]
    if as_json:
        echo(run_json(plan.out, records, warnings))
    else:
        _show(plan, records)
    for warning in warnings:
        echo(f"warning: {warning}", err=True)
    for message in _failures(failed):
        echo(f"failed: {message}", err=True)
    if failed:
        raise typer.Exit(1)


def _show(plan: Plan, records: Sequence[Record]) -> None:
    """Print the tables of a run, and where its records lie."""
    from ..analysis.formats import render
    from ..analysis.tables import make_table
    from ..records.run_folder import CELLS

    screen = console()
    for level in LEVELS if any(record.error is None for record in records) else ():
        metrics = _shown(plan, level)
        if not metrics:
            continue
        table = make_table(records, level, metrics=metrics)
        if screen is None:
            echo(f"\n{render(table, 'md')}")
        else:
            from .screen import show_table

            show_table(table, screen)
    if plan.profile and (stages := profile(records)):
        echo(f"\nseconds of each stage\n\n{stages}")
    echo(f"\nrecords: {Path(plan.out) / CELLS}")


def _failures(failed: Iterable[Record]) -> list[str]:
    """The failed cells and why, a line for each reason."""
    cells_of: dict[str, list[str]] = {}
    for record in failed:
        message = record.error.message if record.error is not None else ""
        cells_of.setdefault(message, []).append(record.cell.key)
    return [
        f"{', '.join(keys[:3])}{f' and {len(keys) - 3} more' * (len(keys) > 3)}: {message}"
        for message, keys in cells_of.items()
    ]


def _gaps(records: Iterable[Record]) -> list[str]:
    """Incomplete datasets among those that were scored or trained on, a line each."""
    held: list[tuple[str, Completeness | None]] = []
    for record in records:
        held.append((record.cell.target, record.completeness))
        if record.auxiliary is not None:
            held.append((record.auxiliary.name, record.auxiliary.completeness))
    lines = [
        f"{display_name(name)} is {found.gap}; numbers measured on it or learned from it stay "
        "out of means and differences unless --allow-incomplete is given"
        for name, found in held
        if found is not None and found.gap
    ]
    return list(dict.fromkeys(lines))


def _shown(plan: Plan, level: Level) -> tuple[str, ...]:
    """The metrics of a level that are printed: the paper's pair, and what was named beside it.

    Where the pair is not measured, all that is.
    """
    measured, pair = of_level(level, plan.measured), of_level(level, HEADLINES)
    if not {*pair} <= {*measured}:
        return measured
    return (*pair, *(name for name in measured if METRICS[name].scores_further_images))


def _unmeasured(records: Sequence[Record], metrics: Sequence[str]) -> list[str]:
    """Metrics of a plan that finished cells do not have, a line for all of them."""
    missing: dict[str, set[str]] = {}
    for record, metric in itertools.product(records, metrics):
        if not all(result.measured(metric) for result in record.categories):
            missing.setdefault(metric, set()).add(record.cell.key)
    if not missing:
        return []
    count, names = len(set().union(*missing.values())), ", ".join(map(display_name, missing))
    return [
        f"{count} finished cells were not measured by {names}: zsad rescore adds what follows from "
        "kept scores and maps, --retry always does the cells again"
    ]


def _oddities(records: Iterable[Record], shown: int = 10) -> list[str]:
    """Warnings about the copies of the datasets, a line each; only the first ones of a dataset."""
    from ..records.cell import labelled

    told: dict[tuple[str, str], list[str]] = {}
    for record in records:
        name = display_name(record.cell.dataset)
        lines = told.setdefault((name, labelled(name, record.cell.dataset_label)), [])
        lines += [text for text in record.warnings if text not in lines]
    for (name, _), lines in told.items():
        if len(lines) > shown:
            lines[shown:] = [f"{len(lines) - shown} more: see zsad data check {name} --open-files"]
    return [f"{target}: {text}" for (_, target), lines in told.items() for text in lines]
