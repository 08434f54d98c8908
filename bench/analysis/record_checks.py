"""What must hold of a record that others are to trust, beyond its schema.

Each check looks at one record and yields its faults. What can be computed again from the record
itself is: image-level metrics from the per-image scores, and the areas under the stored curves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .. import registry
from ..dataset import CategoryInfo, Counts
from ..errors import UsageError
from ..metric_table import DEFAULT_METRICS, METRICS, of_level
from ..metrics import image_metrics
from ..names import SEPARATOR, display_name, registry_name
from ..records.protocol import version_of
from ..records.record import CategoryResult, Record

Gravity = Literal["wrong", "note"]
REQUIRED = ("backbone", "weights_sha256", "image_size", "map_size", "precision", "metric_version")
AGREEMENT = 1e-9  # of a metric and the same computed again
CURVE_AGREEMENT = 0.01  # of a metric and the area under its curve, of which some points are kept
AREAS = {"image_roc": "image_auroc", "pixel_roc": "pixel_auroc", "pixel_pro": "pixel_pro"}


@dataclass(frozen=True)
class Fault:
    """What a check found.

    Attributes:
        message: names the thing and what it should be.
        category: of the dataset; "" concerns the whole record.
        gravity: a note does not make a record wrong.
    """

    message: str
    category: str = ""
    gravity: Gravity = "wrong"


Check = Callable[[Record], Iterator[Fault]]


def _names(record: Record) -> Iterator[Fault]:
    """Method, dataset and categories are known."""
    for kind, name in (("method", record.cell.method), ("dataset", record.cell.dataset)):
        try:
            registry.resolve(kind, name)
        except UsageError as error:
            yield Fault(f"{error} (--allow-unknown takes those of packages that are not installed)")
    known = _known_categories(record)
    extra = record.completeness.extra_categories if record.completeness else ()
    for result in record.categories:
        if known and result.category not in (*known, *extra):
            yield Fault(f"dataset {record.cell.dataset} has no such category", result.category)


def _known_categories(record: Record) -> Mapping[str, CategoryInfo]:
    """The categories that the record's dataset has; none where it is unknown or a user's own."""
    try:
        return registry.dataset_class(record.cell.dataset).categories
    except UsageError:
        return {}


def _outcome(record: Record) -> Iterator[Fault]:
    """The cell has finished."""
    if record.error is not None:
        yield Fault(f"the cell failed ({record.error.type}): run it again")
    elif not record.categories:
        yield Fault("the record has no categories: run the cell again")


def _protocol(record: Record) -> Iterator[Fault]:
    """The protocol says what two numbers need to be comparable, and the code is known."""
    if record.error is not None:
        return
    missing = [name for name in REQUIRED if record.protocol.get(name) is None]
    if missing:
        yield Fault(f"the protocol lacks {', '.join(missing)}: run the cell again with this zsad")
    if not record.protocol.get("dataset_fingerprint"):
        yield Fault("the protocol has no fingerprint of the images", gravity="note")
    if not record.identity:
        yield Fault("no identity: made by an early version of zsad", gravity="note")
    if str(record.provenance.get("commit") or "").endswith("+changes"):
        yield Fault("made by code with changes that no commit has", gravity="note")


def _counts(record: Record) -> Iterator[Fault]:
    """Counts agree with the images, with the release and with what the record says of its copy."""
    known = _known_categories(record)
    for result in record.categories:
        for message in _count_faults(record, result, known.get(result.category)):
            yield Fault(message, result.category)
    held, limit = record.completeness, record.protocol.get("limit")
    number = sum(result.n_normal + result.n_anomalous for result in record.categories)
    if held is not None and limit is None and record.error is None and held.found != number:
        yield Fault(f"{number} images were scored, the completeness says {held.found}")


def _count_faults(
    record: Record, result: CategoryResult, info: CategoryInfo | None
) -> Iterator[str]:
    found = Counts(result.n_normal, result.n_anomalous)
    if not (found.test_normal or found.test_anomalous):
        yield "no images"
    if result.images is not None:
        labels, names = result.images.labels, result.images.names
        listed = Counts(labels.count(0), labels.count(1))
        if listed != found:
            yield f"{_words(found)} are stated, {_words(listed)} are listed"
        if len(set(names)) != len(names):
            yield "an image is listed twice"
    limit = record.protocol.get("limit")
    if isinstance(limit, int) and max(result.n_normal, result.n_anomalous) > limit:
        yield f"{_words(found)} with a limit of {limit}"
    whole = record.completeness is not None and record.completeness.complete is True
    wanted = info.counts if info is not None else Counts()
    released = Counts(wanted.test_normal, wanted.test_anomalous)
    if whole and limit is None and None not in (released.test_normal, released.test_anomalous):
        chosen = record.completeness is not None and record.completeness.chosen_options
        if not chosen and released != found:
            yield f"{_words(found)} are stated to be complete, the release has {_words(released)}"


def _words(counts: Counts) -> str:
    return f"{counts.test_normal} normal and {counts.test_anomalous} anomalous images"


def _image_level(record: Record) -> Iterator[Fault]:
    """Image-level metrics are those of the per-image scores."""
    same = [
        name
        for name in of_level("image")
        if version_of(record.protocol, name) == METRICS[name].version
    ]
    if record.error is None and len(same) < len(of_level("image")):
        yield Fault(
            "metrics of another definition than this zsad's were not computed again",
            gravity="note",
        )
    for result in record.categories:
        stated = [name for name in same if name in result.metrics]
        if result.images is None or result.images.scores is None:
            if stated:
                yield Fault("has image-level metrics and no scores", result.category)
            continue
        thresholds = {name: threshold.value for name, threshold in result.thresholds.items()}
        labels, scores = np.asarray(result.images.labels), np.asarray(result.images.scores)
        measured = image_metrics(labels, scores, (*DEFAULT_METRICS, *thresholds), thresholds)
        again = measured.defined()
        for name in (*stated, *(n for n in result.undefined if n in same)):
            old, new = result.metrics.get(name), again.get(name)
            follows = name in again or name in measured.undefined  # from labels and scores alone
            if follows and not _agree(old, new, AGREEMENT):
                yield Fault(
                    f"{display_name(name)} is {_number(old)}, the scores give {_number(new)}",
                    result.category,
                )


def _areas(record: Record) -> Iterator[Fault]:
    """Metrics that are areas are close to those under the stored curves."""
    for result in record.categories:
        for curve, metric in AREAS.items():
            points, stated = result.curves.get(curve), result.metrics.get(metric)
            if points is None or stated is None or len(points["x"]) < 2:
                continue
            x, y = np.asarray(points["x"]), np.asarray(points["y"])
            area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)) / max(float(x[-1]), 1e-12)
            if not _agree(stated, area, CURVE_AGREEMENT):
                yield Fault(
                    f"{display_name(metric)} is {stated:.4f}, the area under its curve {area:.4f}",
                    result.category,
                )


def _agree(a: float | None, b: float | None, tolerance: float) -> bool:
    return a is b if a is None or b is None else abs(a - b) <= tolerance


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.9f}"


def _leakage(record: Record) -> Iterator[Fault]:
    """Nothing was learned from the dataset that is tested on."""
    name = "" if record.auxiliary is None else record.auxiliary.name
    stated = record.protocol.get("auxiliary")
    learned = {
        registry_name(part) for text in (name, str(stated)) for part in text.split(SEPARATOR)
    }
    if registry_name(record.cell.dataset) in learned:
        yield Fault(f"learned from {record.cell.dataset}, which is tested on")


CHECKS: Mapping[str, Check] = {
    "names": _names,
    "outcome": _outcome,
    "protocol": _protocol,
    "counts": _counts,
    "image-level": _image_level,
    "curves": _areas,
    "leakage": _leakage,
}
"""The checks by name, in the order in which their faults are told."""
