"""Records into a results repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ..analysis.merge import differences
from ..files import write_json
from ..records.record import Record, read_record
from ..records.repository import repository_path


@dataclass(frozen=True)
class Placed:
    """A record's file in a repository, and whether it is new there.

    Attributes:
        state: "kept" is a file that had these results already; its times stay.
    """

    path: Path
    state: Literal["new", "replaced", "kept"]


def place_records(records: Sequence[Record], repository: Path) -> list[Placed]:
    """Write the finished records into a results repository.

    A file that has the same results stays as it is, so that what a pull request shows is new.

    Raises:
        RecordError: a file of the repository is broken.
        FileError: a file cannot be written.
    """
    placed = []
    for record in records:
        if record.error is not None:
            continue
        path = repository_path(repository, record.cell)
        there = path.is_file()
        if there and not differences(read_record(path), record):
            placed.append(Placed(path, "kept"))
            continue
        write_json(path, asdict(record))
        placed.append(Placed(path, "replaced" if there else "new"))
    return placed
