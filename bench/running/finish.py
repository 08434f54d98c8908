"""The end of a cell: its record from all its categories, or from its error."""

from __future__ import annotations

import logging
import shutil
import traceback
from collections.abc import Sequence
from pathlib import Path

from .. import registry
from ..data.completeness import Completeness
from ..dataset import Dataset
from ..errors import ZsadError, message_of
from ..records.category_record import CategoryRecord
from ..records.cell import Cell
from ..records.provenance import environment
from ..records.record import ErrorInfo, Record, RecordError, write_record
from ..records.run_folder import part_path, parts_folder, record_path
from .plan import Plan

LOG = logging.getLogger(__name__)


def is_done(folder: Path, cell: Cell) -> bool:
    """Whether a run directory has the record of a cell."""
    return record_path(folder, cell).exists()


def finish_cell(
    plan: Plan,
    dataset: Dataset,
    cell: Cell,
    categories: Sequence[str],
    found: Completeness | None = None,
) -> None:
    """Put a cell's parts together into its record, once all of them are there.

    Args:
        plan: whose run directory it is.
        dataset: opened.
        cell: to finish.
        categories: that the cell is made of.
        found: what the copy holds of the dataset, for the record.
    """
    folder = Path(plan.out)
    paths = [part_path(folder, cell, category) for category in categories]
    if is_done(folder, cell) or not all(path.exists() for path in paths):
        return
    try:
        parts = [CategoryRecord.read(path) for path in paths]
    except RecordError as error:
        if is_done(folder, cell):  # another process was faster and has cleared the parts
            return
        shutil.rmtree(parts_folder(folder, cell), ignore_errors=True)
        write_failure(folder, cell, RecordError(f"parts of {cell.key} were broken ({error})"))
        return
    try:
        record = CategoryRecord.combine(cell, dataset, parts, found)
    except RecordError as error:  # whoever does the other categories will make the record
        LOG.info("%s", error)
        return
    except ZsadError as error:
        write_failure(folder, cell, error)
        return
    write_record(folder, record)
    shutil.rmtree(parts_folder(folder, cell), ignore_errors=True)


def write_failure(folder: Path, cell: Cell, error: BaseException) -> None:
    """Record why a cell failed; other cells are unharmed."""
    message = message_of(error)
    LOG.error("%s failed: %s", cell.key, message)
    trace = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace").decode()
    info = ErrorInfo(type(error).__name__, message, trace)
    title = registry.method_class(cell.method).title
    write_record(
        folder,
        Record(cell=cell, status="error", title=title, provenance=environment(), error=info),
    )
