"""The JSON Schema of records, derived from the dataclasses that read them.

python -m zsad.bench.records.schema > docs/record.schema.json
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ..json_fields import definitions
from .record import SCHEMA_VERSION, Record

NOTE = (
    "A later minor version may add fields; readers ignore those they do not know. No whole number "
    "has more than 20 characters, and every number fits a double. A change that old readers would "
    "misread raises the number in 'schema'."
)


def record_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a record's file."""
    parts = definitions(Record)
    schema = parts.pop(Record.__name__)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"zsad record, schema {SCHEMA_VERSION}",
        **schema,
        "description": f"{schema['description']} {NOTE}",
        "if": {"properties": {"status": {"const": "error"}}},
        "then": {"required": ["error"], "properties": {"error": {"type": "object"}}},
        "else": {"properties": {"error": {"type": "null"}}},
        "$defs": parts,
    }


def schema_text() -> str:
    """The content of docs/record.schema.json."""
    return json.dumps(record_schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
