"""`zsad predict`: a method on a user's own images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import registry
from ..errors import UsageError
from ..names import display_name
from ..running.plan import PUBLISHED, Plan
from .options import (
    BackboneConfig,
    BackboneName,
    BatchSize,
    Device,
    LearnedFrom,
    MethodName,
    MethodOptions,
    Precision,
    Pretrained,
    chosen_device,
    method_table,
    out_option,
)
from .terminal import echo

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..method import Method


def predict(
    method: MethodName,
    images: Annotated[list[Path], typer.Argument(help="Image files or folders.")],
    out: Annotated[Path, out_option(help="Folder for overlays, maps and scores.")],
    class_name: Annotated[str, typer.Option(help="What is in the pictures.")] = "object",
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="Trained weights; repeated, the files of one checkpoint."),
    ] = None,
    learned_from: LearnedFrom = None,
    backbone: BackboneName = Plan.backbone,
    backbone_config: BackboneConfig = None,
    pretrained: Pretrained = None,
    device: Device = "auto",
    precision: Precision = Plan.precision,
    option: MethodOptions = None,
    batch_size: BatchSize = Plan.batch_size,
) -> None:
    """Score your own images: heat-map overlays, raw maps, and scores as CSV and JSON."""
    from ..running.predict_files import predict_files
    from ..weights import load_backbone

    table = method_table(method, option or [])
    if learned_from is not None and not checkpoint:
        raise UsageError("--learned-from says what a --checkpoint was trained on: give one")
    if backbone == PUBLISHED:
        spec = registry.method_class(table["name"]).backbone_spec
        backbone, pretrained = spec.name, spec.pretrained
    loaded = load_backbone(
        backbone,
        pretrained,
        backbone_config,
        chosen_device(device),
        precision,  # type: ignore[arg-type]
    )
    built = _build(table, loaded, checkpoint or [], learned_from)
    broken = False
    for row in predict_files(built, images, class_name, out, batch_size):
        echo(f"{row.score:.4f}  {row.path}" if row.score is not None else f"-  {row.path}")
        if row.error is not None:
            broken = True
            echo(f"zsad: {row.error}", err=True)
    if broken:
        raise typer.Exit(1)


def _build(
    table: dict[str, Any], backbone: Backbone, checkpoint: list[Path], learned_from: str | None
) -> Method:
    """The method of a plan's table; says so if its weights are the initial ones."""
    from ..factory import create
    from ..training.user_checkpoint import open_checkpoint

    declared = registry.resolve("dataset", learned_from).name if learned_from else ""
    learned = open_checkpoint(checkpoint, declared) if checkpoint else None
    built = create(
        table["name"],
        backbone,
        table["variant"],
        None if learned is None else learned.files,
        auxiliary=None if learned is None else learned.trained_on,
        **table["options"],
    )
    if str(built.supervision) == "auxiliary-trained" and learned is None:
        name = display_name(built.name)
        echo(
            f"zsad: {name} is not trained, these are its initial weights: give --checkpoint FILE "
            f"(zsad train {name} --on DATASET --out FILE makes one)",
            err=True,
        )
    return built
