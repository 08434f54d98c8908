"""Records as runs of MLflow: parameters, metrics, and the record as an artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..records.record import Record
from .results import digest, logged_values, required, seconds_of, settings_of

LONGEST_VALUE = 500  # characters of a parameter that every version of MLflow takes
AT_ONCE = 100  # parameters in a request
DIGEST = "zsad.record"  # the tag by which a record is known


def log_runs(records: Sequence[Record], out: Path | None, experiment: str) -> int:
    """Log every finished record as a run of its own; those that are logged already are left out.

    Args:
        records: of any status; those of failed cells are left out.
        out: a folder for mlflow.db and the artifacts; None logs to where MLflow's own settings
            say (MLFLOW_TRACKING_URI).
        experiment: made if it does not exist.

    Returns:
        How many were logged.

    Raises:
        MissingPackage: MLflow is not installed.
    """
    mlflow = required("mlflow", "mlflow")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(f"sqlite:///{out.resolve() / 'mlflow.db'}")
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(experiment)
    place = None if out is None else (out.resolve() / "artifacts").as_uri()
    number = found.experiment_id if found else client.create_experiment(experiment, place)
    logged = 0
    for record in records:
        if record.error is None and not _is_logged(client, number, record):
            _log(client, number, record)
            logged += 1
    return logged


def _is_logged(client: Any, experiment: str, record: Record) -> bool:
    text = f"tags.`{DIGEST}` = '{digest(record)}'"
    return bool(client.search_runs([experiment], filter_string=text, max_results=1))


def _log(client: Any, experiment: str, record: Record) -> None:
    import mlflow.entities as entities

    started = int(1000 * seconds_of(record)) or None
    tags = {
        DIGEST: digest(record),
        "zsad.cell": record.cell.key,
        "zsad.commit": str(record.provenance.get("commit") or ""),
        "zsad.version": str(record.provenance.get("zsad") or ""),
    }
    run = client.create_run(experiment, started, tags, record.cell.key)
    stamp = started or run.info.start_time
    parameters = [
        entities.Param(_key(name), str(value)[:LONGEST_VALUE])
        for name, value in settings_of(record).items()
    ]
    for start in range(0, len(parameters), AT_ONCE):
        client.log_batch(run.info.run_id, params=parameters[start : start + AT_ONCE])
    values = logged_values(record)
    metrics = [entities.Metric(_key(name), value, stamp, 0) for name, value in values.items()]
    for start in range(0, len(metrics), AT_ONCE):
        client.log_batch(run.info.run_id, metrics=metrics[start : start + AT_ONCE])
    client.log_dict(run.info.run_id, asdict(record), "record.json")
    client.set_terminated(run.info.run_id, end_time=stamp)


def _key(name: str) -> str:
    """A name that MLflow takes: letters, digits and _ - . / and spaces."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)
