"""JSON values as checked fields of dataclasses: a wrong one is refused by its name.

A converter checks one value and gives what the dataclass holds; it raises TypeError or ValueError
with a message that shows the value.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from ..errors import shortened

LOG = logging.getLogger(__name__)
LONGEST_LABEL = 1000  # characters of a text that tables and pages repeat in every row
LARGEST_AMOUNT = 1e15

Converter = Callable[[Any], Any]


def build(cls: Callable[..., Any], raw: Any, **converters: Converter) -> Any:
    """An object from a JSON object: known fields are checked, unknown ones ignored and logged.

    Raises:
        TypeError, ValueError: a field is missing or of a wrong kind; the message names it.
    """
    values = {}
    for name, value in as_mapping(raw).items():
        if name not in converters:
            LOG.info("field '%s' is unknown and ignored: written by a later version?", name)
            continue
        try:
            values[name] = converters[name](value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
    try:
        return cls(**values)
    except TypeError as error:  # lacks an argument without a default
        needed = [
            f.name
            for f in dataclasses.fields(cls)  # type: ignore[arg-type]
            if f.name not in values
            and f.default is dataclasses.MISSING
            and f.default_factory is dataclasses.MISSING
        ]
        raise ValueError(f"lacks the field '{needed[0]}'") from error


def as_anything(value: Any) -> Any:
    """Any value."""
    return value


def as_mapping(value: Any) -> dict[str, Any]:
    """A JSON object, whatever its values."""
    if not isinstance(value, dict):
        raise TypeError(f"not a JSON object but {shown(value)}")
    return value


def as_text(value: Any) -> str:
    """A text of any length."""
    if not isinstance(value, str):
        raise TypeError(f"not a text but {shown(value)}")
    return value


def as_label(value: Any) -> str:
    """A text of at most `LONGEST_LABEL` characters."""
    if len(as_text(value)) > LONGEST_LABEL:
        raise ValueError(f"{len(value)} characters, at most {LONGEST_LABEL} are allowed")
    return str(value)


def as_whole(value: Any) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"not a whole number but {shown(value)}")
    return value


def as_count(value: Any) -> int:
    """A whole number that is not negative."""
    if as_whole(value) < 0:
        raise ValueError(f"negative: {value}")
    return int(value)


def as_class(value: Any) -> int:
    """0 normal, 1 anomalous."""
    if as_whole(value) not in (0, 1):
        raise ValueError(f"neither 0 nor 1: {shown(value)}")
    return int(value)


def as_number(value: Any) -> float:
    """A number; JSON's are finite."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"not a number but {shown(value)}")
    return float(value)


def as_amount(value: Any) -> float:
    """A time, a size or a number of images, small enough to be added and printed."""
    number = as_number(value)
    if not 0 <= number <= LARGEST_AMOUNT:
        raise ValueError(f"{number} is outside [0, {LARGEST_AMOUNT:g}]")
    return number


def as_fraction(value: Any) -> float:
    """A number in [0, 1], up to rounding."""
    number = as_number(value)
    if not -1e-9 <= number <= 1 + 1e-9:
        raise ValueError(f"{number} is outside [0, 1]")
    return number


def optional(convert: Converter) -> Converter:
    """A converter that takes null too."""
    return lambda value: None if value is None else convert(value)


def list_of(convert: Converter) -> Converter:
    """A converter of a list, item by item."""

    def converted(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise TypeError(f"not a list but {shown(value)}")
        return [convert(item) for item in value]

    return converted


def mapping_of(convert: Converter) -> Converter:
    """A converter of a JSON object, value by value."""
    return lambda value: {name: convert(item) for name, item in as_mapping(value).items()}


def shown(value: Any) -> str:
    """A value as a message may show it: short."""
    return shortened(repr(value))
