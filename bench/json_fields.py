"""JSON as dataclasses, by the types of their fields: pydantic reads and checks it.

The type of a field says what it may hold; `Annotated` adds bounds. What a class checks in
`__post_init__` is checked too. pydantic is imported when something is read, so that a command line
that reads nothing starts without it.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from annotated_types import Ge, Le, MaxLen

from .errors import shortened

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationError
    from pydantic_core import CoreSchema

LOG = logging.getLogger(__name__)
LARGEST_INTEGER = 10**20 - 1  # `read_json` takes 20 characters
ROUNDING = 1e-9

T = TypeVar("T")
Label = Annotated[str, MaxLen(1000)]  # what tables and pages repeat in every row
Integer = Annotated[int, Ge(1 - 10**19), Le(LARGEST_INTEGER)]
Count = Annotated[int, Ge(0), Le(LARGEST_INTEGER)]
Binary = Annotated[int, Ge(0), Le(1)]  # 0 normal, 1 anomalous
Amount = Annotated[float, Ge(0), Le(1e15)]  # a time or size that can be added and printed
Fraction = Annotated[float, Ge(-ROUNDING), Le(1 + ROUNDING)]


@dataclass(frozen=True)
class ReadAs:
    """In `Annotated`: the type that JSON is checked by, where it says more than the field's own."""

    form: Any

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """What pydantic asks an annotation for."""
        return handler.generate_schema(self.form)


def from_json(kind: type[T], raw: Any) -> T:
    """A dataclass, or what is made of dataclasses, from JSON.

    Fields that a class does not have are ignored and logged; those that are missing take their
    defaults.

    Raises:
        ValueError: a field is missing or wrong; the message names it and shows its value.
    """
    from pydantic import ValidationError

    adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]  # a class is hashable
    text = json.dumps(raw, allow_nan=False)
    try:
        found = adapter.validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(_first_fault(error)) from error
    if LOG.isEnabledFor(logging.INFO):
        _log_unknown_fields(adapter, text)
    return found


def fault_of(value: Any, kind: Any) -> str:
    """Why a value is not what a type and its bounds say, to be read after a name; "" if it is."""
    from pydantic import ValidationError

    try:
        _adapter(kind, strict=True, allow_inf_nan=False).validate_python(value)
    except ValidationError as error:
        words = dict.fromkeys(f["msg"].removeprefix("Input ") for f in error.errors())
        return f"{' or '.join(words)}, not {shortened(repr(value))}"
    return ""


@cache
def _adapter(kind: Any, **config: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind, config=config or None)  # type: ignore[arg-type]


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    place = "".join(f"{part}: " for part in fault["loc"])
    value = "" if isinstance(fault["input"], dict) else f", not {shortened(repr(fault['input']))}"
    return f"{place}{fault['msg'].removeprefix('Input ')}{value}"


def _log_unknown_fields(adapter: TypeAdapter[Any], text: str) -> None:
    from pydantic import ValidationError

    try:
        adapter.validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        for fault in error.errors():
            if fault["type"] == "unexpected_keyword_argument":
                name = fault["loc"][-1]
                LOG.info("field '%s' is unknown and ignored: written by a later version?", name)
