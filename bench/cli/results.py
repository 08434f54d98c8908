"""The verbs of the `zsad` command that read results: table, compare, check, rescore, merge.

None of them needs torch; each imports what it needs when it is called.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError, ZsadError
from ..names import display_name
from .grid import console
from .options import AllowIncomplete, Json, Metrics, Run, out_option
from .terminal import echo

if TYPE_CHECKING:
    from ..analysis.resampling import Settings
    from ..analysis.statistics import ImageMetric, Ranking
    from ..analysis.table_data import Table
    from ..records.record import Record
    from ..track import Track

Datasets = Annotated[
    list[str] | None, typer.Option("--dataset", help="Only this dataset; may be repeated.")
]
OutFile = Annotated[Path | None, out_option(help="Write to this file, not to the terminal.")]
Format = Annotated[
    str | None,
    typer.Option(
        help="md, csv, latex, html, json or parquet.  [default: by the suffix of --out, else md]",
        show_default=False,
    ),
]
ROWS = ("csv", "json", "parquet")  # formats of plain values, which tell all that was found
FORMAT_OF_SUFFIX = {
    ".md": "md",
    ".csv": "csv",
    ".tex": "latex",
    ".html": "html",
    ".json": "json",
    ".parquet": "parquet",
}


def table(
    run: Run,
    layout: str = "image",
    format: Format = None,  # noqa: A002
    published: bool = False,
    delta: bool = False,
    third_party: bool = False,
    pro: str = "exact",
    dataset: Datasets = None,
    metric: Metrics = None,
    allow_incomplete: AllowIncomplete = False,
    out: OutFile = None,
) -> None:
    """Print a run as one of the paper's tables.

    Args:
        layout: image, pixel, breakdown, complexity, ablation, datasets, tcp, averaging,
            hyperparameters or full-shot; tidy for a row per method, dataset, category, metric and
            seed.
        published: Show the paper's numbers in brackets.
        delta: Show the difference to them in braces.
        third_party: Show how far numbers of third parties lie apart instead.
        pro: exact, or official200 for the released codes' 200 thresholds.
    """
    from ..analysis.frame_formats import frame_bytes
    from ..analysis.tables import make_table
    from ..analysis.third_party import third_party_table
    from ..analysis.tidy import TIDY, tidy_frame

    chosen: Any = {
        "datasets": dataset or (),
        "metrics": metric or (),
        "allow_incomplete": allow_incomplete,
    }
    fmt = format_of(format, out)
    if layout == TIDY:
        if published or delta or third_party or pro != "exact":
            raise UsageError(
                "layout tidy has what was measured: leave out --published, --delta, "
                "--third-party and --pro"
            )
        rows = tidy_frame(run, datasets=dataset or (), metrics=metric or ())
        emit(frame_bytes(rows, fmt if format or out else "csv"), out)
        return
    if fmt == "parquet":
        raise UsageError("parquet has a row for each number: add --layout tidy")
    if third_party:
        made = third_party_table(run, layout, **chosen)
    else:
        made = make_table(run, layout, published=published, delta=delta, pro=pro, **chosen)
    emit_table(made, format, out)


def compare(
    run_a: Path,
    run_b: Annotated[Path | None, typer.Argument()] = None,
    method_a: str | None = None,
    method_b: str | None = None,
    metric: Metrics = None,
    bootstrap: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    resampling: str = "stratified",
    ranks: bool = False,
    diagram: Annotated[Path | None, out_option("--diagram")] = None,
    allow_incomplete: AllowIncomplete = False,
    format: Format = None,  # noqa: A002
    out: OutFile = None,
) -> None:
    """Compare two runs or two methods, with intervals, tests and ranks, each track by itself.

    With one run and no methods: every method's image-level metrics with intervals.

    Args:
        run_a: The first run.
        run_b: The second run; without it only the first is shown.
        method_a: NAME or NAME@VARIANT; default: every method of both runs.
        method_b: The method to compare it with.
        bootstrap: Resamples of the images.
        seed: Seed of the resampling.
        level: Confidence level of the intervals.
        resampling: stratified (as many normal images as there are) or plain.
        ranks: Average ranks of RUN_A's methods (extra: stats).
        diagram: Write the critical-difference diagram (.png, .pdf, .svg).
    """
    from ..analysis.compare import compare_runs
    from ..analysis.comparison_tables import render_findings
    from ..analysis.resampling import Settings
    from ..metric_table import HEADLINES
    from ..records.record import read_records

    metrics = tuple(metric or HEADLINES)
    way: Any = resampling  # statistics.bootstrap knows which there are
    settings = Settings(metrics, bootstrap, seed, level, way, allow_incomplete)
    first = read_records(run_a)
    second = None if run_b is None else read_records(run_b)
    paired = second is not None or method_a is not None or method_b is not None
    comparisons = compare_runs(first, second, method_a, method_b, settings) if paired else []
    ranked = ranks or diagram is not None
    rankings, problems = _rankings(first, settings, diagram) if ranked else ({}, [])
    chosen = format_of(format, out)
    shown = rankings if ranks or chosen in ROWS else {}
    resampled = [] if paired else _resampled(settings)
    emit(render_findings(comparisons, shown, first, resampled, settings, chosen, problems), out)


def format_of(name: str | None, out: Path | None) -> str:
    """The format that was asked for, else the one that the file's suffix means, else Markdown.

    >>> format_of(None, Path("t.tex")), format_of("md", Path("t.tex")), format_of(None, None)
    ('latex', 'md', 'md')
    """
    suffix = "" if out is None else out.suffix.lower()
    return name or FORMAT_OF_SUFFIX.get(suffix, "md")


def _resampled(settings: Settings) -> list[ImageMetric]:
    """The chosen metrics that have intervals.

    Raises:
        UsageError: none of them has.
    """
    from ..analysis.statistics import RESAMPLED

    chosen = [name for name in RESAMPLED if name in settings.metrics]
    if not chosen:
        raise UsageError(f"intervals exist for {' and '.join(RESAMPLED)}; name two runs or methods")
    return chosen


def _rankings(
    records: Sequence[Record], settings: Settings, diagram: Path | None
) -> tuple[dict[tuple[Track, str], Ranking], list[str]]:
    """Rankings by track and metric, and why others have none, which is told as a message too."""
    from ..analysis.layout import titled
    from ..analysis.statistics import StatsError, draw_critical_difference
    from ..analysis.uncertainty import rank, tracks_of

    found: dict[tuple[Track, str], Ranking] = {}
    problems = []
    for track, own in tracks_of(records).items():
        for name in settings.metrics:
            try:
                ranking = rank(own, name, 1 - settings.level, settings.allow_incomplete)
            except StatsError as error:
                problems.append(f"No ranks by {titled(display_name(name), track)}: {error}")
            else:
                found[track, name] = ranking
    if not found:
        raise StatsError("; ".join(dict.fromkeys(problems)))
    for problem in problems:
        echo(problem, err=True)
    if diagram is not None:
        tracks, several = {track for track, _ in found}, len(found) > 1
        for (track, name), ranking in found.items():
            stem = "-".join([diagram.stem, name, *[track] * (len(tracks) > 1)])
            path = diagram.with_stem(stem) if several else diagram
            draw_critical_difference(ranking, path, titled(display_name(name), track))
            echo(f"wrote {path}", err=True)
    return found, problems


def check(
    run: Run,
    baseline: Annotated[Path, typer.Option()],
    tolerance: list[str] | None = None,
    update: bool = False,
    reason: str = "",
    format: str = "text",  # noqa: A002
) -> None:
    """Compare a run with a baseline; exit with 1 if a metric moved or the protocol changed.

    Args:
        baseline: The baseline file (JSON).
        tolerance: METRIC=X, or X for all metrics, in [0, 1]; may be repeated.
        update: Write a new baseline from the run.
        reason: Why the numbers may change (with --update).
        format: text, json or github.
    """
    from ..analysis.baseline import (
        make_baseline,
        parse_tolerances,
        read_baseline,
        write_baseline,
    )
    from ..analysis.regression import check_run
    from ..records.record import read_records

    records = read_records(run)
    tolerances = parse_tolerances(tolerance or [])
    if update:
        before = read_baseline(baseline) if baseline.exists() else None
        made = make_baseline(records, reason, before, tolerances)
        if before is not None:
            echo(check_run(records, before).render(format))
            for key in sorted(before.cells.keys() - made.cells.keys()):
                echo(f"no longer guarded: {key}", err=True)
        write_baseline(baseline, made)
        echo(f"wrote {baseline}: {len(made.cells)} cells", err=True)
        return
    verdict = check_run(records, read_baseline(baseline), tolerances)
    echo(verdict.render(format))
    if not verdict.passed:
        raise typer.Exit(1)


def rescore(
    run: Run,
    out: Annotated[Path | None, out_option()] = None,
    in_place: bool = False,
    as_json: Json = False,
) -> None:
    """Recompute metrics from stored scores and maps, without any model; print what changed.

    Args:
        out: Write the rescored records to this run directory.
        in_place: Write the rescored records back into the run.
    """
    from ..analysis.rescore import rescore_run
    from ..records.record import write_record

    if out is not None and in_place:
        raise UsageError("give --out or --in-place, not both")
    rescored = rescore_run(run)
    if not rescored:
        raise ZsadError(f"{run} has no successful record to rescore")
    target = run if in_place else out
    pixel = sum(item.pixel_level for item in rescored)
    moves = [move for item in rescored for move in item.moves]
    added = sum(item.added for item in rescored)
    if as_json:
        counts = {"cells": len(rescored), "pixel_level": pixel, "added": added}
        written = None if target is None else str(target)
        content = {**counts, "moves": [asdict(move) for move in moves], "written": written}
        echo(json.dumps(content, indent=1))
    else:
        for move in moves:
            old, new = (
                "undefined" if value is None else f"{value:.6f}" for value in (move.old, move.new)
            )
            echo(f"{move.cell} {move.category} {display_name(move.metric)}: {old} -> {new}")
        echo(
            f"{len(rescored)} cells rescored, {pixel} of them at pixel level too, {len(moves)} "
            "metrics moved" + f", {added} added" * bool(added)
        )
    if target is not None:
        for item in rescored:
            write_record(target, item.record)
        echo(f"wrote {target}", err=True)


def merge(
    runs: list[Path],
    out: Annotated[Path, out_option()],
    prefer: str | None = None,
    as_json: Json = False,
) -> None:
    """Merge several runs: equal results are kept once, a success replaces a failure.

    Two different results of one cell are refused unless --prefer newest is given.

    Args:
        runs: Run directories.
        out: The merged run directory.
        prefer: newest: keep the newer of two different results.
    """
    from ..analysis.merge import merge_runs, summary

    if prefer not in (None, "newest"):
        raise UsageError(f"--prefer takes newest, not '{prefer}'")
    kept = merge_runs(runs, out, "newest" if prefer else None)
    if as_json:
        choices = [
            {"cell": choice.record.cell.key, "run": str(choice.run), "why": choice.why}
            for choice in kept
        ]
        echo(json.dumps({"run": str(out), "counts": summary(kept), "records": choices}, indent=1))
        return
    for choice in kept:
        if choice.why in ("ok beats error", "newest"):
            echo(f"{choice.record.cell.key}: from {choice.run} ({choice.why})")
    counts = ", ".join(f"{count} {why}" for why, count in summary(kept).items())
    echo(f"{len(kept)} records in {out}: {counts}")


def emit_table(table: Table, format: str | None, out: Path | None) -> None:  # noqa: A002
    """Print a table, as it fits a terminal where there is one, or write it to a file."""
    from ..analysis.formats import render

    screen = console() if format is None and out is None else None
    if screen is None:
        emit(render(table, format_of(format, out)).encode(), out)
        return
    from .screen import show_table

    show_table(table, screen)


def emit(content: bytes, out: Path | None) -> None:
    """Print, or write to a file."""
    from ..files import output_file

    if out is None:
        if content.startswith(b"PAR1"):
            raise UsageError("parquet is not text: give a file, --out NAME.parquet")
        echo(content.decode().rstrip("\n"))
        return
    with output_file(out) as file:
        file.write(content)
    echo(f"wrote {out}", err=True)
