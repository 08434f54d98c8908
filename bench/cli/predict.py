"""`zsad predict`: a method on a user's own images."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import registry
from ..errors import UsageError
from ..names import display_name
from ..running.plan import USUAL
from .options import (
    BACKBONE,
    LearnedFrom,
    MethodName,
    MethodOptions,
    Quiet,
    chosen_backbone,
    method_table,
    out_option,
    with_options,
)
from .terminal import echo

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..method import Method
    from ..records.predictions import Predictions


ANOMALY = 3  # exit code: an image is anomalous, and --fail-on-anomaly is given


@with_options(*BACKBONE)
def predict(
    method: MethodName,
    images: list[Path],
    out: Annotated[Path, out_option()],
    class_name: str = "object",
    threshold: float | None = None,
    normal: list[Path] | None = None,
    quantile: float | None = None,
    alpha: float | None = None,
    labelled: Path | None = None,
    map_threshold: float | None = None,
    fail_on_anomaly: bool = False,
    checkpoint: list[Path] | None = None,
    learned_from: LearnedFrom = None,
    references: list[Path] | None = None,
    option: MethodOptions = None,
    batch_size: int = USUAL,
    quiet: Quiet = False,
    **backbone: Any,
) -> None:
    """Score your own images: overlays, raw maps, scores as CSV and JSON, and a page of them all.

    One of --threshold, --normal and --labelled tells which images are anomalous. A transductive
    method scores the images of a call against each other.

    Args:
        images: Image files or folders, at any depth.
        out: Folder for overlays, maps, scores and index.html.
        class_name: What is in the pictures.
        threshold: Images that score above it are anomalous.
        normal: Normal images that the threshold is chosen by; may be repeated.
        quantile: With --normal: quantile of their scores.
        alpha: With --normal: greatest share of normal images that may be false alarms
            (split-conformal). [default: 0.05]
        labelled: Folder with normal/ and anomalous/ (and masks/): threshold of the greatest F1.
        map_threshold: Regions above it are outlined. [default: chosen as the threshold is]
        fail_on_anomaly: Exit with 3 if an image is anomalous.
        checkpoint: Trained weights; repeated, the files of one checkpoint.
        references: Files or folders of normal images, for few-shot methods; repeated.
        batch_size: Images per visual forward.
    """
    from ..progress import Progress
    from ..report.predictions import write_index
    from ..running.decision import DecisionRule
    from ..running.predict_files import Request, predict_files

    rule = DecisionRule(threshold, map_threshold, normal or (), quantile, alpha, labelled)
    if fail_on_anomaly and not rule.decides:
        raise UsageError("--fail-on-anomaly needs one of --threshold, --normal and --labelled")
    table = method_table(method, option or [])
    if learned_from is not None and not checkpoint:
        raise UsageError("--learned-from says what a --checkpoint was trained on: give one")
    loaded = chosen_backbone(table["name"], **backbone)
    built = _build(table, loaded, checkpoint or [], learned_from)
    progress = Progress(bar=not quiet and sys.stderr.isatty())
    request = Request(rule, references or (), batch_size, progress)
    found = predict_files(built, images, class_name, out, request)
    page = write_index(out, found, _facts(built, class_name, checkpoint or []))
    _echo(found, page)
    if fail_on_anomaly and found.anomalous:
        raise typer.Exit(ANOMALY)
    if any(row.error is not None for row in found.rows):
        raise typer.Exit(1)


def _facts(method: Method, class_name: str, checkpoint: Sequence[Path]) -> dict[str, str]:
    """What the results depend on, for the head of their page."""
    facts = {
        "Method": f"{method.title} ({display_name(f'{method.name}@{method.variant}')})",
        "Backbone": f"{method.backbone.name}, images at {method.image_size} px",
        "Class name": class_name,
    }
    if checkpoint:
        facts["Checkpoint"] = ", ".join(map(str, checkpoint))
    return facts


def _echo(found: Predictions, page: Path) -> None:
    """A line for each image, in the order of the call, and what follows from all of them."""
    for row in found.rows:
        words = ["-" if row.score is None else f"{row.score:.4f}"]
        if row.anomalous is not None:
            words.append(f"{'anomalous' if row.anomalous else 'normal':<9}")
        if row.p_value is not None:
            words.append(f"p {row.p_value:.4f}")
        echo("  ".join([*words, row.path]))
        if row.error is not None:
            echo(f"zsad: {row.error}", err=True)
    decision = found.decision
    if decision.threshold is not None:
        echo(
            f"{found.anomalous} of {len(found.rows)} images are anomalous: score above "
            f"{decision.threshold:.6g} ({decision.rule})",
            err=True,
        )
    echo(f"wrote {page}", err=True)


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
