"""The `zsad` command: verbs are thin, what they do is in the modules they name.

Nothing heavy is imported here; a verb imports what it needs when it is called.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import registry
from ..errors import INTERRUPTED, UsageError, ZsadError
from ..names import display_name, registry_name
from ..options import DEFAULT_SEED
from . import data as cli_data
from . import report as cli_report
from . import results as cli_results
from .terminal import PrintableFormatter, echo, out_option

if TYPE_CHECKING:
    from ..data.completeness import Completeness
    from ..progress import Progress
    from ..records.record import Record
    from ..running.plan import Plan

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(cli_data.app, name="data")
cli_results.register(app)
cli_report.register(app)

CLOSED_PIPE = 141  # 128 + SIGPIPE, what a shell reports of cat or git in the same place

# Options that several verbs share.
DataRoot = Annotated[Path | None, typer.Option(help="Folder that holds the datasets' folders.")]
BackboneName = Annotated[
    str, typer.Option("--backbone", help="tiny, NAME[:PRETRAINED or FILE], or published.")
]
BackboneConfig = Annotated[
    Path | None, typer.Option(help="An open_clip model-config json in the place of a name.")
]
Pretrained = Annotated[str | None, typer.Option(help="A pretrained tag or a checkpoint file.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1; auto takes a GPU if there is one.")]
Precision = Annotated[str, typer.Option(help="fp32, fp64, or autocast to fp16 or bf16.")]
MethodOptions = Annotated[
    list[str] | None,
    typer.Option("--option", help="METHOD.NAME=VALUE, may be repeated."),
]
DatasetOptions = cli_data.Options
Checkpoints = Annotated[
    list[str] | None,
    typer.Option(
        "--checkpoint",
        help="METHOD.AUXILIARY=FILE: learned weights; METHOD=FILE if its header names the dataset "
        "that it was learned on, or nobody knows. May be repeated.",
    ),
]
LearnedFrom = Annotated[
    str | None,
    typer.Option(help="Dataset that checkpoints without a header or AUXILIARY were learned on."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]
PlanFile = Annotated[Path | None, typer.Argument(help="A plan file (TOML).")]
Methods = Annotated[str, typer.Option(help="Comma-separated; name@variant; all.")]
Datasets = Annotated[str, typer.Option(help="Comma-separated; all.")]
RunFolder = Annotated[Path | None, out_option(help="Run directory.")]
Seeds = Annotated[str, typer.Option(help="Comma-separated training seeds.")]
Auxiliary = Annotated[str | None, typer.Option(help="Dataset to learn from.")]
AuxiliarySplit = Annotated[
    str | None,
    typer.Option(help="test, or all for train and test. [default: each method's own]"),
]
Limit = Annotated[int | None, typer.Option(help="Images per category and label.")]


def main() -> None:
    """Entry point: errors become one line and an exit code.

    0: done. 1: the verb did its work and its answer is no (`typer.Exit(1)`, or an error whose
    `exit_code` says so). 2: it could not do its work, whatever the reason. 130: the user
    interrupted it. 141: nobody reads its output any more.
    """
    lines = logging.StreamHandler()
    lines.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(handlers=[lines], level=logging.WARNING)
    try:
        _report_errors()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _drop_output()
        sys.exit(CLOSED_PIPE)


def _report_errors() -> None:
    """Run the verb; an error becomes one line, a fault of the program its traceback."""
    try:
        _run_verb()
    except ZsadError as error:
        echo(f"zsad: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a folder that must not be written
        echo(f"zsad: {error}", err=True)
        sys.exit(2)
    except Exception:  # a fault of the program: Python's own exit code would say "the answer is no"
        echo(traceback.format_exc(), err=True)
        sys.exit(2)


def _run_verb() -> None:
    """Run the verb; what typer turns into an exit code of 1 is raised as it was.

    typer does so with a broken pipe and an end of file, its older versions with an interrupt too.
    """
    try:
        app()
    except SystemExit as end:
        hidden: BaseException | None = end
        while hidden is not None:
            if isinstance(hidden, (KeyboardInterrupt, BrokenPipeError, EOFError)):
                raise hidden from None
            hidden = hidden.__cause__ or hidden.__context__
        raise


def _drop_output() -> None:
    """Send what the streams still hold nowhere: Python would fail to write it when it ends."""
    with Path(os.devnull).open("w") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # a stream without a file
                os.dup2(nowhere.fileno(), stream.fileno())


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        echo(f"zsad {version('zsad')}")
        raise typer.Exit


@app.callback()
def every_verb(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="The version, and stop.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Compare zero-shot anomaly detection methods: run, table, check, report."""


