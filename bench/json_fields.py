"""JSON as dataclasses, by the types of their fields: read and checked, and as JSON Schema.

The type of a field says what may stand there: str, int, float, Any, X | None, list[X],
tuple[X, ...], Mapping[str, X], Literal[...] or another dataclass; Annotated adds the constraints of
this module. What a class checks in `__post_init__` is checked too, and not part of the schema.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Protocol, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as types_of

from .errors import shortened

LOG = logging.getLogger(__name__)
LARGEST_INTEGER = 10**20 - 1  # `read_json` takes 20 characters
ROUNDING = 1e-9

T = TypeVar("T")
Reader = Callable[[Any], Any]


class Constraint(Protocol):
    """What Annotated adds to a type."""

    def check(self, value: Any) -> None:
        """Raise TypeError or ValueError, with a message that shows the value."""

    def schema(self) -> dict[str, Any]:
        """The same in JSON Schema."""


@dataclass(frozen=True)
class Between:
    """The bounds of a number, both of them allowed."""

    low: float
    high: float

    def check(self, value: float) -> None:
        """Raise ValueError beyond the bounds."""
        if not self.low <= value <= self.high:
            raise ValueError(f"{shown(value)} is outside [{self.low:g}, {self.high:g}]")

    def schema(self) -> dict[str, Any]:
        """As JSON Schema has it."""
        return {"minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Longest:
    """The length of a text."""

    characters: int

    def check(self, value: str) -> None:
        """Raise ValueError for a longer one."""
        if len(value) > self.characters:
            raise ValueError(f"{len(value)} characters, at most {self.characters} are allowed")

    def schema(self) -> dict[str, Any]:
        """As JSON Schema has it."""
        return {"maxLength": self.characters}


@dataclass(frozen=True)
class Matching:
    """The whole of a text, as a regular expression."""

    pattern: str

    def check(self, value: str) -> None:
        """Raise ValueError for another text."""
        if not re.fullmatch(self.pattern, value):
            raise ValueError(f"{shown(value)} does not match {self.pattern}")

    def schema(self) -> dict[str, Any]:
        """As JSON Schema has it."""
        return {"pattern": f"^{self.pattern}$"}


@dataclass(frozen=True)
class Known:
    """Entries of a mapping that have types of their own, as pairs of name and type."""

    types: tuple[tuple[str, Any], ...]
    required: bool = False

    def check(self, value: Mapping[str, Any]) -> None:
        """Raise TypeError or ValueError for an entry that is wrong, or required and missing."""
        for name, kind in self.types:
            if name in value:
                _named(name, reader(kind), value[name])
            elif self.required:
                raise ValueError(f"lacks the entry '{name}'")

    def schema(self) -> dict[str, Any]:
        """As JSON Schema has it."""
        properties = {name: schema_of(kind, {}) for name, kind in self.types}
        return {"properties": properties, **({"required": [*properties]} if self.required else {})}


Label = Annotated[str, Longest(1000)]  # what tables and pages repeat in every row
Integer = Annotated[int, Between(1 - 10**19, LARGEST_INTEGER)]
Count = Annotated[int, Between(0, LARGEST_INTEGER)]
Binary = Annotated[int, Between(0, 1)]  # 0 normal, 1 anomalous
Amount = Annotated[float, Between(0, 1e15)]  # a time or size that can be added and printed
Fraction = Annotated[float, Between(-ROUNDING, 1 + ROUNDING)]


def from_json(cls: type[T], raw: Any) -> T:
    """An object of a dataclass from a JSON object.

    Fields that the class does not have are ignored and logged; those that are missing take their
    defaults.

    Raises:
        TypeError, ValueError: a field is missing or wrong; the message names it.
    """
    kind: Any = cls
    found: T = reader(kind)(raw)
    return found


@cache
def reader(kind: Any) -> Reader:
    """The function that checks JSON values of a type and gives what a dataclass holds.

    It raises TypeError or ValueError with a message that shows the value.
    """
    if kind is Any:
        return lambda value: value
    if dataclasses.is_dataclass(kind):
        return lambda value: _read_object(kind, value)
    arguments = get_args(kind)
    match get_origin(kind):
        case None:
            return _PLAIN[kind]
        case origin if origin is Annotated:
            return _constrained(reader(arguments[0]), arguments[1:])
        case origin if origin is Literal:
            return lambda value: _one_of(arguments, value)
        case origin if origin in (Union, UnionType):
            read = reader(_not_none(kind))
            return lambda value: None if value is None else read(value)
        case origin if origin is Mapping:
            read = reader(arguments[1])
            return lambda value: {name: read(item) for name, item in as_mapping(value).items()}
        case origin:
            read = reader(arguments[0])
            return lambda value: (tuple if origin is tuple else list)(map(read, as_list(value)))


def _constrained(read: Reader, constraints: Sequence[Constraint]) -> Reader:
    def checked(value: Any) -> Any:
        found = read(value)
        for constraint in constraints:
            constraint.check(found)
        return found

    return checked


def _read_object(cls: Any, raw: Any) -> Any:
    kinds = _fields(cls)
    values = {}
    for name, value in as_mapping(raw).items():
        if name in kinds:
            values[name] = _named(name, reader(kinds[name]), value)
        else:
            LOG.info("field '%s' is unknown and ignored: written by a later version?", name)
    for name in required_fields(cls):
        if name not in values:
            raise ValueError(f"lacks the field '{name}'")
    return cls(**values)


def _named(name: str, read: Reader, value: Any) -> Any:
    try:
        return read(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error


@cache
def _fields(cls: Any) -> Mapping[str, Any]:
    """Name -> type of a dataclass's fields."""
    types = types_of(cls, include_extras=True)
    return {field.name: types[field.name] for field in dataclasses.fields(cls)}


