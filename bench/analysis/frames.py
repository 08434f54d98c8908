"""The numbers of tables as tidy DataFrames: those of a run, and those that the paper prints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from .. import registry
from ..metric_table import METRICS
from ..names import normalize_name
from . import published as paper
from .matrix import Matrix

if TYPE_CHECKING:
    import pandas as pd

PERCENT = 100


def scores_frame(run: Path | str) -> pd.DataFrame:
    """The numbers of a run's tables in full precision: a row per method, dataset and metric.

    Columns: method, title, variant, options (JSON text), track, dataset, dataset_title, domain,
    metric, value (mean over categories and seeds in [0, 1], NaN where there is none), spread
    (standard deviation over seeds, NaN for one), seeds, categories, n_normal, n_anomalous (images,
    over all categories), incomplete (measured on, or learned from, an incomplete copy) and notes
    (why there is no number, and what tables say below it).

    Raises:
        RecordError: the directory is not a run, or a record is broken.
        NoRecordsError: it has no records yet.
    """
    return numbers_frame(Matrix.read(run))


def numbers_frame(matrix: Matrix) -> pd.DataFrame:
    """The numbers of a results matrix, as `scores_frame` has those of a run."""
    import pandas as pd

    rows = []
    for method, dataset in matrix.cells:
        records = matrix.finished(method, dataset)
        categories = records[0].categories if records else []
        for metric in METRICS:
            value = matrix.value(method, dataset, metric)
            rows.append(
                {
                    "method": method.method,
                    "title": method.label,
                    "variant": method.variant,
                    "options": method.options_text,
                    "track": str(method.track),
                    "dataset": dataset.name,
                    "dataset_title": dataset.title,
                    "domain": dataset.domain,
                    "metric": metric,
                    "value": value.value,
                    "spread": value.spread,
                    "seeds": len(records),
                    "categories": len(categories),
                    "n_normal": sum(result.n_normal for result in categories),
                    "n_anomalous": sum(result.n_anomalous for result in categories),
                    "incomplete": value.incomplete,
                    "notes": "; ".join(value.notes),
                }
            )
    return pd.DataFrame(rows).astype({"value": float, "spread": float})


def published_frame() -> pd.DataFrame:
    """The numbers that the FAPrompt paper prints, to be joined with those of a run.

    One row per printed number of Tables 1 to 3 and 7 to 21. Columns: table, dataset, domain,
    category, model, metric, all as printed; value (in [0, 1], as in the frames of a run), level,
    method and dataset_name (registry names, None where the registry has none, as for means over
    domains and for ablations), and doubt (why the value may not be what was measured, else "").
    """
    import pandas as pd

    methods = _by_normalized(registry.names("method"))
    datasets = _by_normalized(registry.names("dataset"))
    rows = []
    for printed in paper.everything():
        erratum = paper.erratum_of(printed.table, printed.dataset, printed.model, printed.category)
        rows.append(
            {
                **asdict(printed),
                "value": printed.value / PERCENT,
                "level": printed.level,
                "method": methods.get(normalize_name(printed.model)),
                "dataset_name": datasets.get(normalize_name(printed.dataset)),
                "doubt": "" if erratum is None else erratum.reason,
            }
        )
    return pd.DataFrame(rows)


def _by_normalized(names: Iterable[str]) -> dict[str, str]:
    return {normalize_name(name): name for name in names}