@app.command("list")
def list_names(
    what: Annotated[str, typer.Argument(help="methods, datasets or backbones")] = "methods",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="All that is known.")] = False,
) -> None:
    """List the methods, datasets or backbones that there are."""
    if what not in ("methods", "datasets", "backbones"):
        raise UsageError(f"list takes methods, datasets or backbones, not '{what}'")
    if verbose or what == "backbones":
        from . import listing

        describe = {
            "methods": listing.describe_methods,
            "datasets": listing.describe_datasets,
            "backbones": listing.describe_backbones,
        }
        echo(describe[what]())
        return
    for name in registry.names(what.removesuffix("s")):
        echo(display_name(name))


@app.command()
def run(
    context: typer.Context,
    plan_file: PlanFile = None,
    methods: Methods = "all",
    datasets: Datasets = "synthetic",
    out: RunFolder = None,
    data_root: DataRoot = None,
    backbone: BackboneName = "tiny",
    backbone_config: BackboneConfig = None,
    pretrained: Pretrained = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    seeds: Seeds = str(DEFAULT_SEED),
    option: MethodOptions = None,
    dataset_option: DatasetOptions = None,
    checkpoint: Checkpoints = None,
    learned_from: LearnedFrom = None,
    auxiliary: Auxiliary = None,
    auxiliary_split: AuxiliarySplit = None,
    batch_size: Annotated[int, typer.Option(help="Images per visual forward.")] = 8,
    workers: Annotated[int, typer.Option(help="Processes that read images.")] = 0,
    map_size: Annotated[int | None, typer.Option(help="Compare all maps at this size.")] = None,
    limit: Limit = None,
    save_maps: Annotated[bool, typer.Option("--save-maps", help="Keep raw maps.")] = False,
    save_prompt_scores: Annotated[
        bool, typer.Option("--save-prompt-scores", help="Keep what each prompt says, for t-SNE.")
    ] = False,
    gallery: Annotated[int, typer.Option(help="Best and worst cases to keep; 0 is none.")] = 2,
    retry: Annotated[str, typer.Option(help="failed, never or always.")] = "failed",
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Keep finished cells made by other code.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Processes, sharing what GPUs there are. "
            "[default: 1; one per core, up to 4, for the built-in backbone on a CPU]"
        ),
    ] = None,
    parallel: Annotated[str, typer.Option(help="loky, threads or dask.")] = "loky",
    scheduler: Annotated[str | None, typer.Option(help="tcp://... of a Dask cluster.")] = None,
    shard: Annotated[
        str, typer.Option(help="i/n: every n-th unit from the i-th (0-based).")
    ] = "0/1",
    quiet: Quiet = False,
) -> None:
    """Compare methods on datasets and print the tables; the same command again goes on.

    Without arguments: all methods on the built-in set with the built-in backbone.
    """
    from ..running import parallel as engine

    plan = _plan(context, plan_file)
    with _progress(quiet) as progress:
        engine.run(
            plan,
            progress,
            jobs=jobs,
            backend="dask" if scheduler else parallel,
            scheduler=scheduler,
            shard=_shard(shard),
        )
    _summary(plan)


