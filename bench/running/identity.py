"""The identity of a result: all that decides its numbers, by name, and none of what does not.

A finished category, a record and a training carry their identity. It can be computed without
loading a backbone or learning anything, so a second start of a run sees at once what is still what
the plan asks for. Paths, times, devices, batch sizes and versions of libraries are not part of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import registry
from ..backbone_spec import BUILT_IN, BUILT_IN_WEIGHTS, RANDOM
from ..code_hash import CODE_HASHES, cell_code, training_code
from ..content import content_hashes, content_sha256, is_sha256
from ..dataset import Dataset, Sample, files_of
from ..errors import ContractError, DataError, UsageError, ZsadError
from ..method import make_options
from ..metric_table import changed_versions
from ..progress import Progress
from ..records.category_record import IMAGES
from ..records.provenance import environment
from ..training.references import references_of, shots_of
from ..training.trainer import auxiliary_samples
from ..training.user_checkpoint import Checkpoint
from .open_datasets import OpenDatasets
from .plan import Job, Plan
from .prepare import backbone_name, checkpoint_of, split_of

Identity = Mapping[str, str | None]
"""Field -> value or digest; None where it cannot be known now, as the files are not here."""

CODE_FIELDS = frozenset({*CODE_HASHES, "zsad"})
SHORT = 60  # characters of a value that is shown as it is


@dataclass
class Identities:
    """The identities that a plan asks for.

    Attributes:
        plan: the whole plan.
        datasets: where auxiliary datasets are asked for.
        progress: of the hashing of files, where that is needed first.
    """

    plan: Plan
    datasets: OpenDatasets
    progress: Progress = field(default_factory=Progress)
    _auxiliaries: dict[tuple[str, str], str | None] = field(default_factory=dict)

    def of_job(self, job: Job, dataset: Dataset) -> dict[str, str | None]:
        """All that decides a job's numbers but the images of its categories."""
        plan, entry = self.plan, job.method
        cls = registry.method_class(entry.name)
        checkpoint = _checkpoint(job, dataset)
        own = job.auxiliary.name if job.trained else None
        trained_on = own if checkpoint is None else checkpoint.trained_on
        options = make_options(cls, entry.variant, entry.options, trained_on)
        identity: dict[str, str | None] = {
            "zsad": environment()["zsad"],
            "code": cell_code(cls, type(dataset)),
            "options": _shown(dataclasses.asdict(options)),
            "backbone": _backbone(plan, entry.name),
            "weights": _weights(plan, entry.name),
            "precision": plan.precision,
            "map size": str(plan.map_size),
            "limit": str(plan.limit),
            "metric version": _metric_version(),
            "dataset options": _shown(dict(dataset.options)),
            "dataset": _digest(
                [dataset.title, dataset.domain, dataset.has_masks, dataset.mask_rule]
            ),
        }
        if plan.compile:
            identity["compiled"] = "where that can be"
        if entry.checkpoint:
            identity["checkpoint"] = None if checkpoint is None else _about(checkpoint)
        if job.trained:
            identity["training code"] = training_code(cls)
            identity["auxiliary"] = self._auxiliary(job)
            if plan.auxiliary_limit is not None:
                identity["auxiliary limit"] = str(plan.auxiliary_limit)
            if plan.feature_precision != "full":
                identity["feature precision"] = plan.feature_precision
        if cls.track_of(options).has_references:
            identity["references"] = _references(dataset, shots_of(cls, options), job.cell.seed)
        return identity

    def of_images(
        self, dataset: Dataset, by_category: Mapping[str, Sequence[Sample]]
    ) -> dict[str, str]:
        """The fields of categories: names, labels, words for prompts and content of the files.

        Raises:
            DataError: a file is missing or cannot be read.
        """
        found: dict[str, str] = {}
        for category, samples in by_category.items():
            content = content_hashes(files_of(samples), f"hashing {dataset.title}", self.progress)
            digest = hashlib.sha256()
            for sample in samples:
                files = [content[path] for path in (sample.image_path, *sample.mask_paths)]
                row = [sample.name(dataset.root), sample.label, sample.class_name, *files]
                digest.update(json.dumps(row).encode())
            found[IMAGES + category] = digest.hexdigest()
        return found

    def _auxiliary(self, job: Job) -> str | None:
        """What the method of a job is trained on; None where it is not here."""
        split = split_of(self.plan, job)
        key = (job.auxiliary.name, split)
        if key not in self._auxiliaries:
            self._auxiliaries[key] = None
            with suppress(ContractError, DataError, UsageError):
                auxiliary = self.datasets.auxiliary(job)
                samples = auxiliary_samples(auxiliary, split, self.plan.auxiliary_limit)
                content_hashes(files_of(samples), f"hashing {auxiliary.title}", self.progress)
                trained = [auxiliary.name, dict(auxiliary.options), split]
                self._auxiliaries[key] = _digest([*trained, auxiliary.fingerprint_of(samples)])
        return self._auxiliaries[key]


