"""What a run lacks: each dataset, checkpoint and file of weights once, with who needs it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..errors import AbsentData, ZsadError
from ..names import display_name

WIDTH = 100  # characters of a line
SOURCES = "'zsad data sources NAME' says where to get one and which folders are expected"


@dataclass(frozen=True)
class Missing:
    """One thing that has to be fetched or corrected before a run can finish.

    Attributes:
        what: its kind: data, auxiliary data, weights, checkpoint, package or device.
        name: on screen; "" where the reason says it.
        why: one sentence or more, with the fix.
        absent: it is a dataset that is not there at all.
        needed_by: methods that wait for it, or targets of a checkpoint.
    """

    what: str
    name: str
    why: str
    absent: bool = False
    needed_by: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """All of it in one text."""
        link = " of " if self.what in ("data", "weights", "checkpoint") else " "
        waiting = f" for {', '.join(self.needed_by)}" if self.needed_by else ""
        head = f"{self.what}{link}{self.name}{waiting}: " if self.name else ""
        return head + self.why


@dataclass
class MissingThings:
    """What was found missing so far; equal things are kept once."""

    _needed: dict[Missing, dict[str, None]] = field(default_factory=dict)

    def add(self, thing: Missing, needed_by: str = "") -> None:
        """Note a thing, and who needs it."""
        names = self._needed.setdefault(thing, {})
        if needed_by:
            names[needed_by] = None

    @contextmanager
    def noted(self, what: str, name: str = "", needed_by: str = "") -> Iterator[None]:
        """Note what goes wrong in the block instead of raising it."""
        try:
            yield
        except ZsadError as error:
            absent = any(isinstance(e, AbsentData) for e in (error, error.__cause__))
            self.add(Missing(what, display_name(name), str(error), absent), needed_by)

    def all(self) -> list[Missing]:
        """The things in the order in which they were noted."""
        return [
            Missing(thing.what, thing.name, thing.why, thing.absent, tuple(names))
            for thing, names in self._needed.items()
        ]


def missing_text(things: Sequence[Missing], data_root: str | None) -> list[str]:
    """Lines for a terminal: several absent datasets are one paragraph, all else stands alone.

    Args:
        things: what is missing.
        data_root: where the datasets were looked for.
    """
    absent = {t.name: None for t in things if t.absent}
    if len(absent) < 2:
        return [f"missing: {thing.line}" for thing in things]
    learned = {t.name: t.needed_by for t in things if t.absent and t.what == "auxiliary data"}
    where = "not found without --data-root" if data_root is None else f"not below {data_root}"
    names = [
        f"{name} (to learn from: {', '.join(learned[name])})" if name in learned else name
        for name in absent
    ]
    lines = [f"missing: data of {len(absent)} datasets, {where}"]
    lines += textwrap.wrap(
        ", ".join(names),
        WIDTH,
        initial_indent="  ",
        subsequent_indent="  ",
        break_on_hyphens=False,
    )
    lines.append(f"  {SOURCES}")
    if learned:
        lines.append("  --auxiliary NAME learns from another dataset")
    return lines + [f"missing: {thing.line}" for thing in things if not thing.absent]