@app.command("plan")
def show_plan(
    context: typer.Context,
    plan_file: PlanFile = None,
    methods: Methods = "all",
    datasets: Datasets = "synthetic",
    out: RunFolder = None,
    data_root: DataRoot = None,
    backbone: BackboneName = "tiny",
    backbone_config: BackboneConfig = None,
    pretrained: Pretrained = None,
    device: Device = "auto",
    seeds: Seeds = str(DEFAULT_SEED),
    option: MethodOptions = None,
    dataset_option: DatasetOptions = None,
    checkpoint: Checkpoints = None,
    learned_from: LearnedFrom = None,
    auxiliary: Auxiliary = None,
    limit: Limit = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Show what a run would do: cells, what is done, time, missing data and weights."""
    from ..running.dry_run import outlook

    view = outlook(_plan(context, plan_file))
    echo(view.to_json() if as_json else view.to_text())
    raise typer.Exit(0 if view.ready else 1)


@app.command()
def train(
    method: Annotated[str, typer.Argument(help="NAME or NAME@VARIANT")],
    on: Annotated[str, typer.Option(help="The auxiliary dataset.")],
    out: Annotated[Path, out_option(help="Where the learned weights go (safetensors).")],
    data_root: DataRoot = None,
    backbone: BackboneName = "tiny",
    backbone_config: BackboneConfig = None,
    pretrained: Pretrained = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    split: AuxiliarySplit = None,
    seed: Annotated[int, typer.Option(help="Of initial values and order.")] = DEFAULT_SEED,
    option: MethodOptions = None,
    dataset_option: DatasetOptions = None,
    workers: Annotated[int, typer.Option(help="Processes that read images.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Fit a trainable method on an auxiliary dataset; the same command again goes on."""
    from ..running.plan import make_plan
    from ..running.prepare import train_one
    from ..training.loop import refuse_unwritable
    from ..training.user_checkpoint import learned_from

    plan = make_plan(
        [_method_table(method, option or [])],
        [on],
        data_root=data_root,
        backbone=backbone,
        backbone_config=backbone_config,
        pretrained=pretrained,
        device=_device(device),
        precision=precision,
        auxiliary=on,
        auxiliary_split=split,
        seeds=(seed,),
        workers=workers,
    )
    plan = _with_dataset_options(plan, dataset_option or [])
    refuse_unwritable(out)
    with _progress(quiet) as progress:
        done = train_one(plan, out, progress)
    echo(f"{done.path}: {done.method.title}, {done.seconds:.0f} s")
    source = learned_from(done.provenance)
    if source is not None and source.completeness is not None and source.completeness.gap:
        echo(f"warning: {on} is {source.completeness.gap}", err=True)


@app.command()
def predict(
    method: Annotated[str, typer.Argument(help="NAME or NAME@VARIANT")],
    images: Annotated[list[Path], typer.Argument(help="Image files or folders.")],
    out: Annotated[Path, out_option(help="Folder for overlays, maps and scores.")],
    class_name: Annotated[str, typer.Option(help="What is in the pictures.")] = "object",
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="Learned weights; repeated, the files of one checkpoint."),
    ] = None,
    learned_from: LearnedFrom = None,
    backbone: BackboneName = "tiny",
    backbone_config: BackboneConfig = None,
    pretrained: Pretrained = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    option: MethodOptions = None,
    batch_size: Annotated[int, typer.Option(help="Images per visual forward.")] = 8,
) -> None:
    """Score your own images: heat-map overlays, raw maps, and scores as CSV and JSON."""
    from ..factory import create
    from ..running.predict_files import predict_files
    from ..training.user_checkpoint import open_checkpoint
    from ..weights import load_backbone

    table = _method_table(method, option or [])
    if learned_from is not None and not checkpoint:
        raise UsageError("--learned-from says what a --checkpoint was learned on: give one")
    declared = registry.resolve("dataset", learned_from).name if learned_from else ""
    learned = open_checkpoint(checkpoint, declared) if checkpoint else None
    spec = registry.method_class(table["name"]).backbone_spec
    if backbone == "published":
        backbone, pretrained = spec.name, spec.pretrained
    built = create(
        table["name"],
        load_backbone(backbone, pretrained, backbone_config, _device(device), precision),  # type: ignore[arg-type]
        table["variant"],
        None if learned is None else learned.files,
        auxiliary=None if learned is None else learned.trained_on,
        **table["options"],
    )
    if str(built.supervision) == "auxiliary-trained" and not checkpoint:
        echo(
            f"zsad: {built.name} has learned nothing, these are its initial weights: give "
            f"--checkpoint FILE (zsad train {built.name} --on DATASET --out FILE makes one)",
            err=True,
        )
    rows = predict_files(built, images, class_name, out, batch_size)
    for row in rows:
        echo(f"{row.score:.4f}  {row.path}" if row.score is not None else f"-  {row.path}")
    broken = [row.error for row in rows if row.error is not None]
    for message in broken:
        echo(f"zsad: {message}", err=True)
    if broken:
        raise typer.Exit(1)


