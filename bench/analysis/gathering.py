"""Records of many runs as those of one: of each cell and backbone a single record.

A run holds each cell once, and averages what differs in seeds alone. Several runs may hold one cell
made with two backbones, which are two evaluated methods, or made twice, of which one counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..records.cell import Cell
from ..records.record import Record
from .matrix import EvaluatedMethod
from .values import is_incomplete


@dataclass(frozen=True)
class Gathered:
    """What counts of some records.

    Attributes:
        records: one of each cell and backbone. Where a method was run with several backbones, its
            label names them.
        originals: the records that counted, as they were read, in the order of `records`.
        left_out: the others, of whose cells another record counts.
    """

    records: tuple[Record, ...]
    originals: tuple[Record, ...]
    left_out: tuple[Record, ...]


def gather(records: Iterable[Record]) -> Gathered:
    """Choose one record of each cell and backbone.

    One that finished comes before one that failed, one of the whole dataset before one of a part
    of it, then the newer before the older.
    """
    chosen: dict[tuple[Cell, str], Record] = {}
    left_out: list[Record] = []
    for record in records:
        key = record.cell, backbone_of(record)
        other = chosen.get(key)
        if other is None or _worth(record) > _worth(other):
            chosen[key] = record
        if other is not None:
            left_out.append(other if chosen[key] is record else record)
    originals = tuple(chosen.values())
    return Gathered(tuple(_labelled(originals)), originals, tuple(left_out))


def backbone_of(record: Record) -> str:
    """The name of the backbone that a record was made with; "" where it is not recorded."""
    return str(record.protocol.get("backbone") or "")


def _worth(record: Record) -> tuple[bool, bool, str]:
    """What makes a record count before another one of its cell."""
    held = record.completeness
    whole = record.protocol.get("limit") is None and not is_incomplete([record])
    started = str(record.provenance.get("started") or "")
    return record.error is None, whole and not (held is not None and held.chosen), started


def _labelled(records: Sequence[Record]) -> Iterable[Record]:
    """The records, with the backbone in the label where their method has several."""
    backbones: dict[EvaluatedMethod, set[str]] = {}
    for record in records:
        backbones.setdefault(EvaluatedMethod.of(record), set()).add(backbone_of(record))
    for record in records:
        if len(backbones[EvaluatedMethod.of(record)] - {""}) < 2:
            yield record
            continue
        label = ", ".join(filter(None, (record.cell.label, backbone_of(record))))
        yield dataclasses.replace(record, cell=dataclasses.replace(record.cell, label=label))