def _metric_version() -> str:
    """The definitions of the metrics; neither further ones nor a choice of them change it."""
    changed = (f"{name} {version}" for name, version in changed_versions().items())
    return ", ".join(["1", *changed])


def _references(dataset: Dataset, shots: int | None, seed: int) -> str | None:
    """The normal images that are shown to a method; None where they are not here."""
    with suppress(DataError):
        return dataset.fingerprint_of(references_of(dataset, shots, seed))
    return None


def difference(
    found: Mapping[str, str], expected: Identity, ignored: frozenset[str] = frozenset()
) -> str:
    """Which field of an identity is not what is expected, in words; "" where none is.

    What cannot be known now is not compared. An empty identity is that of an earlier version,
    which stated none.
    """
    if not found:
        return "" if ignored >= CODE_FIELDS else "made by other code (it states no identity)"
    differing = [
        name
        for name in {**expected, **found}
        if name not in ignored
        and expected.get(name, "") is not None
        and found.get(name) != expected.get(name)
    ]
    if not differing:
        return ""
    if CODE_FIELDS.issuperset(differing):
        return "made by other code" + (" (another zsad)" if "zsad" in differing else "")
    shown = [_change(name, found.get(name), expected.get(name)) for name in differing]
    return "; ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def known(identity: Identity) -> dict[str, str]:
    """An identity without the fields that cannot be known."""
    return {name: value for name, value in identity.items() if value is not None}


def _change(name: str, before: str | None, now: str | None) -> str:
    short = all(value is not None and not is_sha256(value) for value in (before, now))
    return f"{name} changed from {before} to {now}" if short else f"other {name}"


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _shown(values: Mapping[str, Any]) -> str:
    """Options as text where that is short, else their digest."""
    text = json.dumps(values, sort_keys=True, default=str)
    return text if len(text) <= SHORT else _digest(values)


def _checkpoint(job: Job, dataset: Dataset) -> Checkpoint | None:
    """The checkpoint that the plan gives a job; None where there is none, or it is not here."""
    with suppress(ZsadError):
        return checkpoint_of(job, dataset)
    return None


def _about(checkpoint: Checkpoint) -> str:
    content = [content_sha256(path) for path in checkpoint.files]
    return _digest([content, checkpoint.auxiliary, checkpoint.source])


def _file(path: Path) -> str | None:
    """sha256 of a file's content; None where it is not here."""
    with suppress(ZsadError):
        return content_sha256(path)
    return None


def _backbone(plan: Plan, method: str) -> str | None:
    """The architecture: a name, or the content of a model config."""
    if plan.backbone_config is not None:
        return _file(Path(plan.backbone_config))
    return backbone_name(plan, method)[0]


def _weights(plan: Plan, method: str) -> str | None:
    """sha256 of the backbone's weights; None where they are not on this machine."""
    name, tag = backbone_name(plan, method)
    if tag == RANDOM:
        return RANDOM
    if tag and Path(tag).is_file():
        return _file(Path(tag))
    if name == BUILT_IN and not tag and plan.backbone_config is None:
        return _file(BUILT_IN_WEIGHTS)
    from ..weights import default_tag, find_weights  # imports open_clip, which takes seconds

    tag = tag or default_tag(name)
    with suppress(ZsadError):
        path = find_weights(name, tag) if tag else None
        return None if path is None else _file(path)
    return None