@app.command()
def new(
    kind: Annotated[str, typer.Argument(help="method or dataset")],
    name: Annotated[str, typer.Argument(help="Its registry name.")],
    package: Annotated[Path | None, out_option(help="Write a pip package here.")] = None,
    out: Annotated[Path | None, out_option(help="Write the file alone into this folder.")] = None,
    trainable: Annotated[bool, typer.Option(help="A method that learns.")] = False,
) -> None:
    """Start a method or a dataset: one file that passes the conformance checks as it is.

    Outside a checkout of the project, --package or --out says where it goes.
    """
    from .scaffold import write

    if kind not in registry.FOLDER_OF:
        raise UsageError(f"new takes method or dataset, not '{kind}'")
    for path in write(kind, name, package, out, trainable):  # type: ignore[arg-type]
        echo(f"wrote {path}")


# -- from options to plans ----------------------------------------------------------------------


def _plan(context: typer.Context, plan_file: Path | None) -> Plan:
    """The plan of the command line: what is given there overrides the plan file."""
    from ..running.plan import PUBLISHED, make_plan, read_plan_settings

    given = {
        name: value
        for name, value in context.params.items()
        if str(context.get_parameter_source(name)).endswith("COMMANDLINE") or plan_file is None
    }
    settings = read_plan_settings(plan_file) if plan_file is not None else {}
    options = given.get("option") or []
    checkpoints = given.get("checkpoint") or []
    if "methods" in given or options or checkpoints:
        names = given.get("methods", "all")
        if plan_file is not None and "methods" not in given:
            flag = "--option" if options else "--checkpoint"
            raise UsageError(f"{flag} beside a plan file needs --methods: put it into the file")
        tables = [_method_table(n, options) for n in _expand_methods(names)]
        chosen = [table["name"] for table in tables]
        _refuse_unused("--option", {text: _option(text)[0] for text in options}, chosen)
        targets = {text: _checkpoint(text)[0] for text in checkpoints}
        _refuse_unused("--checkpoint", targets, chosen)
        for table in tables:
            _give_checkpoints(table, checkpoints, given.get("learned_from"))
        settings["methods"] = tables
    if given.get("learned_from") and not checkpoints:
        raise UsageError("--learned-from says what a --checkpoint was learned on: give one")
    if "datasets" in given:
        settings["datasets"] = _split(given["datasets"])
    if "seeds" in given:
        settings["seeds"] = [_whole(s) for s in _split(given["seeds"])]
    passed = [
        "out",
        "data_root",
        "backbone",
        "backbone_config",
        "pretrained",
        "device",
        "precision",
        "auxiliary",
        "auxiliary_split",
        "batch_size",
        "workers",
        "map_size",
        "limit",
        "save_maps",
        "save_prompt_scores",
        "gallery",
        "retry",
        "keep_old",
    ]
    for name in passed:
        if name in given and given[name] is not None:
            settings[name] = given[name]
    settings["device"] = _device(str(settings.get("device", "auto")))
    plan = _with_dataset_options(make_plan(**settings), given.get("dataset_option") or [])
    if plan.backbone != PUBLISHED and (plan.backbone, plan.backbone_config) != ("tiny", None):
        from ..weights import check_backbone  # imports open_clip, which takes seconds

        check_backbone(plan.backbone, plan.pretrained, plan.backbone_config)
    return plan


def _expand_methods(names: str) -> list[str]:
    listed = _split(names)
    if listed != ["all"]:
        return listed
    from ..running.plan import all_methods

    return all_methods()


def _method_table(method: str, options: list[str]) -> dict[str, Any]:
    """NAME@VARIANT and the options that concern it, as a plan's table."""
    name, _, variant = method.partition("@")
    own: dict[str, Any] = {}
    for text in options:
        target, key, value = _option(text)
        if target == registry_name(name):
            own[key] = value
    return {"name": name, "variant": variant or None, "options": own}


def _with_dataset_options(plan: Plan, options: list[str]) -> Plan:
    """A plan with options laid over those of its datasets, of targets and auxiliary ones alike."""
    auxiliaries = plan.auxiliaries()
    given = cli_data.dataset_options(options, [entry.name for entry in plan.datasets], auxiliaries)
    return dataclasses.replace(
        plan,
        datasets=tuple(
            dataclasses.replace(entry, options={**entry.options, **given[entry.name]})
            for entry in plan.datasets
        ),
        auxiliary_options={
            **plan.auxiliary_options,
            **{
                name: {**plan.options_of_auxiliary(name), **given[name]}
                for name in auxiliaries
                if given[name]
            },
        },
    )


