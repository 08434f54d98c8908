"""Single cells in the report: their metrics, and what their numbers depend on."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..analysis.matrix import EvaluatedMethod, Matrix, TargetDataset
from ..files import read_json
from ..records.record import CategoryResult, Record
from ..records.run_folder import plan_path


def cell_rows(
    matrix: Matrix,
) -> list[tuple[TargetDataset, EvaluatedMethod, int, CategoryResult]]:
    """Dataset, method, seed and result of each category of the finished cells."""
    return [
        (dataset, method, record.cell.seed, result)
        for dataset in matrix.datasets
        for category in matrix.categories(dataset)
        for method in matrix.methods
        for record in matrix.finished(method, dataset)
        if (result := record.by_category.get(category)) is not None
    ]


def facts(matrix: Matrix) -> dict[str, list[tuple[str, int]]]:
    """What the numbers of the finished cells depend on: entries of protocol and provenance.

    Each has its values with how many cells have them, the most frequent one first. Nested names are
    joined by dots; "–" is the value of cells without the entry.
    """
    described = [dict(_flat({**r.protocol, **r.provenance})) for r in matrix.finished_records]
    return {
        name: Counter(entries.get(name, "–") for entries in described).most_common()
        for name in sorted({name for entries in described for name in entries})
    }


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item if isinstance(item, str) else json.dumps(item)


def dump(record: Record) -> str:
    """A record without its long lists, as indented JSON."""
    value = dataclasses.asdict(record)
    value.pop("categories")
    value.pop("error")
    return _indented(value)


def plan_text(run: Path) -> str:
    """The run's plan as indented JSON, "" where it has none."""
    try:
        return _indented(read_json(plan_path(run)))
    except (OSError, ValueError, RecursionError):
        return ""


def _indented(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
