"""What a run is to do: methods x variants x datasets x seeds, and the plan file that says so."""

from __future__ import annotations

import dataclasses
import itertools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_type_hints

from annotated_types import Ge

from .. import registry
from ..errors import UsageError, reading
from ..files import read_json
from ..json_fields import fault_of
from ..metric_table import chosen_metrics
from ..names import display_name, known_keys, parts_named, registry_name
from ..options import DEFAULT_SEED, AuxiliarySplit
from ..records.cell import Cell
from ..track import Track
from .plan_entries import (
    ALL,
    DatasetPlan,
    MethodPlan,
    dataset_entries,
    dataset_options,
    method_entries,
)

PUBLISHED = "published"
BUILT_IN_SET = "synthetic"
AUTO: Final = "auto"
USUAL = 8  # images per visual forward on a CPU, where more are not faster


@dataclass(frozen=True)
class Plan:
    """Everything that a run depends on. Equal plans give equal tables.

    Every field is a key of plan files; `zsad run` has an option for each, whose help is read from
    here. Methods that neither learn nor are shown normal images run with the first seed only. The
    backbone "published" is for each method the one that it was published with. Where `auxiliary` is
    None, the protocol decides (MVTec AD for all others, VisA for MVTec AD, synthetic-aux for the
    built-in set), and each method which split of it; other settings that are None limit or change
    nothing. A profile waits for a GPU around each stage, so that their seconds can be told apart.

    Attributes:
        methods: Comma-separated; name@variant; all; all-known.
        datasets: Comma-separated; all; all-known; builtin-all.
        seeds: Comma-separated training seeds.
        out: Run directory.
        data_root: Folder that holds the datasets' folders, or one dataset's own.
        backbone: tiny, NAME[:PRETRAINED or FILE], or published.
        backbone_config: An open_clip model-config json instead of a name.
        pretrained: A pretrained tag or a checkpoint file.
        device: cpu, cuda, cuda:1; auto takes a GPU if there is one.
        precision: fp32, fp64, or lower in the visual tower: tf32 (on CUDA), fp16, bf16.
        compile: Compile the visual forward, where torch can.
        batch_size: Images per visual forward; auto: 8 on a CPU, what memory holds on a GPU.
        workers: Processes that read images.
        map_size: Compare all maps at this size.
        auxiliary: Dataset to train on.
        auxiliary_split: test, or all for train and test. [default: each method's own]
        auxiliary_limit: Images per category and label to train on.
        auxiliary_options: Options of datasets to learn from, by registry name.
        feature_precision: full, or fp16: methods learn from features rounded to half the bytes.
        limit: Images per category and label.
        save_maps: Keep raw maps.
        save_prompt_scores: Keep the scores of each prompt, for t-SNE.
        gallery: Images to show for each of four choices, of each category; 0 is none.
        retry: failed, never or always.
        keep_old: Keep finished cells of other code.
        profile: Print and record the seconds of each stage.
        metrics: Which are measured; none are all but those that score further images.
    """

    methods: tuple[MethodPlan, ...]
    datasets: tuple[DatasetPlan, ...]
    seeds: tuple[int, ...] = (DEFAULT_SEED,)
    out: str = "results/runs/builtin"
    data_root: str | None = None
    backbone: str = "tiny"
    backbone_config: str | None = None
    pretrained: str | None = None
    device: str = "cpu"
    precision: Literal["fp64", "fp32", "tf32", "fp16", "bf16"] = "fp32"
    compile: bool = False
    batch_size: Annotated[int, Ge(1)] | Literal["auto"] = AUTO
    workers: Annotated[int, Ge(0)] = 0
    map_size: Annotated[int, Ge(8)] | None = None
    auxiliary: str | None = None
    auxiliary_split: AuxiliarySplit | None = None
    auxiliary_limit: Annotated[int, Ge(1)] | None = None
    auxiliary_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    feature_precision: Literal["full", "fp16"] = "full"
    limit: Annotated[int, Ge(1)] | None = None
    save_maps: bool = False
    save_prompt_scores: bool = False
    gallery: Annotated[int, Ge(0)] = 2
    retry: Literal["failed", "never", "always"] = "failed"
    keep_old: bool = False
    profile: bool = False
    metrics: tuple[str, ...] = ()

    @property
    def measured(self) -> tuple[str, ...]:
        """The metrics that are measured, in their order."""
        return chosen_metrics(self.metrics)

    def jobs(self) -> list[Job]:
        """The cells with their entries, dataset by dataset; imports the methods."""
        found: list[Job] = []
        for dataset, method in itertools.product(self.datasets, self.methods):
            supervision = registry.method_class(method.name).supervision
            trained = not method.checkpoint and str(supervision) == "auxiliary-trained"
            located = dataset if dataset.root is not None else replace(dataset, root=self.data_root)
            auxiliary = self._auxiliary_of(dataset)
            seeded = trained or _track_of(method).has_references
            for seed in self.seeds if seeded else self.seeds[:1]:
                cell = Cell(
                    method=method.name,
                    variant=method.variant,
                    dataset=dataset.name,
                    seed=seed,
                    options=dict(method.options),
                    label=method.label,
                    dataset_label=dataset.label,
                )
                found.append(Job(cell, method, located, auxiliary, trained))
        return found

    def cells(self) -> list[Cell]:
        """The cells of the jobs."""
        return [job.cell for job in self.jobs()]

    def auxiliaries(self) -> dict[str, DatasetPlan]:
        """The datasets that methods of the plan are trained on by the run, by registry name.

        Those of a union are listed one by one.
        """
        names = {job.auxiliary.name for job in self.jobs() if job.trained}
        parts = sorted({part for name in names for part in parts_named(name)})
        return {part: DatasetPlan(part, self.data_root, self._options_of(part)) for part in parts}

    def _auxiliary_of(self, dataset: DatasetPlan) -> DatasetPlan:
        """What methods are trained on before they are tested on `dataset`.

        Its options are those that `auxiliary_options` has for it; else, as it is then one dataset
        that is trained on and tested on, those of its own entry in the plan. Entries with a root or
        a label of their own are other copies, or other uses, and do not count. A name that the
        registry does not know stays as it is; opening that dataset says so.
        """
        name = self.auxiliary or registry.dataset_class(dataset.name).auxiliary
        try:
            name = registry.union_name(name)
        except UsageError:
            name = registry_name(name)
        options = {part: self._options_of(part) for part in parts_named(name)}
        whole = options if len(options) > 1 else options[name]
        return DatasetPlan(name, self.data_root, whole)

    def _options_of(self, auxiliary: str) -> Mapping[str, Any]:
        """Of a dataset that is learned from."""
        own = (e.options for e in self.datasets if e.target == auxiliary and e.root is None)
        given = auxiliary in self.auxiliary_options
        return self.auxiliary_options[auxiliary] if given else next(own, {})


