"""Records as runs of Weights & Biases: config, summary, and a table of the categories."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..metric_table import METRICS
from ..records.record import Record
from .results import category_values, digest, logged_values, required, settings_of


def log_runs(records: Sequence[Record], out: Path, project: str) -> int:
    """Log every finished record as a run of its own, named by the record's content.

    A run is offline unless the environment variable WANDB_MODE says otherwise: nothing is sent,
    and `wandb sync OUT/wandb/offline-run-*` sends it later. A record that is logged twice is one
    run on the server.

    Args:
        records: of any status; those of failed cells are left out.
        out: a folder.
        project: of the runs.

    Returns:
        How many were logged.

    Raises:
        MissingPackage: wandb is not installed.
    """
    wandb = required("wandb", "wandb")
    out.mkdir(parents=True, exist_ok=True)
    finished = [record for record in records if record.error is None]
    for record in finished:
        _log(wandb, record, out, project)
    wandb.teardown()  # else the last file may still be empty when the caller reads it
    return len(finished)


def _log(wandb: Any, record: Record, out: Path, project: str) -> None:
    run = wandb.init(
        project=project,
        name=record.cell.key,
        id=digest(record)[:16],
        group=record.cell.dataset,
        tags=[record.cell.method, record.cell.dataset, str(record.track)],
        config={**settings_of(record), "provenance": dict(record.provenance)},
        dir=str(out),
        mode=os.environ.get("WANDB_MODE") or "offline",
        settings=wandb.Settings(silent=True, console="off", disable_git=True),
    )
    with run:
        run.summary.update(logged_values(record))
        rows: dict[str, dict[str, float]] = {}
        for category, metric, value in category_values(record):
            rows.setdefault(category, {})[metric] = value
        if rows:
            cells = [[name, *(own.get(m) for m in METRICS)] for name, own in rows.items()]
            run.log({"categories": wandb.Table(["category", *METRICS], cells)})
