"""DataFrames as CSV, JSON or Parquet, with every digit; no text of a CSV file is a formula."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..files import csv_text
from ..names import known_name

if TYPE_CHECKING:
    import pandas as pd


def frame_bytes(frame: pd.DataFrame, fmt: str) -> bytes:
    """A frame as the content of a file.

    Args:
        frame: of texts, numbers, truth values and None; anything else becomes JSON text.
        fmt: csv, json (a list of objects, null where there is no value) or parquet.

    Raises:
        UsageError: no such format, or the package that writes it is missing.
    """
    return FRAME_WRITERS[known_name("format of rows", fmt, FRAME_WRITERS)](frame)


def _csv(frame: pd.DataFrame) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(frame.columns)
    for row in _rows(frame):
        writer.writerow([csv_text(value) if isinstance(value, str) else value for value in row])
    return out.getvalue().encode()


def _json(frame: pd.DataFrame) -> bytes:
    rows = [dict(zip(frame.columns, row, strict=True)) for row in _rows(frame)]
    return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()


def _rows(frame: pd.DataFrame) -> Iterator[list[Any]]:
    """The rows as plain values, None where there is none."""
    for row in frame.itertuples(index=False, name=None):
        yield [None if isinstance(v, float) and not math.isfinite(v) else v for v in row]


def _parquet(frame: pd.DataFrame) -> bytes:
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError("parquet needs pyarrow: pip install 'zsad[parquet]', or take csv or json")
    buffer = io.BytesIO()
    frame.apply(_of_one_type).to_parquet(buffer, engine="pyarrow", index=False)
    return buffer.getvalue()


def _of_one_type(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column that Parquet can hold: values of several types become JSON text."""
    kinds = {type(value) for value in column.dropna()}
    if column.dtype == object and (len(kinds) > 1 or not kinds <= {str, bool, int, float}):
        return column.map(json.dumps, na_action="ignore")
    return column.convert_dtypes()


FRAME_WRITERS: Mapping[str, Callable[[pd.DataFrame], bytes]] = {
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
}