def _track_of(method: MethodPlan) -> Track:
    from ..method import make_options  # imports torch

    cls = registry.method_class(method.name)
    return cls.track_of(make_options(cls, method.variant, method.options))


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
    methods: Iterable[str | Mapping[str, Any]] = (ALL,),
    datasets: Iterable[str | Mapping[str, Any]] = (BUILT_IN_SET,),
    **settings: Any,
) -> Plan:
    """A checked plan.

    Args:
        methods: names, "name@variant", "all", "all-known" (see `methods_meant_by`), or tables with
            name, variant, options, sweep (option -> list of values; all combinations), checkpoint
            (a file, a list of files, or a table of auxiliary dataset -> file or files),
            learned_from (the auxiliary dataset of a checkpoint that is not given as a table) and
            label (tells two entries of one method apart).
        datasets: names, "all", "all-known", "builtin-all" (see `data.check.SEVERAL`), or tables
            with name, root, options and label.
        **settings: the other fields of `Plan`.

    Raises:
        UsageError: an unknown name, variant, option or setting, or an empty grid.
    """
    names = [item.name for item in dataclasses.fields(Plan)]
    settings = known_keys("setting of a plan", settings, names)
    chosen, targets = method_entries(methods), dataset_entries(datasets)
    if not chosen or not targets:
        raise UsageError("a plan needs at least one method and one dataset")
    for name, value in settings.items():
        settings[name] = str(value) if isinstance(value, Path) else value
    if "seeds" in settings:
        settings["seeds"] = _seeds(settings["seeds"])
    if "metrics" in settings:
        settings["metrics"] = _metrics(settings["metrics"])
    if "auxiliary_options" in settings:
        settings["auxiliary_options"] = _auxiliary_options(settings["auxiliary_options"])
    plan = Plan(chosen, targets, **settings)
    _check_settings(plan)
    return plan


