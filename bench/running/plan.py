"""What a run is to do: methods x variants x datasets x seeds, and the plan file that says so."""

from __future__ import annotations

import dataclasses
import itertools
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from .. import registry
from ..errors import UsageError, unknown_name
from ..files import read_json
from ..names import display_name, known_keys, normalize_name, registry_name
from ..options import DEFAULT_SEED
from ..records.cell import Cell, labelled

DEFAULT_OUT = Path("results/runs/builtin")
PUBLISHED = "published"
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9 ._-]{0,38}[A-Za-z0-9._-])?")
Retry = Literal["failed", "never", "always"]


@dataclass(frozen=True)
class MethodPlan:
    """A method of the plan: a variant with some options, perhaps with given learned weights.

    Attributes:
        checkpoint: auxiliary dataset -> the files of the checkpoint learned on it; "" is a
            checkpoint of which nobody has said what it was learned on. Empty: the method is
            trained by the run. Each target takes the one that it may, see `learned.choose`.
        label: tells it from another entry of the same method, variant and options.
    """

    name: str
    variant: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True)
class DatasetPlan:
    """A dataset of the plan.

    Attributes:
        root: its folder; None looks below the plan's data root.
        label: tells it from another entry of the same dataset.
    """

    name: str
    root: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def target(self) -> str:
        """The name that its cells have as `Cell.target`."""
        return labelled(registry_name(self.name), self.label)


@dataclass(frozen=True)
class Plan:
    """Everything that a run depends on. Equal plans give equal tables.

    Attributes:
        methods, datasets, seeds: the grid; training-free methods run with the first seed only.
        out: the run directory.
        data_root: the folder that holds the datasets' folders.
        backbone: "tiny", NAME[:PRETRAINED], or "published" for the one each method was published
            with.
        backbone_config: a model-config json in the place of a name.
        pretrained: a tag or a file, where the backbone's name does not say it.
        map_size: side at which maps and masks are compared; None is the method's own.
        auxiliary: dataset to learn from; None follows the protocol (MVTec AD for all others, VisA
            for MVTec AD, synthetic-aux for the built-in set).
        auxiliary_split: "test", or "all" for the train and the test split; None follows each
            method: the test split in all released codes.
        auxiliary_options: options of datasets to learn from, by registry name.
        save_prompt_scores: keep what each abnormal prompt alone says of each patch, for t-SNE.
        limit: at most so many images per category and label, to try things out; None is all.
        retry: which finished cells are done again.
        keep_old: keep finished cells that were made by other code, which are done again otherwise.
    """

    methods: tuple[MethodPlan, ...]
    datasets: tuple[DatasetPlan, ...]
    seeds: tuple[int, ...] = (DEFAULT_SEED,)
    out: str = str(DEFAULT_OUT)
    data_root: str | None = None
    backbone: str = "tiny"
    backbone_config: str | None = None
    pretrained: str | None = None
    device: str = "cpu"
    precision: Literal["fp64", "fp32", "fp16", "bf16"] = "fp32"
    batch_size: int = 8
    workers: int = 0
    map_size: int | None = None
    auxiliary: str | None = None
    auxiliary_split: Literal["test", "all"] | None = None
    auxiliary_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    limit: int | None = None
    save_maps: bool = False
    save_prompt_scores: bool = False
    gallery: int = 2
    retry: Retry = "failed"
    keep_old: bool = False

    def jobs(self) -> list[Job]:
        """The cells with their entries, dataset by dataset; imports the methods."""
        found: list[Job] = []
        for dataset, method in itertools.product(self.datasets, self.methods):
            cls = registry.method_class(method.name)
            trained = not method.checkpoint and str(cls.supervision) == "auxiliary-trained"
            auxiliary = self._auxiliary_of(dataset)
            found += [
                Job(
                    Cell(
                        method=registry.resolve("method", method.name).name,
                        variant=method.variant or cls.default_variant,
                        dataset=registry.resolve("dataset", dataset.name).name,
                        seed=seed,
                        options=dict(method.options),
                        label=method.label,
                        dataset_label=dataset.label,
                    ),
                    method,
                    dataset if dataset.root is not None else replace(dataset, root=self.data_root),
                    auxiliary,
                    trained,
                )
                for seed in (self.seeds if trained else self.seeds[:1])
            ]
        return found

    def cells(self) -> list[Cell]:
        """The cells of the jobs."""
        return [job.cell for job in self.jobs()]

    def auxiliaries(self) -> dict[str, DatasetPlan]:
        """The datasets that methods of the plan are trained on by the run, by registry name."""
        return {job.auxiliary.name: job.auxiliary for job in self.jobs() if job.trained}

    def _auxiliary_of(self, dataset: DatasetPlan) -> DatasetPlan:
        """What methods are trained on before they are tested on `dataset`.

        Its options are those that `auxiliary_options` has for it; else, as it is then one dataset
        that is trained on and tested on, those of its own entry in the plan. Entries with a root or
        a label of their own are other copies, or other uses, and do not count. A name that the
        registry does not know stays as it is; opening that dataset says so.
        """
        name = self.auxiliary or registry.dataset_class(dataset.name).auxiliary
        try:
            name = registry.resolve("dataset", name).name
        except UsageError:
            name = registry_name(name)
        own = (e.options for e in self.datasets if e.target == name and e.root is None)
        given = name in self.auxiliary_options
        options = self.auxiliary_options[name] if given else next(own, {})
        return DatasetPlan(name, self.data_root, options)


