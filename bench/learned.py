"""Checkpoints that a user gives: what they were learned from, and whether they fit what is asked.

A checkpoint of `zsad train` says in its header how it came about; of a released file the user says
what it was learned from. Nothing that is known of a checkpoint is left unread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .checkpoint import file_sha256, read_provenance
from .errors import UsageError
from .registry import canonical, entries
from .sample import Dataset

UNDECLARED = "undeclared"
Source = Literal["header", "declared", "undeclared"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was given, and what is known of it.

    Attributes:
        files: hold its tensors together.
        auxiliary: the dataset that it was learned on, or "undeclared".
        source: who says so: the file's own header, the user, or nobody.
        header: the provenance that `zsad train` has written; empty in a released file.
    """

    files: tuple[Path, ...]
    auxiliary: str = UNDECLARED
    source: Source = "undeclared"
    header: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of the file's bytes; of several files the hash of their hashes."""
        hashes = [file_sha256(file) for file in self.files]
        if len(hashes) == 1:
            return hashes[0]
        return hashlib.sha256(" ".join(hashes).encode()).hexdigest()

    @property
    def trained_on(self) -> str | None:
        """The auxiliary dataset, where it is one that the registry has."""
        return self.auxiliary if self.auxiliary in entries("dataset") else None

    def protocol(self) -> dict[str, Any]:
        """What a record states of it."""
        stated: dict[str, Any] = {
            "checkpoint_sha256": self.sha256,
            "auxiliary": self.auxiliary,
            "auxiliary_source": self.source,
        }
        if self.header:
            auxiliary = self.header.get("auxiliary")
            stated |= {
                "auxiliary_split": auxiliary.get("split") if isinstance(auxiliary, dict) else None,
                "epochs": self.header.get("epochs"),
                "learned_in": self.header.get("precision"),
            }
        return stated


def open_checkpoint(files: Sequence[str | Path], declared: str = "") -> Checkpoint:
    """A checkpoint with what its headers say, beside what the user says.

    Args:
        files: of one checkpoint.
        declared: the auxiliary dataset that the user has named, or "".

    Raises:
        UsageError: a header names another auxiliary dataset than the user, or than another file.
        WeightsError: a file is missing or broken.
    """
    paths = tuple(Path(file) for file in files)
    headers = {path: read_provenance(path) for path in paths}
    known = {path: name for path, header in headers.items() if (name := _auxiliary_in(header))}
    for path, name in known.items():
        if declared and canonical(name) != canonical(declared):
            raise UsageError(
                f"checkpoint {path} was learned on '{name}', as its header says, not on "
                f"'{declared}': give it as METHOD.{name}=FILE, or leave out --learned-from"
            )
    if len(set(known.values())) > 1:
        found = ", ".join(f"{path} on '{name}'" for path, name in known.items())
        raise UsageError(
            f"the files of one checkpoint were learned on different datasets ({found}): give each "
            "dataset's as METHOD.AUXILIARY=FILE"
        )
    header = next((h for h in headers.values() if h), {})
    if known:
        return Checkpoint(paths, next(iter(known.values())), "header", header)
    if declared:
        return Checkpoint(paths, declared, "declared", header)
    return Checkpoint(paths, header=header)


def _auxiliary_in(header: Mapping[str, Any]) -> str:
    """The auxiliary dataset of a header, or ""."""
    auxiliary = header.get("auxiliary")
    name = auxiliary.get("dataset") if isinstance(auxiliary, Mapping) else None
    return name if isinstance(name, str) else ""


def choose(
    checkpoints: Mapping[str, Sequence[str]], method: str, target: type[Dataset], wanted: str
) -> str:
    """Which of a method's checkpoints a target takes: the key of `checkpoints`.

    The one learned on the dataset that the protocol asks for; else any that was not learned on the
    target; else the one of which nobody says what it was learned on.

    Args:
        checkpoints: auxiliary dataset -> files; "" is undeclared.
        method: for the message.
        target: what will be tested on.
        wanted: the auxiliary dataset of the protocol.

    Raises:
        UsageError: all of them were learned on the target.
    """
    own = canonical(target.name)
    allowed = [k for k in checkpoints if k and (canonical(k) != own or target.domain == "custom")]
    order = [*(k for k in allowed if canonical(k) == canonical(wanted)), *allowed]
    if "" in checkpoints:
        order.append("")
    if not order:
        raise UsageError(_leak(f"the checkpoint of '{method}'", method, target.name))
    return order[0]


def refuse_leak(checkpoint: Checkpoint, method: str, target: Dataset) -> None:
    """Refuse to test a checkpoint on what it was learned from.

    Args:
        checkpoint: from `open_checkpoint`.
        method: for the message.
        target: what will be tested on.

    Raises:
        UsageError: it was learned on a dataset of the target's name.
    """
    same_name = canonical(checkpoint.auxiliary) == canonical(target.name)
    if same_name and target.domain != "custom":
        what = f"checkpoint {checkpoint.files[0]} of '{method}'"
        raise UsageError(_leak(what, method, target.name))


def _leak(what: str, method: str, target: str) -> str:
    return (
        f"{what} was learned on '{target}', which cannot be tested on as well: add one of another "
        f"dataset, --checkpoint {method}.AUXILIARY=FILE"
    )
