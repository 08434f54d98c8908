"""Protocols: what must be equal for two numbers to be comparable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..metric_table import changed_versions

AUXILIARY, GIVEN = "auxiliary", "auxiliary_source"
CHECKPOINT = "checkpoint_sha256"
VERSION, VERSIONS = "metric_version", "metric_versions"
REDUCED = "reduced"  # what autocast rounds, where a precision is lower than single
TF32 = "tf32"  # stated of a GPU, where single precision has two meanings
RENAMED = {"learned_in": "training_precision"}  # entries, as they were and are


def current_protocol(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """A protocol with the names that this version gives its entries."""
    return {RENAMED.get(name, name): value for name, value in protocol.items()}


def metric_versions() -> dict[str, Any]:
    """The entries of a protocol that say which definitions its metrics have.

    Those of which no definition has changed share one version; further metrics leave it as it is.
    """
    changed = changed_versions()
    return {VERSION: 1, **({VERSIONS: changed} if changed else {})}


def version_of(protocol: Mapping[str, Any], metric: str) -> Any:
    """The version of a metric's definition under a protocol."""
    return (protocol.get(VERSIONS) or {}).get(metric, protocol.get(VERSION))


def trained_in_run(protocol: Mapping[str, Any]) -> bool:
    """Whether a protocol is of weights that the run itself trained, not of a given checkpoint."""
    return AUXILIARY in protocol and GIVEN not in protocol


def differing_entries(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The names of entries that differ between two protocols, in their order.

    The hash of weights that both runs trained themselves is left aside: it follows the last bits
    of the processor, and what it does to the results is compared. Weights that were given to a run
    are guarded by their hash. What is stated of tf32 follows from precision and device.
    """
    names = dict.fromkeys([*a, *b])
    names.pop(TF32, None)
    if trained_in_run(a) and trained_in_run(b):
        names.pop(CHECKPOINT, None)
    return [name for name in names if _text(a.get(name)) != _text(b.get(name))]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