@dataclass(frozen=True)
class Job:
    """A cell with the plan's entries that it came from.

    Attributes:
        cell: the key of its record.
        dataset: with the root that it is looked for below.
        auxiliary: the dataset that a trained method learns from, with root and options.
        trained: the run trains the method.
    """

    cell: Cell
    method: MethodPlan
    dataset: DatasetPlan
    auxiliary: DatasetPlan
    trained: bool


def make_plan(
    methods: Iterable[str | Mapping[str, Any]] = ("all",),
    datasets: Iterable[str | Mapping[str, Any]] = ("synthetic",),
    **settings: Any,
) -> Plan:
    """A checked plan.

    Args:
        methods: names, "name@variant", "all", or tables with name, variant, options, sweep (option
            -> list of values; all combinations), checkpoint (a file, a list of files, or a table
            of auxiliary dataset -> file or files), learned_from (the auxiliary dataset of a
            checkpoint that is no table) and label (tells two entries of one method apart).
        datasets: names, "all", or tables with name, root, options and label.
        **settings: the other fields of `Plan`.

    Raises:
        UsageError: an unknown name, variant, option or setting, or an empty grid.
    """
    known = {f.name for f in dataclasses.fields(Plan)} - {"methods", "datasets"}
    for name in settings:
        if name not in known:
            raise unknown_name("setting of a plan", name, known | {"methods", "datasets"})
    chosen = [plan for item in methods for plan in _methods(item)]
    targets = [plan for item in datasets for plan in _datasets(item)]
    if not chosen or not targets:
        raise UsageError("a plan needs at least one method and one dataset")
    if "seeds" in settings:
        settings["seeds"] = _seeds(settings["seeds"])
    for name in ("out", "data_root", "backbone_config", "pretrained"):
        if isinstance(settings.get(name), Path):
            settings[name] = str(settings[name])
    if "auxiliary_options" in settings:
        settings["auxiliary_options"] = _auxiliary_options(settings["auxiliary_options"])
    chosen, targets = _unique(map(_resolved, chosen)), _unique(targets)
    _refuse_shared_cells(chosen, targets)
    plan = Plan(tuple(chosen), tuple(targets), **settings)
    _check_settings(plan)
    return plan


def read_plan(path: Path) -> Plan:
    """A plan from a TOML file, or from the JSON that a run stores.

    Raises:
        UsageError: the file is missing or no plan; names what is wrong.
    """
    return make_plan(**read_plan_settings(path))


def read_plan_settings(path: Path) -> dict[str, Any]:
    """What a plan file says, as `make_plan` takes it; "method" and "dataset" may be singular.

    Raises:
        UsageError: the file is missing, unreadable or no table.
    """
    try:
        raw = read_json(path) if path.suffix == ".json" else tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"plan file {path} does not exist") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"plan file {path} is not readable ({error})") from error
    if not isinstance(raw, dict):
        raise UsageError(f"plan file {path} must be a table of settings")
    for one, many in (("method", "methods"), ("dataset", "datasets")):
        if one in raw:
            raw[many] = raw.pop(one)
        if many in raw and not isinstance(raw[many], list):
            raise UsageError(f"'{many}' in plan file {path} must be a list")
    return {registry_name(key): value for key, value in raw.items()}


def _resolved(method: MethodPlan) -> MethodPlan:
    """The entry with its variant's name, so that two that mean the same are equal."""
    from ..method import variant_name

    variant = variant_name(registry.method_class(method.name), method.variant)
    return dataclasses.replace(method, variant=variant)