@cache
def required_fields(cls: Any) -> tuple[str, ...]:
    """The fields of a dataclass that have no default."""
    fields = dataclasses.fields(cls)
    return tuple(f.name for f in fields if f.default is MISSING and f.default_factory is MISSING)


def _not_none(kind: Any) -> Any:
    """X of the type X | None."""
    (found,) = (argument for argument in get_args(kind) if argument is not NoneType)
    return found


def as_mapping(value: Any) -> dict[str, Any]:
    """A JSON object, whatever its values."""
    if not isinstance(value, dict):
        raise TypeError(f"not a JSON object but {shown(value)}")
    return value


def as_list(value: Any) -> list[Any]:
    """A JSON array, whatever its items."""
    if not isinstance(value, list):
        raise TypeError(f"not a list but {shown(value)}")
    return value


def as_text(value: Any) -> str:
    """A text of any length."""
    if not isinstance(value, str):
        raise TypeError(f"not a text but {shown(value)}")
    return value


def as_whole(value: Any) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"not a whole number but {shown(value)}")
    return value


def as_number(value: Any) -> float:
    """A number; JSON's are finite."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"not a number but {shown(value)}")
    return float(value)


def _one_of(allowed: Sequence[Any], value: Any) -> Any:
    if value not in allowed:
        raise ValueError(f"not one of {', '.join(map(repr, allowed))} but {shown(value)}")
    return value


_PLAIN: Mapping[Any, Reader] = {str: as_text, int: as_whole, float: as_number}


def shown(value: Any) -> str:
    """A value as a message may show it: short."""
    return shortened(repr(value))


# -- JSON Schema --------------------------------------------------------------------------------


def schema_of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a type, as `reader` checks it.

    Args:
        kind: the type.
        definitions: takes the schemas of dataclasses, by name; others refer to them.
    """
    if kind is Any:
        return {}
    if dataclasses.is_dataclass(kind):
        name = getattr(kind, "__name__", "")
        if name not in definitions:
            definitions[name] = object_schema(kind, definitions)
        return {"$ref": f"#/$defs/{name}"}
    arguments = get_args(kind)
    match get_origin(kind):
        case None:
            return {"type": {str: "string", int: "integer", float: "number"}[kind]}
        case origin if origin is Annotated:
            found = schema_of(arguments[0], definitions)
            for constraint in arguments[1:]:
                found |= constraint.schema()
            return found
        case origin if origin is Literal:
            return {"enum": [*arguments]}
        case origin if origin in (Union, UnionType):
            return {"anyOf": [schema_of(_not_none(kind), definitions), {"type": "null"}]}
        case origin if origin is Mapping:
            return {"type": "object", "additionalProperties": schema_of(arguments[1], definitions)}
        case _:
            return {"type": "array", "items": schema_of(arguments[0], definitions)}


def object_schema(cls: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a dataclass; its docstring describes it and its fields."""
    summary, told = _descriptions(cls)
    properties = {}
    for name, kind in _fields(cls).items():
        properties[name] = schema_of(kind, definitions)
        if name in told:
            properties[name]["description"] = told[name]
    return {
        "type": "object",
        "description": summary,
        "required": list(required_fields(cls)),
        "properties": properties,
    }


def _descriptions(cls: Any) -> tuple[str, dict[str, str]]:
    """The first paragraph of a class's docstring, and what it says of each attribute."""
    text = inspect.getdoc(cls) or ""
    _, _, section = text.partition("Attributes:\n")
    found = re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    told = {name: " ".join(words.split()) for names, words in found for name in names.split(", ")}
    return " ".join(text.split("\n\n")[0].split()), told
