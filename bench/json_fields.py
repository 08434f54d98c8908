"""JSON as dataclasses, by the types of their fields: read and checked, and as JSON Schema.

The type of a field says what it may hold: str, int, float, Any, X | None, list[X],
tuple[X, ...], Mapping[str, X], Literal[...], a StrEnum or another dataclass; Annotated adds the
constraints of this module. What a class checks in `__post_init__` is checked too, and not part of
the schema.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from enum import StrEnum
from functools import cache, partial
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as types_of

from .errors import shortened

LOG = logging.getLogger(__name__)
LARGEST_INTEGER = 10**20 - 1  # `read_json` takes 20 characters
ROUNDING = 1e-9

T = TypeVar("T")
Reader = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Constraint:
    """What Annotated adds to a type.

    Attributes:
        check: raises TypeError or ValueError, with a message that shows the value.
        schema: the same in JSON Schema.
    """

    check: Callable[[Any], None]
    schema: Mapping[str, Any]


def _rule(holds: Callable[[Any], object], fault: Callable[[Any], str], **schema: Any) -> Constraint:
    def check(value: Any) -> None:
        if not holds(value):
            raise ValueError(fault(value))

    return Constraint(check, schema)


def between(low: float, high: float) -> Constraint:
    """The bounds of a number, both of them allowed."""
    return _rule(
        lambda value: low <= value <= high,
        lambda value: f"{shown(value)} is outside [{low:g}, {high:g}]",
        minimum=low,
        maximum=high,
    )


def longest(most: int) -> Constraint:
    """The number of characters of a text."""
    return _rule(
        lambda text: len(text) <= most,
        lambda text: f"{len(text)} characters, at most {most} are allowed",
        maxLength=most,
    )


def matching(pattern: str) -> Constraint:
    """The whole of a text, as a regular expression."""
    return _rule(
        lambda text: re.fullmatch(pattern, text),
        lambda text: f"{shown(text)} does not match {pattern}",
        pattern=f"^{pattern}$",
    )


def entries(types: Mapping[str, Any], required: bool = False) -> Constraint:
    """Entries of a mapping that have types of their own; all of them are required, or none."""

    def check(value: Mapping[str, Any]) -> None:
        for name, kind in types.items():
            if name in value:
                _named(name, form_of(kind).read, value[name])
            elif required:
                raise ValueError(f"lacks the entry '{name}'")

    schema: dict[str, Any] = {"properties": {k: form_of(kind).schema for k, kind in types.items()}}
    if required:
        schema["required"] = [*types]
    return Constraint(check, schema)


@dataclass(frozen=True)
class Form:
    """What JSON has for a type.

    Attributes:
        read: checks a value and gives what a dataclass holds; raises TypeError or ValueError with a
            message that shows the value.
        schema: the JSON Schema of what it takes; refers to dataclasses by name.
    """

    read: Reader
    schema: Mapping[str, Any]


@cache
def form_of(kind: Any) -> Form:
    """The form of a type."""
    if kind is Any:
        return Form(lambda value: value, {})
    if dataclasses.is_dataclass(kind):
        name = getattr(kind, "__name__", "")
        return Form(partial(_read_object, kind), {"$ref": f"#/$defs/{name}"})
    arguments = get_args(kind)
    match get_origin(kind):
        case None if issubclass(kind, StrEnum):
            values = [str(value) for value in kind]
            return Form(lambda value: kind(_one_of(values, value)), {"enum": values})
        case None:
            return _PLAIN[kind]
        case origin if origin is Annotated:
            return _constrained(form_of(arguments[0]), arguments[1:])
        case origin if origin is Literal:
            return Form(partial(_one_of, arguments), {"enum": [*arguments]})
        case origin if origin in (Union, UnionType):
            (inner,) = (form_of(part) for part in arguments if part is not NoneType)
            return Form(
                lambda value: None if value is None else inner.read(value),
                {"anyOf": [inner.schema, {"type": "null"}]},
            )
        case origin if origin is Mapping:
            inner = form_of(arguments[1])
            return Form(
                lambda value: {name: inner.read(v) for name, v in as_mapping(value).items()},
                {"type": "object", "additionalProperties": inner.schema},
            )
        case origin:
            inner = form_of(arguments[0])
            kept = tuple if origin is tuple else list
            return Form(
                lambda value: kept(map(inner.read, as_list(value))),
                {"type": "array", "items": inner.schema},
            )


def _constrained(form: Form, constraints: Sequence[Constraint]) -> Form:
    def checked(value: Any) -> Any:
        found = form.read(value)
        for constraint in constraints:
            constraint.check(found)
        return found

    schema = dict(form.schema)
    for constraint in constraints:
        schema |= constraint.schema
    return Form(checked, schema)


def _one_of(allowed: Sequence[Any], value: Any) -> Any:
    if value not in allowed:
        raise ValueError(f"not one of {', '.join(map(repr, allowed))} but {shown(value)}")
    return value


def _instance_of(kinds: type | UnionType, what: str) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise TypeError(f"not {what} but {shown(value)}")
        return value

    return read


as_mapping = _instance_of(dict, "a JSON object")
as_list = _instance_of(list | tuple, "a list")  # or what is about to be written as one
as_whole = _instance_of(int, "a whole number")
as_number = _instance_of(int | float, "a number")
_PLAIN: Mapping[Any, Form] = {
    str: Form(_instance_of(str, "a text"), {"type": "string"}),
    int: Form(as_whole, {"type": "integer"}),
    float: Form(lambda value: float(as_number(value)), {"type": "number"}),
}

Label = Annotated[str, longest(1000)]  # what tables and pages repeat in every row
Integer = Annotated[int, between(1 - 10**19, LARGEST_INTEGER)]
Count = Annotated[int, between(0, LARGEST_INTEGER)]
Binary = Annotated[int, between(0, 1)]  # 0 normal, 1 anomalous
Amount = Annotated[float, between(0, 1e15)]  # a time or size that can be added and printed
Fraction = Annotated[float, between(-ROUNDING, 1 + ROUNDING)]


def from_json(cls: type[T], raw: Any) -> T:
    """An object of a dataclass from a JSON object.

    Fields that the class does not have are ignored and logged; those that are missing take their
    defaults.

    Raises:
        TypeError, ValueError: a field is missing or wrong; the message names it.
    """
    found: T = _read_object(cls, raw)
    return found


def _read_object(cls: Any, raw: Any) -> Any:
    kinds = _fields(cls)
    values = {}
    for name, value in as_mapping(raw).items():
        if name in kinds:
            values[name] = _named(name, form_of(kinds[name]).read, value)
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


def shown(value: Any) -> str:
    """A value as a message may show it: short."""
    return shortened(repr(value))


# -- JSON Schema --------------------------------------------------------------------------------


def definitions(kind: Any) -> dict[str, Any]:
    """The JSON Schemas, by name, of the dataclasses that a type is made of."""
    found: dict[str, Any] = {}
    is_class = isinstance(kind, type) and dataclasses.is_dataclass(kind)
    for part in _fields(kind).values() if is_class else get_args(kind):
        found |= definitions(part)
    return found | {kind.__name__: object_schema(kind)} if is_class else found


def object_schema(cls: Any) -> dict[str, Any]:
    """The JSON Schema of a dataclass; its docstring describes it and its fields."""
    summary, described = _descriptions(cls)
    properties = {name: dict(form_of(kind).schema) for name, kind in _fields(cls).items()}
    for name in properties.keys() & described.keys():
        properties[name]["description"] = described[name]
    return {
        "type": "object",
        "description": summary,
        "required": list(required_fields(cls)),
        "properties": properties,
    }


def _descriptions(cls: Any) -> tuple[str, dict[str, str]]:
    """The first paragraph of a class's docstring, and its description of each attribute."""
    text = inspect.getdoc(cls) or ""
    _, _, section = text.partition("Attributes:\n")
    found = re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    described = {
        name: " ".join(words.split()) for names, words in found for name in names.split(", ")
    }
    return " ".join(text.split("\n\n")[0].split()), described
