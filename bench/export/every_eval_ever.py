"""Records as evaluation logs of Every Eval Ever, schema 0.3.

A record is a log; its results are the metrics over all categories and of each category. Files lie
as that collection has them: data/<collection>/<developer>/<model>/<uuid>.json. Source of the
schema: eval.schema.json of the package every_eval_ever 0.3.0.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ..analysis.resampling import Settings, pair_images
from ..analysis.statistics import RESAMPLED, Interval, interval
from ..analysis.values import measure
from ..errors import UsageError
from ..files import file_name, write_text
from ..metric_table import METRICS, Metric
from ..names import display_name
from ..records.record import Record
from .results import category_values, digest, home_page, seconds_of

SCHEMA = "0.3.0"
COLLECTION = "zsad"
Relationship = Literal["first_party", "third_party", "collaborative", "other"]
RELATIONSHIPS: tuple[Relationship, ...] = get_args(Relationship)


@dataclass(frozen=True)
class Publisher:
    """Who publishes results.

    Attributes:
        organisation: or person that ran the evaluation.
        developer: whose methods they are, the first part of a model's name; `organisation` if "".
        relationship: of the organisation to the methods: their authors are first_party.
        url: of the organisation, or "".
    """

    organisation: str
    developer: str = ""
    relationship: Relationship = "third_party"
    url: str = ""

    def __post_init__(self) -> None:
        """Refuse what the schema does not take."""
        if not self.organisation.strip():
            raise UsageError("every-eval-ever names who ran the evaluation: --organisation NAME")
        if self.relationship not in RELATIONSHIPS:
            raise UsageError(
                f"--relationship is one of {', '.join(RELATIONSHIPS)}, not '{self.relationship}'"
            )


def write_logs(
    records: Sequence[Record], out: Path, publisher: Publisher, settings: Settings
) -> list[Path]:
    """Write a log for every finished record; equal records give equal files.

    Args:
        records: of any status; those of failed cells are left out.
        out: a folder.
        publisher: who publishes them.
        settings: how intervals are estimated.

    Returns:
        The files that were written.

    Raises:
        FileError: a file cannot be written.
    """
    written = []
    for record in records:
        if record.error is None:
            log = evaluation_log(record, publisher, settings)
            developer, model = log["model_info"]["id"].split("/")
            path = out / "data" / COLLECTION / developer / model / f"{_uuid(record)}.json"
            write_text(path, json.dumps(log, indent=1, allow_nan=False) + "\n")
            written.append(path)
    return written


def evaluation_log(record: Record, publisher: Publisher, settings: Settings) -> dict[str, Any]:
    """A record as the JSON object of an evaluation log."""
    model, seconds = _model(record, publisher), f"{seconds_of(record):.0f}"
    source = {
        "source_name": "zsad record",
        "source_type": "evaluation_run",
        "source_organization_name": publisher.organisation,
        "evaluator_relationship": publisher.relationship,
        **({"source_organization_url": publisher.url} if publisher.url else {}),
    }
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{COLLECTION}-{record.cell.dataset}/{model['id']}/{seconds}",
        "evaluation_timestamp": seconds,
        "retrieved_timestamp": seconds,
        "source_metadata": source,
        "eval_library": {
            "name": "zsad",
            "version": str(record.provenance.get("zsad") or "unknown"),
            "additional_details": _texts(record.provenance),
        },
        "model_info": model,
        "evaluation_results": _results(record, settings),
    }


def _uuid(record: Record) -> uuid.UUID:
    """A UUID of version 4 that follows from the record."""
    return uuid.UUID(bytes=bytes.fromhex(digest(record))[:16], version=4)


def _model(record: Record, publisher: Publisher) -> dict[str, Any]:
    developer = file_name("-".join((publisher.developer or publisher.organisation).split()))
    backbone = str(record.protocol.get("backbone") or "unknown")
    return {
        "name": record.title,
        "id": f"{developer}/{record.cell.method_key}--{file_name(backbone)}",
        "developer": publisher.developer or publisher.organisation,
        "inference_engine": {"name": "zsad", "version": str(record.provenance.get("zsad", ""))},
        "additional_details": {
            "deployment_type": "self_deployed",
            "model_availability": "open_weights",
            "backbone": backbone,
            "track": str(record.track),
            "seed": str(record.cell.seed),
            **_texts(record.protocol, "protocol."),
        },
    }


def _results(record: Record, settings: Settings) -> list[dict[str, Any]]:
    """The results: of each metric over all categories, then of each category."""
    found = []
    dataset, images = (
        record.cell.dataset,
        sum(r.n_normal + r.n_anomalous for r in record.categories),
    )
    intervals = _intervals(record, settings)
    for name, metric in METRICS.items():
        value = measure([record], name)
        if value.value is not None:
            result = _result(record, metric, display_name(dataset), value.value, images)
            if name in intervals:
                result["score_details"]["uncertainty"] = _uncertainty(
                    intervals[name], images, settings
                )
            found.append(result)
    for category, name, score in category_values(record):
        own = record.by_category[category]
        number = own.n_normal + own.n_anomalous
        place = f"{display_name(dataset)}/{category}"
        found.append(_result(record, METRICS[name], place, score, number))
    return found


def _result(
    record: Record, metric: Metric, place: str, score: float, images: int
) -> dict[str, Any]:
    page = home_page(record.cell.dataset)
    title = str(record.protocol.get("dataset_title") or record.cell.dataset)
    fingerprint = str(record.protocol.get("dataset_fingerprint") or "unknown")
    return {
        "evaluation_result_id": f"{place}/{metric.name}",
        "evaluation_name": place,
        "source_data": {
            "dataset_name": title,
            "additional_details": {"fingerprint": fingerprint, "images": str(images)},
            **({"source_type": "url", "url": [page]} if page else {"source_type": "other"}),
        },
        "metric_config": {
            "evaluation_description": metric.definition,
            "metric_id": f"zsad.{metric.name}",
            "metric_name": metric.title,
            "metric_kind": metric.label.lower(),
            "metric_unit": "proportion",
            "lower_is_better": not metric.higher_is_better,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": 1.0,
        },
        "score_details": {"score": min(max(score, 0.0), 1.0)},
    }


def _intervals(record: Record, settings: Settings) -> Mapping[str, Interval]:
    """The intervals of the record's image-level metrics; none without scores of its images."""
    images = pair_images([record], ())
    chosen = [name for name in RESAMPLED if name in settings.metrics]
    if images.why_not or not chosen:
        return {}
    return {
        name: interval(float(values.mean()), replicates.mean(axis=0), settings.level)
        for name, (values, replicates) in settings.bootstrap(images, chosen).items()
    }


def _uncertainty(found: Interval, images: int, settings: Settings) -> dict[str, Any]:
    return {
        "confidence_interval": {
            "lower": found.low,
            "upper": found.high,
            "confidence_level": found.level,
            "method": f"percentile bootstrap over images, {settings.resampling}",
        },
        "num_samples": images,
        "num_bootstrap_samples": settings.replicates,
    }


def _texts(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Values as texts, which is all that the schema takes beside its own fields."""
    return {
        f"{prefix}{name}": value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for name, value in values.items()
        if value is not None
    }
