"""Files of records held to what others rely on: whether each can be read, and is right."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..files import read_json
from ..records.cell import Cell
from ..records.record import SCHEMA_VERSION, Record, RecordError, read_record
from ..records.repository import RESULTS, record_files, repository_path
from ..records.run_folder import CELLS
from .record_checks import CHECKS, Gravity

SHOWN = 20  # findings of a file that the text tells


@dataclass(frozen=True)
class Finding:
    """What is to be said of a file.

    Attributes:
        path: of the file.
        gravity: unreadable (not JSON, or of a newer schema), wrong, or a note.
        check: which one found it.
        category: of the dataset; "" concerns the whole record.
    """

    path: str
    gravity: Literal["unreadable"] | Gravity
    check: str
    message: str
    category: str = ""

    @property
    def line(self) -> str:
        """As one line of text."""
        where = f"{self.category}: " if self.category else ""
        return f"{self.gravity}: {self.check}: {where}{self.message}"


@dataclass(frozen=True)
class Verdict:
    """What was found in some files of records."""

    files: int
    findings: tuple[Finding, ...]

    def paths(self, gravity: str) -> list[str]:
        """The files with findings of a gravity."""
        return list(dict.fromkeys(f.path for f in self.findings if f.gravity == gravity))

    @property
    def exit_code(self) -> int:
        """2 where a file cannot be read, 1 where a record is wrong, else 0."""
        return 2 if self.paths("unreadable") else 1 if self.paths("wrong") else 0

    def to_json(self) -> str:
        """As JSON text."""
        content = {
            "passed": self.exit_code == 0,
            "files": self.files,
            "unreadable": len(self.paths("unreadable")),
            "wrong": len(self.paths("wrong")),
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }
        return json.dumps(content, indent=1) + "\n"

    def render(self) -> str:
        """As text: the findings of each file, and a summary."""
        lines = []
        for path in dict.fromkeys(finding.path for finding in self.findings):
            own = [finding.line for finding in self.findings if finding.path == path]
            lines += [path, *(f"  {line}" for line in own[:SHOWN])]
            lines += [f"  and {len(own) - SHOWN} more, see --json"] * (len(own) > SHOWN)
        told = ", ".join(f"{len(self.paths(kind))} {kind}" for kind in ("unreadable", "wrong"))
        return "\n".join([*lines, f"{self.files} record{'s' * (self.files != 1)}: {told}"])


def validate(sources: Iterable[Path], allow_unknown: bool = False) -> Verdict:
    """Check the records of runs, results repositories and single files.

    Args:
        sources: see `record_files`.
        allow_unknown: take names of methods and datasets that are not installed here.

    Raises:
        RecordError: a source is not there, or is neither a run nor a repository.
    """
    paths = list(dict.fromkeys(path for source in sources for path in record_files(source)))
    findings: list[Finding] = []
    read: dict[Path, Record] = {}
    for path in paths:
        found = _read(path)
        if isinstance(found, Finding):
            findings.append(found)
            continue
        read[path] = found
        findings += _checked(path, found, allow_unknown)
    findings += _duplicates(read)
    order = {str(path): place for place, path in enumerate(paths)}
    return Verdict(len(paths), tuple(sorted(findings, key=lambda f: order[f.path])))


def _read(path: Path) -> Record | Finding:
    """The record of a file, or why there is none."""
    try:
        raw = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        return Finding(str(path), "unreadable", "file", f"not a JSON file ({error}): replace it")
    try:
        return read_record(path)
    except RecordError as error:
        schema = raw.get("schema") if isinstance(raw, dict) else None
        newer = isinstance(schema, int) and schema > SCHEMA_VERSION
        message = str(error).removeprefix(f"{path} ")
        return Finding(str(path), "unreadable" if newer else "wrong", "schema", message)


def _checked(path: Path, record: Record, allow_unknown: bool) -> Iterator[Finding]:
    misplaced = _misplaced(path, record.cell)
    if misplaced:
        yield Finding(str(path), "wrong", "place", misplaced)
    for name, check in CHECKS.items():
        for fault in check(record):
            gravity: Gravity = "note" if allow_unknown and name == "names" else fault.gravity
            yield Finding(str(path), gravity, name, fault.message, fault.category)


def _misplaced(path: Path, cell: Cell) -> str:
    """Why a file lies where its cell's record does not belong; "" where it does, or is alone."""
    place = path.resolve()
    if place.parent.name == CELLS:
        wanted = place.with_name(f"{cell.key}.json")
    elif len(place.parents) > 3 and place.parents[2].name == RESULTS:
        wanted = repository_path(place.parents[3], cell)
    else:
        return ""
    if place == wanted:
        return ""
    return f"its cell's file is {'/'.join(wanted.parts[-4:])}: move it there"


def _duplicates(read: Mapping[Path, Record]) -> Iterator[Finding]:
    """A finding for each record of a cell that an earlier file has."""
    first: dict[Cell, Path] = {}
    for path, record in read.items():
        other = first.setdefault(record.cell, path)
        if other != path:
            yield Finding(str(path), "wrong", "duplicate", f"{other} is of the same cell: keep one")
