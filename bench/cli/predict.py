"""`zsad predict`: a method on a user's own images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import registry
from ..errors import UsageError
from ..names import display_name
from ..running.plan import Plan
from .options import (
    BACKBONE,
    LearnedFrom,
    MethodName,
    MethodOptions,
    chosen_backbone,
    method_table,
    out_option,
    setting_option,
    with_options,
)
from .terminal import echo

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..method import Method


@with_options(*BACKBONE)
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
    references: Annotated[
        list[Path] | None,
        typer.Option(help="Files or folders of normal images, for few-shot methods; repeated."),
    ] = None,
    option: MethodOptions = None,
    batch_size: Annotated[int, setting_option("batch_size")] = Plan.batch_size,
    **backbone: Any,
) -> None:
    """Score your own images: heat-map overlays, raw maps, and scores as CSV and JSON.

    A transductive method scores the images of a call against each other.
    """
    from ..running.predict_files import predict_files

    table = method_table(method, option or [])
    if learned_from is not None and not checkpoint:
        raise UsageError("--learned-from says what a --checkpoint was trained on: give one")
    loaded = chosen_backbone(table["name"], **backbone)
    built = _build(table, loaded, checkpoint or [], learned_from)
    broken = False
    for row in predict_files(built, images, class_name, out, batch_size, references or []):
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
