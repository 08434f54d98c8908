"""Methods of a run that differ in one option, or in several together, and in nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..names import display_name
from .matrix import EvaluatedMethod, Matrix, options_words


@dataclass(frozen=True)
class Sweep:
    """One method with one option, or several together, at several values; all else is equal.

    Attributes:
        option: its name, or the names of those that change together, "n_normal, n_abnormal".
        values: as text, in order; numbers in numerical order.
        methods: one for each value.
        numeric: the values, where they are single numbers.
    """

    title: str
    option: str
    values: list[str]
    methods: list[EvaluatedMethod]
    numeric: list[float] | None


def find_sweeps(matrix: Matrix, together: Sequence[str] = ()) -> list[Sweep]:
    """All options that take at least two values while everything else stays the same.

    Options that only ever change together, as E and E' in Figure 5 of the FAPrompt paper, are one
    sweep over their pairs. A method without an option has the variant's default, as its protocol
    states it.

    Args:
        matrix: of the run.
        together: look for these options only, and as one.
    """
    if together:
        return _sweeps_of(matrix, tuple(together))
    sets = list(dict.fromkeys(tuple(sorted(m.options)) for m in matrix.methods if m.options))
    single = dict.fromkeys(name for names in sets for name in names)
    found = [s for name in single for s in _sweeps_of(matrix, (name,))]
    covered = {sweep.option for sweep in found}
    for names in sets:
        if len(names) > 1 and not covered.intersection(names):
            found += _sweeps_of(matrix, names)
    return found


def _sweeps_of(matrix: Matrix, names: tuple[str, ...]) -> list[Sweep]:
    """A sweep for each group of methods that differ in these options and in nothing else."""
    groups: dict[tuple[str, ...], dict[str, tuple[Any, EvaluatedMethod]]] = {}
    for method in matrix.methods:
        options = _effective(matrix, method)
        if all(name in options for name in names):
            rest = _json({k: v for k, v in options.items() if k not in names})
            values = [options[name] for name in names]
            who = method.method, method.title, method.variant, rest
            value = values if len(names) > 1 else values[0]
            groups.setdefault(who, {})[_json(value)] = value, method
    return [_sweep(names, list(group.values())) for group in groups.values() if len(group) > 1]


def _sweep(names: tuple[str, ...], members: Sequence[tuple[Any, EvaluatedMethod]]) -> Sweep:
    """The sweep over the values of these options, each with the method that has it."""
    first = members[0][1]
    rest = {k: v for k, v in first.options.items() if k not in names}
    words = f", {options_words(rest)}" if rest else ""
    values, methods = zip(*sorted(members, key=lambda member: _rank(member[0])), strict=True)
    return Sweep(
        f"{first.title} ({display_name(first.variant)}{words})",
        ", ".join(names),
        [_option_text(value) for value in values],
        [*methods],
        [float(v) for v in values] if all(type(v) in (int, float) for v in values) else None,
    )


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def _effective(matrix: Matrix, method: EvaluatedMethod) -> Mapping[str, Any]:
    """A method's options, those that were not set included where the protocol states them."""
    for record in matrix.of_method(method):
        stated = record.protocol.get("options")
        if isinstance(stated, Mapping):
            return {**stated, **method.options}
    return method.options


def _rank(value: Any) -> tuple[int, float, str, list[Any]]:
    """A sorting key: numbers in numerical order, then texts, then lists by their parts."""
    if isinstance(value, list | tuple):
        return 2, 0.0, "", [_rank(part) for part in value]
    if isinstance(value, int | float):
        return 0, float(value), "", []
    return 1, 0.0, str(value), []


def _option_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(_option_text, value)) + ")"
    return f"{value:g}" if isinstance(value, float) else str(value)