def _refuse_shared_cells(methods: Sequence[MethodPlan], datasets: Sequence[DatasetPlan]) -> None:
    """Raise `UsageError` if two entries would write the same records."""
    cells = [(m.name, m.variant, m.options, normalize_name(m.label)) for m in methods]
    names = [(d.name, normalize_name(d.label)) for d in datasets]
    for method, cell in zip(methods, cells, strict=True):
        if cells.count(cell) > 1:
            raise UsageError(
                f"method '{display_name(f'{method.name}@{method.variant}')}' is in the plan twice "
                "with different checkpoints, whose records would have one name: give one of them a "
                'label of its own in the plan file (label = "mine")'
            )
    for name, label in names:
        if names.count((name, label)) > 1:
            raise UsageError(
                f"dataset '{name}' is in the plan twice with different roots or options, whose "
                "records would have one name: give one of them a label of its own in the plan file "
                '(label = "copy")'
            )


def _unique(items: Iterable[Any]) -> list[Any]:
    """Items in order without repetitions; they need no hash."""
    kept: list[Any] = []
    for item in items:
        if item not in kept:
            kept.append(item)
    return kept


def all_methods() -> list[str]:
    """The methods that "all" means."""
    names = registry.sound_names("method")
    return [name for name in names if registry.method_class(name).in_benchmark]


def _methods(item: str | Mapping[str, Any]) -> list[MethodPlan]:
    """One entry of the list of methods; a sweep gives several."""
    from ..method import make_options, variant_name

    if isinstance(item, MethodPlan):
        return [item]
    if isinstance(item, str):
        if item == "all":
            return [MethodPlan(name) for name in all_methods()]
        name, _, variant = item.partition("@")
        item = {"name": name, "variant": variant or None}
    known = {"name", "variant", "options", "sweep", "checkpoint", "learned_from", "label"}
    table = _table("method", item, known)
    if not isinstance(table.get("variant"), str | None):
        raise UsageError(f"variant of method '{table['name']}' is text, not {table['variant']!r}")
    cls = registry.method_class(table["name"])
    variant = variant_name(cls, table.get("variant"))
    names = [option.name for option in dataclasses.fields(cls.variants[variant])]
    options, sweep = (
        known_keys(f"option of method {cls.title}", _options(table, key), names)
        for key in ("options", "sweep")
    )
    checkpoint, label = _checkpoint(table), _label(table)
    for option, values in sweep.items():
        if not isinstance(values, list):
            raise UsageError(f"sweep of option '{option}' must be a list of values")
    plans = []
    for combination in itertools.product(*sweep.values()):
        combined = {**options, **dict(zip(sweep, combination, strict=True))}
        combined = {k: tuple(v) if isinstance(v, list) else v for k, v in combined.items()}
        make_options(cls, variant, combined)
        resolved = registry.resolve("method", table["name"]).name
        plans.append(MethodPlan(resolved, variant, combined, checkpoint, label))
    return plans