def read_plan(path: Path) -> Plan:
    """A plan from a TOML file, or from the JSON that a run stores.

    Raises:
        UsageError: the file is missing or not a plan; names what is wrong.
    """
    return make_plan(**read_plan_settings(path))


def read_plan_settings(path: Path) -> dict[str, Any]:
    """What a plan file says, as `make_plan` takes it; "method" and "dataset" may be singular.

    Raises:
        UsageError: the file is missing, unreadable or not a table.
    """
    with reading(path, "plan file", UsageError):
        raw = read_json(path) if path.suffix == ".json" else tomllib.loads(path.read_text("utf-8"))
    if not isinstance(raw, dict):
        raise UsageError(f"plan file {path} must be a table of settings")
    for one, many in (("method", "methods"), ("dataset", "datasets")):
        if one in raw:
            raw[many] = raw.pop(one)
        if many in raw and not isinstance(raw[many], list):
            raise UsageError(f"'{many}' in plan file {path} must be a list")
    return {registry_name(key): value for key, value in raw.items()}


def _metrics(value: Any) -> tuple[str, ...]:
    """Metrics by name, with all of them in the place of "all"; none where none are named.

    Raises:
        UsageError: they are no list of names, or there is no such metric.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"'metrics' is a list of names, not {value!r}")
    return chosen_metrics(names) if names else ()


def _auxiliary_options(value: Any) -> dict[str, dict[str, Any]]:
    """Options by registry name of the dataset.

    Raises:
        UsageError: it is not a table of tables, or has an unknown dataset or option.
    """
    if not isinstance(value, Mapping):
        raise UsageError(f"'auxiliary-options' is a table of datasets, not {value!r}")
    found: dict[str, dict[str, Any]] = {}
    for dataset in value:
        name, options = registry.resolve("dataset", dataset).name, value[dataset]
        if not isinstance(options, Mapping):
            raise UsageError(f"'auxiliary-options' of '{dataset}' is a table, not {options!r}")
        found[name] = dataset_options(name, options)
    return found


def _seeds(value: Any) -> tuple[int, ...]:
    seeds = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if not seeds or not all(type(seed) is int for seed in seeds):
        raise UsageError(f"seeds are whole numbers, not {value!r}")
    return seeds


def _check_settings(plan: Plan) -> None:
    for name, kind in get_type_hints(Plan, include_extras=True).items():
        if fault := fault_of(getattr(plan, name), kind):
            raise UsageError(f"'{display_name(name)}' {fault}")
    if not plan.out.strip():
        raise UsageError("'out' is an empty path: name a folder or leave it out")
    if plan.precision == "tf32":
        from ..backbone_spec import check_precision  # imports torch

        check_precision(plan.precision, plan.device)
    if plan.auxiliary is not None:
        registry.union_name(plan.auxiliary)
    auxiliaries = plan.auxiliaries() if plan.auxiliary_options else {}
    for dataset in plan.auxiliary_options:
        if dataset not in auxiliaries:
            raise UsageError(
                f"'auxiliary-options' has options of dataset '{display_name(dataset)}', which no "
                "method of the plan is trained on: remove them"
            )
