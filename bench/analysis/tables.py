"""From records to the tables of the FAPrompt paper, in its order of rows and columns.

A dataset's value is the unweighted mean over its categories, a domain's value the unweighted mean
over datasets (industrial without MVTec AD), as in the paper. Whatever would make two numbers of a
column or a row incomparable is a footnote: nothing is dropped and nothing is filled in. Methods of
each track have a table of their own, so that best numbers and means are those of one track.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import UsageError
from ..metric_table import checked_metrics
from ..names import known_name
from ..records.record import Record
from .ablation_tables import ABLATION, AVERAGING, TCP, full_shot_table, study_table
from .fact_tables import complexity_table, datasets_table
from .hyperparameter_table import hyperparameter_table
from .layout import PRO_METRICS, Request, in_track
from .matrix import Matrix, arrange
from .number_tables import breakdown_table, level_table
from .table_data import Table

MAKERS: Mapping[str, Callable[[Matrix, Request], Table]] = {
    "image": lambda matrix, request: level_table(matrix, request, "image"),
    "pixel": lambda matrix, request: level_table(matrix, request, "pixel"),
    "breakdown": breakdown_table,
    "complexity": complexity_table,
    "ablation": lambda matrix, request: study_table(matrix, request, ABLATION),
    "datasets": datasets_table,
    "tcp": lambda matrix, request: study_table(matrix, request, TCP),
    "averaging": lambda matrix, request: study_table(matrix, request, AVERAGING),
    "hyperparameters": hyperparameter_table,
    "full_shot": full_shot_table,
}
LAYOUTS = tuple(MAKERS)
WITHOUT_METHODS = ("datasets",)  # layouts that show nothing of a method


def make_table(
    source: Path | str | Iterable[Record],
    layout: str,
    *,
    published: bool = False,
    delta: bool = False,
    pro: str = "exact",
    datasets: Sequence[str] = (),
    metrics: Sequence[str] = (),
    allow_incomplete: bool = False,
) -> Table:
    """A table in one of the paper's layouts, with those of further tracks in `other_tracks`.

    Args:
        source: a run directory or records.
        layout: image (Table 1), pixel (Table 2), breakdown (12-19), complexity (6), ablation (20,
            21, 3 and 10), datasets (4 and 5), tcp (8), averaging (9), hyperparameters (11) or
            full-shot (7).
        published: show the paper's numbers in brackets.
        delta: show the difference to them in braces, in percentage points.
        pro: the exact PRO, or the released codes' PRO of 200 thresholds.
        datasets: only these; all if empty.
        metrics: the numbers of all layouts but two, the paper's if empty; means beside what layout
            complexity shows. Layout datasets has none.
        allow_incomplete: let incomplete datasets into domain means, and beside printed numbers.

    Raises:
        RecordError: the directory is not a run, or a record is broken.
        UsageError: an unknown layout, PRO, dataset or metric, or nothing to show.
    """
    layout = known_name("layout", layout, LAYOUTS)
    pro = known_name("PRO", pro, PRO_METRICS)
    chosen = checked_metrics(metrics)
    if chosen and layout in WITHOUT_METHODS:
        raise UsageError(
            f"layout '{layout}' shows no metrics: they are chosen in layouts "
            f"{', '.join(name for name in LAYOUTS if name not in WITHOUT_METHODS)}"
        )
    matrix = arrange(source, datasets, allow_incomplete)
    request = Request(published, delta, pro, tuple(datasets), chosen)
    if layout in WITHOUT_METHODS:
        return _made(MAKERS[layout](matrix, request), request)
    first, *others = _of_each_track(matrix, layout, request)
    return dataclasses.replace(first, other_tracks=tuple(others))


def _of_each_track(matrix: Matrix, layout: str, request: Request) -> list[Table]:
    """The tables of the tracks that have something to show, at least one."""
    found: list[Table] = []
    problems: list[UsageError] = []
    for track in matrix.tracks:
        try:
            table = MAKERS[layout](matrix.of_track(track), request)
        except UsageError as error:
            problems.append(error)
        else:
            found.append(in_track(_made(table, request), track))
    if not found:
        raise problems[0]
    return found


def _made(table: Table, request: Request) -> Table:
    return dataclasses.replace(table, published=request.published, delta=request.delta)
