"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

import dataclasses
import inspect
import json
import signal
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from .. import registry
from ..docstrings import described
from ..errors import UsageError
from ..names import display_name, known_name, parts_named, registry_name
from ..options import DEFAULT_SEED
from ..running.plan import BUILT_IN_SET, PUBLISHED, Plan
from ..running.plan_entries import ALL
from .terminal import echo

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..dataset import Dataset
    from ..progress import Progress

Verb = TypeVar("Verb", bound=Callable[..., None])

SETTINGS = {  # name -> default of the option
    **{item.name: item.default for item in dataclasses.fields(Plan)},
    "methods": ALL,
    "datasets": BUILT_IN_SET,
    "seeds": str(DEFAULT_SEED),
    "device": "auto",
}
del SETTINGS["auxiliary_options"], SETTINGS["metrics"]  # have options of another form
WORDS = described(Plan.__doc__, "Attributes")[1]
KINDS = get_type_hints(Plan)


def setting_option(name: str, *flags: str, **more: Any) -> Any:
    """The option of a setting of a plan, with what the plan says of it, as `typer.Option`."""
    return typer.Option(*flags, help=WORDS[name], **more)


BACKBONE = ("backbone", "backbone_config", "pretrained", "device", "precision")

Run = Annotated[Path, typer.Argument(help="A run directory.", show_default=False)]
MethodName = Annotated[str, typer.Argument(help="NAME or NAME@VARIANT")]
DataRoot = Annotated[Path | None, setting_option("data_root", envvar="ZSAD_DATA")]
MethodOptions = Annotated[
    list[str] | None,
    typer.Option("--option", help="METHOD.NAME=VALUE of a method; may be repeated."),
]
DatasetOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--dataset-option",
        help="NAME=VALUE, or DATASET.NAME=VALUE where several are named; may be repeated.",
    ),
]
Checkpoints = Annotated[
    list[str] | None,
    typer.Option(
        "--checkpoint",
        help="METHOD.AUXILIARY=FILE: learned weights; METHOD=FILE if its header names the dataset "
        "that it was trained on, or it is unknown. May be repeated.",
    ),
]
LearnedFrom = Annotated[
    str | None,
    typer.Option(help="Dataset that checkpoints without a header or AUXILIARY were trained on."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Metrics = Annotated[
    list[str] | None, typer.Option("--metric", help="Such as image-auroc; may be repeated.")
]
AllowIncomplete = Annotated[
    bool,
    typer.Option(
        "--allow-incomplete",
        help="Include incomplete datasets in means and differences, and beside printed numbers.",
    ),
]


def out_option(*names: str, **settings: Any) -> Any:
    """An option that takes a path to write to, and refuses an empty one.

    Args:
        *names: of the option; none are "--out" and "-o".
        **settings: of `typer.Option`.
    """
    return typer.Option(
        *(names or ("--out", "-o")), parser=_nonempty_path, metavar="PATH", **settings
    )


def _nonempty_path(text: str) -> Path:
    if not str(text).strip():
        raise typer.BadParameter("the path is empty (an unset variable?): name a file or a folder")
    return Path(text)


SHARED: Mapping[str, Any] = {  # what follows from no setting of a plan alone
    "plan_file": Annotated[Path | None, typer.Argument(help="A plan file (TOML).")],
    "out": Annotated[Path | None, out_option(help=WORDS["out"])],
    "data_root": DataRoot,
    "option": MethodOptions,
    "dataset_option": DatasetOptions,
    "checkpoint": Checkpoints,
    "learned_from": LearnedFrom,
    "metric": Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="Measure this one, such as image-auroc, or all; may be repeated. "
            "[default: all but those that score further images, see zsad list metrics -v]",
        ),
    ],
}


def with_options(*names: str) -> Callable[[Verb], Verb]:
    """Let a verb that takes `**given` have the options of these names.

    Args:
        *names: settings of a plan, whose options are made from what the plan says of them, or keys
            of `SHARED`.
    """

    def decorate(verb: Verb) -> Verb:
        signature = inspect.signature(verb, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        all_named = [p.replace(kind=p.KEYWORD_ONLY) for p in (*map(_parameter, names), *own)]
        all_named.sort(key=lambda p: p.default is not p.empty)
        verb.__signature__ = signature.replace(parameters=all_named)  # type: ignore[attr-defined]
        return verb

    return decorate


def _parameter(name: str) -> inspect.Parameter:
    """A shared option as the parameter of a verb from which typer makes it."""
    annotation = SHARED.get(name) or _annotation(name)
    named = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, named, default=SETTINGS.get(name), annotation=annotation)


def _annotation(name: str) -> Any:
    """What typer makes a setting's option from: a flag, a number, or text that the plan checks."""
    kind: Any = KINDS[name] if KINDS[name] in (bool, int, int | None) else str | None
    flags = (f"--{display_name(name)}",) if kind is bool else ()  # and not its opposite
    return Annotated[kind, setting_option(name, *flags)]


def explained(verb: Verb) -> Verb:
    """Let the options of a verb have the help that the verb's docstring gives as `Args`.

    Parameters of a plain type become arguments, or options where they have a default; of a flag
    that is off there is no opposite.
    """
    verb.__doc__, words = described(verb.__doc__, "Args")
    signature = inspect.signature(verb, eval_str=True)
    own = [
        p.replace(annotation=_explained(p, words[p.name])) if p.name in words else p
        for p in signature.parameters.values()
    ]
    verb.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    return verb


def _explained(parameter: inspect.Parameter, words: str) -> Any:
    kind, default = parameter.annotation, parameter.default
    if get_origin(kind) is Annotated:
        kind, shared = get_args(kind)
        info = copy(shared)
    elif default is parameter.empty:
        info = typer.Argument()
    else:
        info = typer.Option(*[f"--{display_name(parameter.name)}"] * (default is False))
    info.help = words
    return Annotated[kind, info]


