"""Checkpoints that a user gives: what they were learned from, and whether they fit what is asked.

A checkpoint of `zsad train` says in its header how it came about; of a released file the user says
what it was learned from. Nothing that is known of a checkpoint is left unread.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..checkpoint import file_sha256, read_header
from ..dataset import Dataset
from ..errors import UsageError, WeightsError
from ..json_fields import from_json
from ..method import TrainableMethod, build
from ..names import display_name, parts_named, registry_name
from ..options import EVALUATION_ONLY
from ..records.record import UNDECLARED, Auxiliary
from ..registry import dataset_class, entries
from .leakage import marked_images

TRAINING_ONLY = frozenset({"epochs", "batch_size", "lr", "split"})  # options, taken from a header
Source = Literal["header", "declared", "undeclared"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was given, and what is known of it.

    Attributes:
        files: hold its tensors together.
        auxiliary: the dataset that it was learned on, or "undeclared".
        source: who says so: the file's own header, the user, or neither.
        headers: of each file the provenance that `zsad train` has written; empty in a released one.
    """

    files: tuple[Path, ...]
    auxiliary: str = UNDECLARED
    source: Source = "undeclared"
    headers: Mapping[Path, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of the file's bytes; of several files the hash of their hashes."""
        hashes = [file_sha256(file) for file in self.files]
        if len(hashes) == 1:
            return hashes[0]
        return hashlib.sha256(" ".join(hashes).encode()).hexdigest()

    @property
    def trained_on(self) -> str | None:
        """The auxiliary dataset, or union of datasets, where the registry has them."""
        known = set(parts_named(self.auxiliary)) <= entries("dataset").keys()
        return self.auxiliary if known else None

    @property
    def learned_from(self) -> Auxiliary | None:
        """The images that it was learned from, as a header says; None where none does."""
        found = map(learned_from, self.headers.values())
        return next((auxiliary for auxiliary in found if auxiliary is not None), None)

    def training_options(self, method: str) -> dict[str, Any]:
        """How long and on which split `method` was trained, by its header.

        They change nothing about what the weights are for, but a record states them.
        """
        found: dict[str, Any] = {}
        for header in self.headers.values():
            if registry_name(str(header.get("method"))) == method:
                options = _table(header, "options")
                found |= {k: _value(v) for k, v in options.items() if k in TRAINING_ONLY}
        return found

    def protocol(self) -> dict[str, Any]:
        """What a record states of it."""
        stated: dict[str, Any] = {
            "checkpoint_sha256": self.sha256,
            "auxiliary": self.auxiliary,
            "auxiliary_source": self.source,
        }
        for header in filter(None, self.headers.values()):
            told = _table(header, "auxiliary")
            stated |= auxiliary_options(header)
            if told.get("limit") is not None:
                stated["auxiliary_limit"] = told["limit"]
            if header.get("stored_precision", "full") != "full":
                stated["feature_precision"] = header["stored_precision"]
            stated |= {
                "auxiliary_split": told.get("split"),
                "epochs": header.get("epochs"),
                "training_precision": header.get("precision"),
            }
        return stated


def open_checkpoint(files: Sequence[str | Path], declared: str = "") -> Checkpoint:
    """A checkpoint with what its headers say, beside what the user says.

    Args:
        files: of one checkpoint.
        declared: the auxiliary dataset that the user has named, or "".

    Raises:
        UsageError: a header names another auxiliary dataset than the user, or than another file.
        WeightsError: a file is missing or broken.
    """
    paths = tuple(Path(file) for file in files)
    headers = {path: read_header(path) for path in paths}
    known = {path: name for path, header in headers.items() if (name := _auxiliary_in(header))}
    for path, name in known.items():
        if declared and registry_name(name) != registry_name(declared):
            raise UsageError(
                f"checkpoint {path} was learned on '{display_name(name)}', as its header says, not "
                f"on '{display_name(declared)}': give it as METHOD.{display_name(name)}=FILE, or "
                "leave out --learned-from"
            )
    if len(set(known.values())) > 1:
        found = ", ".join(f"{path} on '{display_name(name)}'" for path, name in known.items())
        raise UsageError(
            f"the files of one checkpoint were learned on different datasets ({found}): give each "
            "dataset's as METHOD.AUXILIARY=FILE"
        )
    if known:
        return Checkpoint(paths, next(iter(known.values())), "header", headers)
    if declared:
        return Checkpoint(paths, declared, "declared", headers)
    return Checkpoint(paths, headers=headers)


def learned_from(header: Mapping[str, Any]) -> Auxiliary | None:
    """The images that a header says that weights were learned from; None if it does not say."""
    told = _table(header, "auxiliary")
    raw = {name: told.get(name) for name in ("split", "images", "fingerprint")}
    try:
        return from_json(
            Auxiliary,
            {"name": told.get("dataset"), **raw, "completeness": header.get("completeness")},
        )
    except (TypeError, ValueError):
        return None


def auxiliary_options(header: Mapping[str, Any]) -> dict[str, Any]:
    """The protocol's entry of how the auxiliary dataset was opened; none where by its defaults."""
    names = parts_named(_auxiliary_in(header))
    if not set(names) <= entries("dataset").keys():
        return {}
    told = _table(_table(header, "auxiliary"), "options")
    if len(names) == 1:
        options = _differing(names[0], told)
    else:
        each = {name: _differing(name, _value(told.get(name, {}))) for name in names}
        options = {name: differing for name, differing in each.items() if differing}
    return {"auxiliary_options": options} if options else {}


def _differing(dataset: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a dataset that are not its defaults."""
    defaults = dataset_class(dataset).option_defaults
    stated = {name: value for name, value in options.items() if name in defaults}
    return {k: _value(v) for k, v in stated.items() if str(v) != str(defaults[k])}


def _auxiliary_in(header: Mapping[str, Any]) -> str:
    """The auxiliary dataset of a header, or ""."""
    name = _table(header, "auxiliary").get("dataset")
    return name if isinstance(name, str) else ""


def _table(header: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An entry of a header that is a table; empty where it is anything else."""
    found = header.get(name)
    return found if isinstance(found, Mapping) else {}


def choose(
    checkpoints: Mapping[str, Sequence[str]], method: str, target: type[Dataset], wanted: str
) -> str:
    """Which of a method's checkpoints a target takes: the key of `checkpoints`.

    The one learned on the dataset that the protocol asks for; else any that was not learned on the
    target; else the one that is undeclared.

    Args:
        checkpoints: auxiliary dataset -> files; "" is undeclared.
        method: for the message.
        target: what will be tested on.
        wanted: the auxiliary dataset of the protocol.

    Raises:
        UsageError: all of them were learned on the target.
    """
    allowed = [k for k in checkpoints if k and (not _names(k, target) or target.domain == "custom")]
    order = [*(k for k in allowed if registry_name(k) == registry_name(wanted)), *allowed]
    if "" in checkpoints:
        order.append("")
    if not order:
        what = f"the checkpoint of '{display_name(method)}'"
        raise UsageError(_leak(what, method, f"'{display_name(target.name)}'"))
    return order[0]


def refuse_leak(checkpoint: Checkpoint, method: str, target: Dataset) -> None:
    """Refuse to test a checkpoint on what it was learned from.

    Args:
        checkpoint: from `open_checkpoint`.
        method: for the message.
        target: what will be tested on.

    Raises:
        UsageError: it was learned on a dataset of the target's name, or from an image of it.
    """
    if _names(checkpoint.auxiliary, target) and target.domain != "custom":
        what = f"checkpoint {checkpoint.files[0]} of '{display_name(method)}'"
        raise UsageError(_leak(what, method, f"'{display_name(target.name)}'"))
    for path, header in checkpoint.headers.items():
        marks = header.get("images")
        shared = marked_images(target, map(str, marks)) if isinstance(marks, list) else []
        if shared:
            what = f"checkpoint {path} of '{display_name(method)}'"
            images = f"{len(shared)} images of '{display_name(target.name)}' ({shared[0]} is one)"
            raise UsageError(_leak(what, method, images, "from"))


def _names(auxiliary: str, target: type[Dataset] | Dataset) -> bool:
    """Whether an auxiliary dataset, or one of a union, has the target's name."""
    return registry_name(target.name) in map(registry_name, parts_named(auxiliary))


def _leak(what: str, method: str, source: str, verb: str = "on") -> str:
    return (
        f"{what} was learned {verb} {source}, which cannot be tested on as well: add one of "
        f"another dataset, --checkpoint {display_name(method)}.AUXILIARY=FILE"
    )


def refuse_misfit(method: TrainableMethod, checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that was learned as another method, with other options or weights.

    Args:
        method: as it was asked for.
        checkpoint: from `open_checkpoint`. Files without a header are released ones: they were
            learned with the activation and the positions of the method's `backbone_spec`.

    Raises:
        WeightsError: it does not fit; names the field, the file's value, the asked one and the fix.
    """
    for path, header in checkpoint.headers.items():
        if "method" in header:
            _refuse_other_training(method, path, header)
        else:
            _refuse_other_forward(method, path)


def _refuse_other_training(method: TrainableMethod, path: Path, header: Mapping[str, Any]) -> None:
    learned = f"checkpoint {path} was learned"
    name = str(header["method"])
    if registry_name(name) != registry_name(method.name):
        raise WeightsError(
            f"{learned} by method '{display_name(name)}', not '{display_name(method.name)}': ask "
            f"for {display_name(name)}"
        )
    variant = str(header.get("variant"))
    asked = dataclasses.asdict(method.options)
    ignored = {*EVALUATION_ONLY, *method.evaluation_options}
    differ = {
        option: (value, str(asked[option]))
        for option, value in _table(header, "options").items()
        if option in asked and option not in ignored and _value(value) != _value(asked[option])
    }
    if differ:
        said = ", ".join(
            f"{display_name(option)} {value}, not {own}" for option, (value, own) in differ.items()
        )
        if variant != method.variant:
            raise WeightsError(
                f"{learned} as variant '{display_name(variant)}', not "
                f"'{display_name(method.variant)}' ({said}): "
                f"ask for {display_name(f'{method.name}@{variant}')}"
            )
        fix = " ".join(_option(method.name, option, value) for option, (value, _) in differ.items())
        raise WeightsError(f"{learned} with {said}: add {fix}")
    sha256, own = str(header.get("weights_sha256")), method.backbone.weights_sha256
    if sha256 != own:
        raise WeightsError(
            f"{learned} on backbone weights of sha256 {sha256[:16]} ('{header.get('backbone')}'), "
            f"not {own[:16]} ('{method.backbone.name}'): "
            f"give --backbone {header.get('backbone')}, or the file with that sha256"
        )
    protocol, here = _table(header, "protocol"), method.protocol()
    for field_name in ("activation", "pos_embed"):
        if field_name in protocol and protocol[field_name] != str(here[field_name]):
            raise WeightsError(
                f"{learned} with {field_name} {protocol[field_name]}, not {here[field_name]}: "
                "train it again with zsad train"
            )


def _refuse_other_forward(method: TrainableMethod, path: Path) -> None:
    """A released file under a variant that runs the backbone unlike the released code."""
    size, spec = method.image_size, method.backbone_spec
    _, *own = method.backbone.forward_key(size)[:3]
    _, *published = method.backbone.view(spec.activation, spec.pos_embed).forward_key(size)[:3]
    if own == published:
        return
    fitting = [
        variant
        for variant in method.variants
        if list(build(type(method), method.backbone, variant).backbone.forward_key(size)[1:3])
        == published
    ]
    names = " or ".join(display_name(f"{method.name}@{variant}") for variant in fitting)
    raise WeightsError(
        f"checkpoint {path} has no header of zsad train, and released files were learned with "
        f"activation and positions {' and '.join(published)}, not {' and '.join(own)} as variant "
        f"'{display_name(method.variant)}' has them: ask for {names}"
    )


def _value(value: Any) -> Any:
    """An option's value as a header keeps it, in text, or as a method has it; lists are tuples."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    return tuple(value) if isinstance(value, list) else value


def _option(method: str, name: str, text: str) -> str:
    """An option of a header as the command line takes it."""
    value = _value(text)
    if value is None:
        return f"(no {display_name(name)})"
    if isinstance(value, tuple):
        value = list(value)
    shown = json.dumps(value) if not isinstance(value, str) else value
    return f"--option {display_name(f'{method}.{name}')}={shown}".replace(", ", ",")