def _give_checkpoints(
    table: dict[str, Any], checkpoints: list[str], learned_from: str | None
) -> None:
    """Put the files of --checkpoint that concern a method into its table."""
    files: dict[str, list[str]] = {}
    for text in checkpoints:
        target, auxiliary, file = _checkpoint(text)
        if target == registry_name(table["name"]):
            files.setdefault(auxiliary, []).append(file)
    if files:
        table |= {"checkpoint": files, "learned_from": learned_from}


def _checkpoint(text: str) -> tuple[str, str, str]:
    """METHOD.AUXILIARY=FILE or METHOD=FILE: method, auxiliary dataset or "", file."""
    target, equals, file = text.partition("=")
    method, _, auxiliary = target.partition(".")
    if not (equals and method and file):
        raise UsageError(f"--checkpoint takes METHOD.AUXILIARY=FILE or METHOD=FILE, not '{text}'")
    return registry_name(method), auxiliary.strip(), file


def _refuse_unused(flag: str, targets: Mapping[str, str], methods: list[str]) -> None:
    for text, target in targets.items():
        if target not in map(registry_name, methods):
            raise UsageError(f"{flag} {text} names no method of this run")


def _option(text: str) -> tuple[str, str, Any]:
    """METHOD.NAME=VALUE; the value is TOML (number, true, "text", [1, 2]) or else plain text."""
    import tomllib

    target, dot, rest = text.partition(".")
    key, equals, value = rest.partition("=")
    if not (dot and equals and key):
        raise UsageError(f"--option takes METHOD.NAME=VALUE, not '{text}'")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    return registry_name(target), key, tuple(parsed) if isinstance(parsed, list) else parsed


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"'{text}' is no whole number") from error


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UsageError(f"--shard takes i/n with 0 <= i < n, not '{text}'")
    return int(index), int(count)


def _device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"unknown device '{device}': take cpu, cuda, cuda:1 or auto") from error
    return device


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
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


def _gaps(records: Iterable[Record]) -> list[str]:
    """Incomplete datasets among those that were scored or learned from, a line each."""
    held: list[tuple[str, Completeness | None]] = []
    for record in records:
        held.append((record.cell.target, record.completeness))
        if record.auxiliary is not None:
            held.append((record.auxiliary.name, record.auxiliary.completeness))
    lines = [
        f"{display_name(name)} is {found.gap}; numbers measured on it or learned from it stay "
        "out of means and differences unless --allow-incomplete is given"
        for name, found in held
        if found is not None and found.gap
    ]
    return list(dict.fromkeys(lines))


def _oddities(records: Iterable[Record], shown: int = 10) -> list[str]:
    """What is odd about the copies of the datasets, a line each; the first ones of a dataset."""
    from ..records.cell import labelled

    told: dict[tuple[str, str], list[str]] = {}
    for record in records:
        name = display_name(record.cell.dataset)
        lines = told.setdefault((name, labelled(name, record.cell.dataset_label)), [])
        lines += [text for text in record.warnings if text not in lines]
    for (name, _), lines in told.items():
        if len(lines) > shown:
            lines[shown:] = [f"{len(lines) - shown} more: see zsad data check {name} --open-files"]
    return [f"{target}: {text}" for (_, target), lines in told.items() for text in lines]


def _summary(plan: Plan) -> None:
    """Print both tables and what failed; exit with 1 if a cell failed."""
    from ..analysis.tables import make_table
    from ..records.record import read_records
    from ..records.run_folder import CELLS

    records = [r for r in read_records(plan.out) if r.cell in plan.cells()]
    failed = [r for r in records if r.error is not None]
    if not records:
        echo("no records yet: this share has no unit, or other processes do it", err=True)
    if len(failed) < len(records):
        for layout in ("image", "pixel"):
            echo(f"\n{make_table(records, layout).render('md')}")
    echo(f"\nrecords: {Path(plan.out) / CELLS}")
    for warning in [*_gaps(records), *_oddities(records)]:
        echo(f"warning: {warning}", err=True)
    cells_of: dict[str, list[str]] = {}
    for record in failed:
        message = record.error.message if record.error is not None else ""
        cells_of.setdefault(message, []).append(record.cell.key)
    for message, keys in cells_of.items():
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        echo(f"failed: {', '.join(keys[:3])}{more}: {message}", err=True)
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