def _checkpoint(table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The checkpoints of a method's table, in the form of `MethodPlan.checkpoint`.

    Raises:
        UsageError: neither file, files nor a table of them, an unknown auxiliary dataset, or
            `learned_from` without a checkpoint.
    """
    name, given, learned_from = table["name"], table.get("checkpoint"), table.get("learned_from")
    if not isinstance(learned_from, str | None):
        raise UsageError(f"learned_from of method '{name}' is a dataset, not {learned_from!r}")
    if given is None or given == {}:
        if learned_from:
            raise UsageError(
                f"learned_from of method '{name}' says what a checkpoint was learned from, and it "
                "has none: add checkpoint"
            )
        return {}
    said = registry.resolve("dataset", learned_from).name if learned_from else ""
    found: dict[str, tuple[str, ...]] = {}
    for auxiliary, files in (given if isinstance(given, Mapping) else {"": given}).items():
        listed = [files] if isinstance(files, str) else files
        if not (isinstance(listed, list | tuple) and listed and all(map(_is_text, listed))):
            raise UsageError(f"checkpoint of method '{name}' is a file or files, not {files!r}")
        key = registry.resolve("dataset", auxiliary).name if auxiliary else said
        found[key] = (*found.get(key, ()), *listed)
    return found


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _datasets(item: str | Mapping[str, Any]) -> list[DatasetPlan]:
    """One entry of the list of datasets."""
    if isinstance(item, DatasetPlan):
        return [item]
    if isinstance(item, str):
        if item == "all":
            from ..data.check import benchmark_names

            return [DatasetPlan(name) for name in benchmark_names()]
        item = {"name": item}
    table = _table("dataset", item, {"name", "root", "options", "label"})
    name = registry.resolve("dataset", table["name"]).name
    if not isinstance(table.get("root"), str | None):
        raise UsageError(f"root of dataset '{name}' is a folder's name, not {table['root']!r}")
    options = _dataset_options(name, _options(table, "options"))
    return [DatasetPlan(name, table.get("root"), options, _label(table))]


def _dataset_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a dataset under their own names."""
    known = registry.dataset_class(name).option_defaults
    return known_keys(f"option of dataset {display_name(name)}", given, known)


def _label(table: Mapping[str, Any]) -> str:
    """The label of a method's or dataset's table, "" without one.

    Raises:
        UsageError: it is not a text that can stand in tables and file names.
    """
    label = table.get("label", "")
    if not isinstance(label, str) or (label and not LABEL.fullmatch(label)):
        raise UsageError(
            f"label of '{table['name']}' is at most 40 letters, digits, spaces, '-', '_' and '.', "
            f"the first and the last no space, not {label!r}"
        )
    return label


def _options(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    given = table.get(key) or {}
    if not isinstance(given, Mapping):
        raise UsageError(f"'{key}' of '{table['name']}' is a table, not {given!r}")
    return dict(given)


def _table(kind: str, item: Any, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        raise UsageError(f"a {kind} of a plan is a name or a table with a name, not {item!r}")
    return known_keys(f"key of a {kind} in a plan", item, known)


def _auxiliary_options(value: Any) -> dict[str, dict[str, Any]]:
    """Options by registry name of the dataset.

    Raises:
        UsageError: no table of tables, or an unknown dataset or option.
    """
    if not isinstance(value, Mapping):
        raise UsageError(f"'auxiliary_options' is a table of datasets, not {value!r}")
    found: dict[str, dict[str, Any]] = {}
    for dataset in value:
        name, options = registry.resolve("dataset", dataset).name, value[dataset]
        if not isinstance(options, Mapping):
            raise UsageError(f"'auxiliary_options' of '{dataset}' is a table, not {options!r}")
        found[name] = _dataset_options(name, options)
    return found


def _seeds(value: Any) -> tuple[int, ...]:
    seeds = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not seeds or not all(isinstance(s, int) and not isinstance(s, bool) for s in seeds):
        raise UsageError(f"seeds are whole numbers, not {value!r}")
    return seeds


def _check_settings(plan: Plan) -> None:
    choices = {
        "precision": ("fp64", "fp32", "fp16", "bf16"),
        "auxiliary_split": ("test", "all"),
        "retry": ("failed", "never", "always"),
    }
    for name, allowed in choices.items():
        value = getattr(plan, name)
        if value is None and name == "auxiliary_split":
            continue
        if not isinstance(value, str) or value not in allowed:
            raise unknown_name(f"value of '{name}'", str(value), allowed)
    least = {"batch_size": 1, "workers": 0, "gallery": 0, "map_size": 8, "limit": 1}
    for name, lowest in least.items():
        value = getattr(plan, name)
        optional = value is None and name in ("map_size", "limit")
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not optional and not (whole and value >= lowest):
            raise UsageError(f"'{name}' is a whole number of at least {lowest}, not {value!r}")
    texts = ("out", "data_root", "backbone", "backbone_config", "pretrained", "device", "auxiliary")
    for name in texts:
        text = getattr(plan, name)
        if text is not None and not isinstance(text, str):
            raise UsageError(f"'{name}' is text, not {text!r}")
    if not plan.out.strip():
        raise UsageError("'out' is an empty path: name a folder or leave it out")
    for name in ("save_maps", "save_prompt_scores", "keep_old"):
        if not isinstance(getattr(plan, name), bool):
            raise UsageError(f"'{name}' is true or false, not {getattr(plan, name)!r}")
    if plan.auxiliary is not None:
        registry.resolve("dataset", plan.auxiliary)
    auxiliaries = plan.auxiliaries() if plan.auxiliary_options else {}
    for dataset in plan.auxiliary_options:
        if dataset not in auxiliaries:
            raise UsageError(
                f"'auxiliary_options' has options of dataset '{dataset}', which no method of the "
                "plan is trained on: remove them"
            )
