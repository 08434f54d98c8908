"""What a training is: all that the learned weights depend on, for a checkpoint's header."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..code_hash import training_code
from ..dataset import Dataset, Sample
from ..method import AuxiliarySplit, Stage, TrainableMethod
from ..options import EVALUATION_ONLY
from .feature_cache import FeatureCache
from .optimisation import TrainingConfig


def describe(
    method: TrainableMethod,
    dataset: Dataset,
    split: AuxiliarySplit,
    samples: Sequence[Sample],
    config: TrainingConfig,
    cache: FeatureCache,
) -> dict[str, Any]:
    """All that the learned weights depend on, as plain JSON values.

    Args:
        method: with its initial weights.
        dataset: the auxiliary dataset.
        split: of it, that is trained on.
        samples: of that split.
        config: how they are gone through.
        cache: where frozen features are kept, whose precision counts.
    """
    backbone = method.backbone
    stages = method.stages()
    lengths = [config.lengths(stage.schedule) for stage in stages]
    options = dataclasses.asdict(method.options)
    if "split" in options:
        options["split"] = split  # what was trained on, whoever chose it
    return {
        "method": method.name,
        "code": training_code(type(method)),
        "variant": method.variant,
        "options": _plain(options),
        "protocol": _plain(method.protocol()),
        **_fitting(stages),
        "backbone": backbone.name,
        "weights_sha256": backbone.weights_sha256,
        "precision": backbone.precision,
        "stored_precision": cache.precision,
        "auxiliary": {
            "dataset": dataset.name,
            "options": _plain(dataset.options),
            "split": split,
            "images": len(samples),
            "fingerprint": dataset.fingerprint_of(samples),
            **({} if config.limit is None else {"limit": config.limit}),
        },
        "epochs": sum(epochs for epochs, _ in lengths),
        "batch_size": max((batch_size for _, batch_size in lengths), default=0),
        "seed": config.seed,
        "initial_sha256": _parameters_sha256(method),
    }


def _fitting(stages: Sequence[Stage]) -> dict[str, Any]:
    """The schedule of a method that learns in one stage, or all stages."""
    if len(stages) == 1:
        return {"schedule": _plain(stages[0].schedule.facts())}
    return {"stages": [_plain(stage.facts()) for stage in stages]}


def _plain(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if name not in EVALUATION_ONLY}


def _parameters_sha256(method: TrainableMethod) -> str:
    """Of the initial weights, so that a training from other ones is told apart."""
    found = hashlib.sha256()
    for name, parameter in method.named_parameters():
        found.update(name.encode())
        found.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
