"""The JSON Schema of records, derived from the dataclasses that read them.

python -m zsad.bench.records.schema > docs/record.schema.json
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from ..docstrings import described
from ..metric_table import METRICS
from .record import SCHEMA_VERSION, Record

NOTE = (
    "A later minor version may add fields; readers ignore those they do not know. No whole number "
    "has more than 20 characters, and every number fits a double. A change that old readers would "
    "misread raises the number in 'schema'."
)


class _Described(GenerateJsonSchema):
    """The schema of dataclasses, in the words of their docstrings."""

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        """The schema of a class; its docstring describes it and its fields."""
        made = super().dataclass_schema(schema)
        text, described_fields = described(schema["cls"].__doc__, "Attributes")
        made["description"] = " ".join(text.split("\n\n")[0].split())
        for name, words in described_fields.items():
            made["properties"][name]["description"] = words
        return made

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        """The schema of a field with a default, which a reader needs not know."""
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        """The name of a field is enough."""
        return False


def record_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a record's file."""
    schema = TypeAdapter(Record).json_schema(schema_generator=_Described)
    metrics = schema["$defs"]["CategoryResult"]["properties"]["metrics"]
    metrics["properties"] = dict.fromkeys(METRICS, metrics["additionalProperties"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": f"zsad record, schema {SCHEMA_VERSION}",
        "description": f"{schema['description']} {NOTE}",
        "if": {"properties": {"status": {"const": "error"}}},
        "then": {"required": ["error"], "properties": {"error": {"type": "object"}}},
        "else": {"properties": {"error": {"type": "null"}}},
    }


def schema_text() -> str:
    """The content of docs/record.schema.json."""
    return json.dumps(record_schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