def comma_separated(text: str) -> list[str]:
    """The parts of a list that are not empty, without spaces around them."""
    return [part.strip() for part in text.split(",") if part.strip()]


def chosen_device(device: str) -> str:
    """The device of a name: "auto" is a GPU if there is one.

    Raises:
        UsageError: torch does not know the device.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"unknown device '{device}': take cpu, cuda, cuda:1 or auto") from error
    return device


def chosen_backbone(
    method: str,
    backbone: str,
    backbone_config: str | None,
    pretrained: str | None,
    device: str,
    precision: Any,
) -> Backbone:
    """The backbone that the options named in `BACKBONE` ask for, to be used by one method.

    Raises:
        UsageError, WeightsError: see `chosen_device` and `weights.load_backbone`.
    """
    from ..weights import load_backbone

    if backbone == PUBLISHED:
        spec = registry.method_class(method).backbone_spec
        backbone, pretrained = spec.name, spec.pretrained
    return load_backbone(backbone, pretrained, backbone_config, chosen_device(device), precision)


def method_table(method: str, options: Sequence[str]) -> dict[str, Any]:
    """NAME@VARIANT and the options that concern it, as a plan's table."""
    name, _, variant = method.partition("@")
    own: dict[str, Any] = {}
    for text in options:
        target, key, value = method_option(text)
        if target == registry_name(name):
            own[key] = value
    return {"name": name, "variant": variant or None, "options": own}


def method_option(text: str) -> tuple[str, str, Any]:
    """The method, the option and the value of METHOD.NAME=VALUE.

    The value is TOML (number, true, "text", [1, 2]) or else plain text.

    Raises:
        UsageError: a part is missing.
    """
    target, dot, rest = text.partition(".")
    key, equals, value = rest.partition("=")
    if not (dot and equals and key):
        raise UsageError(f"--option takes METHOD.NAME=VALUE, not '{text}'")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    parsed = tuple(parsed) if isinstance(parsed, list) else parsed
    return registry_name(target), key.strip(), parsed


def dataset_options(
    pairs: Sequence[str], names: Sequence[str], auxiliaries: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Options of datasets from "NAME=VALUE" or "DATASET.NAME=VALUE".

    Values are read as JSON, or as text where they are not JSON.

    >>> dataset_options(["mask_threshold=127", "kvasir.missing=skip"], ["kvasir"])
    {'kvasir': {'mask_threshold': 127, 'missing': 'skip'}}

    Args:
        pairs: as they were given.
        names: the datasets that the command names; the prefix may be left out where it is one.
        auxiliaries: further datasets, by registry name, that methods are trained on.

    Returns:
        The options of each of the datasets, by registry name.

    Raises:
        UsageError: a pair has no "=", names another dataset or none where it must, or an option
            that the dataset does not have.
    """
    named = dict.fromkeys(registry.resolve("dataset", name).name for name in names)
    options: dict[str, dict[str, Any]] = {name: {} for name in (*named, *auxiliaries)}
    for pair in pairs:
        left, equals, text = pair.partition("=")
        target, _, key = left.rpartition(".")
        if not equals or not key.strip():
            raise UsageError(f"--dataset-option takes [DATASET.]NAME=VALUE, not '{pair}'")
        if not target and len(named) != 1:
            raise UsageError(
                f"--dataset-option {pair}: several datasets are named, so say which is meant: "
                f"DATASET.{pair}"
            )
        name = registry.resolve("dataset", target).name if target else next(iter(options))
        if name not in options:
            raise UsageError(
                f"--dataset-option {pair}: {target} is not among the named datasets, and no method "
                "is trained on it: leave the option out"
            )
        known = registry.dataset_class(name).option_defaults
        key = known_name(f"option of dataset {display_name(name)}", key.strip(), known)
        options[name][key] = _json_or_text(text)
    return options


def chosen_dataset(name: str, data_root: Path | None, pairs: Sequence[str] | None) -> Dataset:
    """The dataset that a verb's only name and its --data-root and --dataset-option mean.

    Raises:
        UsageError, DataError: see `dataset_options` and `registry.load_dataset`.
    """
    options: Mapping[str, Any] = dataset_options(pairs or [], parts_named(name))
    if len(options) == 1:
        (options,) = options.values()
    return registry.load_dataset(name, data_root, **options)


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def with_dataset_options(plan: Plan, pairs: Sequence[str]) -> Plan:
    """A plan with options laid over those of its datasets, of target and auxiliary ones alike."""
    auxiliaries = plan.auxiliaries()
    given = dataset_options(pairs, [entry.name for entry in plan.datasets], list(auxiliaries))
    return dataclasses.replace(
        plan,
        datasets=tuple(
            dataclasses.replace(entry, options={**entry.options, **given[entry.name]})
            for entry in plan.datasets
        ),
        auxiliary_options={
            **plan.auxiliary_options,
            **{
                name: {**entry.options, **given[name]}
                for name, entry in auxiliaries.items()
                if given[name]
            },
        },
    )


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress]:
    """Progress on a terminal; the first Ctrl-C stops after the batch, the second at once."""
    from ..progress import Progress

    progress = Progress(bar=not quiet and sys.stderr.isatty())

    def stop(number: int, frame: Any) -> None:
        if progress.stop.is_set():
            raise KeyboardInterrupt
        echo("\nstopping after this batch; Ctrl-C again stops at once", err=True)
        progress.stop.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield progress
    finally:
        signal.signal(signal.SIGINT, before)
