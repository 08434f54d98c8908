"""What `zsad run` answers: its tables and warnings, or the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..metric_table import METRICS

if TYPE_CHECKING:
    from ..records.record import Record


def run_json(out: str, records: Sequence[Record], warnings: Iterable[str]) -> str:
    """The cells of a run with their numbers, for a program.

    Metrics are means over categories in [0, 1]; those that are undefined are left out. All else
    is in the record of the cell.
    """
    from ..records.run_folder import record_path

    content = {
        "run": out,
        "failed": sum(record.error is not None for record in records),
        "warnings": list(warnings),
        "cells": [
            {**_cell(record), "record": str(record_path(Path(out), record.cell))}
            for record in records
        ],
    }
    return json.dumps(content, indent=1)


def _cell(record: Record) -> dict[str, Any]:
    from ..analysis.values import measure

    values = {name: measure([record], name).value for name in METRICS}
    return {
        **asdict(record.cell),
        "track": str(record.track),
        "status": record.status,
        "error": None if record.error is None else record.error.message,
        "images": sum(result.n_normal + result.n_anomalous for result in record.categories),
        "metrics": {name: value for name, value in values.items() if value is not None},
    }
