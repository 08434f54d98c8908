"""Several runs into one, by a stated rule.

Two records of one cell are settled thus: a record that succeeded beats one that failed; of two that
failed the newer is kept; two that succeeded with the same results under the same protocol are one;
two that succeeded with different results are refused, or with `prefer="newest"` the newer is kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import UsageError, ZsadError, shortened, unknown_name
from ..files import whole_file
from ..metric_table import METRICS
from ..records.record import Record, read_records, write_record
from ..records.run_folder import CELLS, GALLERY, MAPS, PROMPT_SCORES
from .baseline import CHECKPOINT, learned_in_run

PREFERENCES = ("newest",)
BESIDES = (MAPS, GALLERY, PROMPT_SCORES)  # folders with a folder per cell


class MergeConflict(ZsadError):
    """Two runs have different results of one cell."""

    exit_code = 1


@dataclass(frozen=True)
class Kept:
    """The record that stays, the run it comes from, and why it was chosen."""

    record: Record
    run: Path
    why: Literal["only one", "identical", "ok beats error", "newest"] = "only one"


def merge_runs(
    runs: Sequence[Path], out: Path, prefer: Literal["newest"] | None = None
) -> list[Kept]:
    """Write a run directory with the records of all runs; returns what was kept and why.

    Maps, prompt-wise scores and gallery pictures go with the records that are kept. Nothing is
    written when there is a conflict.

    Args:
        runs: run directories.
        out: the new run directory; it must not hold records unless it is one of the runs.
        prefer: how conflicts between successful records are settled.

    Raises:
        UsageError: no runs, an unknown preference, or `out` has records of its own.
        RecordError: a run or a record is broken.
        MergeConflict: names the cell, the two runs and what differs.
    """
    if not runs:
        raise UsageError("merge needs at least one run")
    if prefer is not None and prefer not in PREFERENCES:
        raise unknown_name("preference", prefer, PREFERENCES)
    inside = out.resolve() in [run.resolve() for run in runs]
    if not inside and any((out / CELLS).glob("*.json")):
        raise UsageError(f"{out} holds records already: name it among the runs, or choose --out")
    kept: dict[str, Kept] = {}
    for run in runs:
        for record in read_records(run):
            key = record.cell.key
            new = Kept(record, run)
            kept[key] = new if key not in kept else _settled(kept[key], new, prefer)
    for choice in kept.values():
        write_record(out, choice.record)
        _copy_besides(choice, out)
    return list(kept.values())


def _settled(old: Kept, new: Kept, prefer: str | None) -> Kept:
    a, b = old.record, new.record
    if a.status != b.status:
        winner = old if a.status == "ok" else new
        return Kept(winner.record, winner.run, "ok beats error")
    newer = new if _started(b) > _started(a) else old
    if a.status == "error":
        return Kept(newer.record, newer.run, "newest")
    differing = differences(a, b)
    if not differing:
        return Kept(a, old.run, "identical")
    if prefer == "newest":
        return Kept(newer.record, newer.run, "newest")
    raise MergeConflict(
        f"{old.run} and {new.run} have different results of cell {a.cell.key}: "
        f"{'; '.join(differing[:3])}{' ...' if len(differing) > 3 else ''}. "
        "--prefer newest keeps the newer one"
    )


def differences(a: Record, b: Record) -> list[str]:
    """What differs between the results of two records, their times and machines left aside.

    So is the hash of weights that the runs themselves learned: it follows the last bits of the
    processor, and what it does to the results is compared.
    """
    learned = learned_in_run(a.protocol) and learned_in_run(b.protocol)
    found = [
        f"protocol {name}: {shortened(str(a.protocol.get(name)))} "
        f"and {shortened(str(b.protocol.get(name)))}"
        for name in dict.fromkeys([*a.protocol, *b.protocol])
        if _plain(a.protocol.get(name)) != _plain(b.protocol.get(name))
        and not (name == CHECKPOINT and learned)
    ]
    left = {result.category: result for result in a.categories}
    right = {result.category: result for result in b.categories}
    for category in dict.fromkeys([*left, *right]):
        if category not in left or category not in right:
            found.append(f"category {category} is only in one of them")
            continue
        for metric in METRICS:
            x, y = left[category].metrics.get(metric), right[category].metrics.get(metric)
            if x != y:
                found.append(f"{category} {metric}: {x} and {y}")
        if _plain(asdict(left[category])["images"]) != _plain(asdict(right[category])["images"]):
            found.append(f"{category}: images or their scores")
    return found


def _started(record: Record) -> str:
    """When a record's run started: ISO text in UTC, which sorts by time; "" sorts first."""
    return str(record.provenance.get("started") or "")


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _copy_besides(choice: Kept, out: Path) -> None:
    """Copy the folders that bear the cell's name, links left behind."""
    if choice.run.resolve() == out.resolve():
        return
    for folder in BESIDES:
        source = choice.run / folder / choice.record.cell.key
        target = out / folder / source.name
        if source.is_dir() and not source.is_symlink():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=_links, copy_function=_copy)


def _copy(source: str, target: str) -> None:
    """Copy a file that is whole or absent."""
    with Path(source).open("rb") as old, whole_file(Path(target)) as new:
        shutil.copyfileobj(old, new)


def _links(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_symlink()]


def summary(kept: Sequence[Kept]) -> Mapping[str, int]:
    """How many records were kept for which reason."""
    counts: dict[str, int] = {}
    for choice in kept:
        counts[choice.why] = counts.get(choice.why, 0) + 1
    return counts
