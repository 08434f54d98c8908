"""Several runs into one, by a stated rule.

Of two records of one cell, a record that succeeded beats one that failed; of two that failed the
newer is kept; two that succeeded with the same results under the same protocol are one; two that
succeeded with different results are refused, or with `prefer="newest"` the newer is kept.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import UsageError, ZsadError, shortened
from ..files import whole_file
from ..metric_table import METRICS
from ..names import display_name, known_name
from ..records.map_sheets import shared_pictures
from ..records.protocol import differing_entries
from ..records.record import Record, read_records, write_record
from ..records.run_folder import CELLS, GALLERY, MAPS, PROMPT_SCORES, shared_picture_path

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

    @property
    def started(self) -> str:
        """When the record's run started: ISO text in UTC, which sorts by time; "" sorts first."""
        return str(self.record.provenance.get("started") or "")


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
    if prefer is not None:
        known_name("preference", prefer, PREFERENCES)
    inside = out.resolve() in [run.resolve() for run in runs]
    if not inside and any((out / CELLS).glob("*.json")):
        raise UsageError(f"{out} holds records already: name it among the runs, or choose --out")
    kept: dict[str, Kept] = {}
    for run in runs:
        for record in read_records(run):
            key, new = record.cell.key, Kept(record, run)
            kept[key] = new if key not in kept else _settled(kept[key], new, prefer)
    for choice in kept.values():
        write_record(out, choice.record)
        _copy_besides(choice, out)
    return list(kept.values())


def _settled(old: Kept, new: Kept, prefer: str | None) -> Kept:
    newer = new if new.started > old.started else old
    statuses = old.record.status, new.record.status
    if statuses == ("error", "error"):
        return dataclasses.replace(newer, why="newest")
    if "error" in statuses:
        return dataclasses.replace(old if statuses[0] == "ok" else new, why="ok beats error")
    differing = differences(old.record, new.record)
    if not differing:
        more = _number_measured(new.record) > _number_measured(old.record)
        return dataclasses.replace(new if more else old, why="identical")
    if prefer == "newest":
        return dataclasses.replace(newer, why="newest")
    raise MergeConflict(
        f"{old.run} and {new.run} have different results of cell {old.record.cell.key}: "
        f"{'; '.join(differing[:3])}{' ...' if len(differing) > 3 else ''}. "
        "--prefer newest keeps the newer one"
    )


def differences(a: Record, b: Record) -> list[str]:
    """What differs between the results of two records, their times and machines left aside."""
    found = [] if a.track is b.track else [f"track: {a.track} and {b.track}"]
    for name in differing_entries(a.protocol, b.protocol):
        left, right = (shortened(str(record.protocol.get(name))) for record in (a, b))
        found.append(f"protocol {name}: {left} and {right}")
    for category in dict.fromkeys([*a.by_category, *b.by_category]):
        one, other = a.by_category.get(category), b.by_category.get(category)
        if one is None or other is None:
            found.append(f"category {category} is only in one of them")
            continue
        for metric in METRICS:
            if not (one.measured(metric) and other.measured(metric)):
                continue  # the record of more metrics is kept
            x, y = one.metrics.get(metric), other.metrics.get(metric)
            if x != y:
                found.append(f"{category} {display_name(metric)}: {x} and {y}")
        if one.images != other.images:
            found.append(f"{category}: images or their scores")
    return found


def _number_measured(record: Record) -> int:
    return sum(result.measured(metric) for result in record.categories for metric in METRICS)


def _copy_besides(choice: Kept, out: Path) -> None:
    """Copy the folders that have the cell's name, and the pictures that its gallery shows.

    Links are left behind.
    """
    if choice.run.resolve() == out.resolve():
        return
    for folder in BESIDES:
        source = choice.run / folder / choice.record.cell.key
        target = out / folder / source.name
        if source.is_dir() and not source.is_symlink():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, ignore=_links, copy_function=_copy)
    for picture in shared_pictures(choice.run, choice.record.cell):
        target = shared_picture_path(out, picture.name)
        if picture.is_file() and not picture.is_symlink() and not target.exists():
            _copy(str(picture), str(target))


def _copy(source: str, target: str) -> None:
    """Copy a file that is whole or absent."""
    with Path(source).open("rb") as old, whole_file(Path(target)) as new:
        shutil.copyfileobj(old, new)


def _links(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if (Path(folder) / name).is_symlink()]


def summary(kept: Sequence[Kept]) -> Mapping[str, int]:
    """How many records were kept for which reason."""
    return Counter(choice.why for choice in kept)
