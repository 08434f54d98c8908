"""`zsad train`: a method is trained on an auxiliary dataset, and its weights are written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import DEFAULT_SEED
from ..running.plan import Plan, make_plan
from .options import (
    AuxiliarySplit,
    BackboneConfig,
    BackboneName,
    DataRoot,
    DatasetOptions,
    Device,
    MethodName,
    MethodOptions,
    Precision,
    Pretrained,
    Quiet,
    Workers,
    chosen_device,
    method_table,
    out_option,
    progress_bar,
    with_dataset_options,
)
from .terminal import echo


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command()(train)


def train(
    method: MethodName,
    on: Annotated[str, typer.Option(help="The auxiliary dataset.")],
    out: Annotated[Path, out_option(help="Where the trained weights go (safetensors).")],
    data_root: DataRoot = None,
    backbone: BackboneName = Plan.backbone,
    backbone_config: BackboneConfig = None,
    pretrained: Pretrained = None,
    device: Device = "auto",
    precision: Precision = Plan.precision,
    split: AuxiliarySplit = None,
    seed: Annotated[int, typer.Option(help="Of initial values and order.")] = DEFAULT_SEED,
    option: MethodOptions = None,
    dataset_option: DatasetOptions = None,
    workers: Workers = Plan.workers,
    quiet: Quiet = False,
) -> None:
    """Fit a trainable method on an auxiliary dataset; the same command again resumes."""
    from ..running.prepare import train_one
    from ..training.trainer import refuse_unwritable
    from ..training.user_checkpoint import learned_from

    plan = make_plan(
        [method_table(method, option or [])],
        [on],
        data_root=data_root,
        backbone=backbone,
        backbone_config=backbone_config,
        pretrained=pretrained,
        device=chosen_device(device),
        precision=precision,
        auxiliary=on,
        auxiliary_split=split,
        seeds=(seed,),
        workers=workers,
    )
    plan = with_dataset_options(plan, dataset_option or [])
    refuse_unwritable(out)
    with progress_bar(quiet) as progress:
        done = train_one(plan, out, progress)
    echo(f"{done.path}: {done.method.title}, {done.seconds:.0f} s")
    source = learned_from(done.provenance)
    if source is not None and source.completeness is not None and source.completeness.gap:
        echo(f"warning: {on} is {source.completeness.gap}", err=True)
