"""`zsad train`: a method is trained on an auxiliary dataset, and its weights are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..names import display_name
from ..options import DEFAULT_SEED
from ..running.plan import Plan
from .options import (
    BACKBONE,
    DataRoot,
    DatasetOptions,
    MethodName,
    MethodOptions,
    Quiet,
    chosen_backbone,
    chosen_dataset,
    method_table,
    out_option,
    progress_bar,
    setting_option,
    with_options,
)
from .terminal import echo

if TYPE_CHECKING:
    from ..backbone import Backbone


@with_options(*BACKBONE, "feature_precision")
def train(
    method: MethodName,
    on: Annotated[str, typer.Option()],
    out: Annotated[Path, out_option()],
    data_root: DataRoot = None,
    split: Annotated[str | None, setting_option("auxiliary_split")] = None,
    auxiliary_limit: Annotated[int | None, setting_option("auxiliary_limit", min=1)] = None,
    seed: int = DEFAULT_SEED,
    option: MethodOptions = None,
    dataset_option: DatasetOptions = None,
    workers: Annotated[int, setting_option("workers")] = Plan.workers,
    quiet: Quiet = False,
    **given: Any,
) -> None:
    """Fit a trainable method on an auxiliary dataset; the same command again resumes.

    Args:
        on: The auxiliary dataset.
        out: Where the trained weights go (safetensors).
        seed: Seed of weights and image order.
    """
    from ..training.feature_cache import FeatureCache
    from ..training.optimisation import TrainingConfig
    from ..training.trainer import refuse_unwritable
    from ..training.trainer import train as train_on
    from ..training.user_checkpoint import learned_from

    table = method_table(method, option or [])
    refuse_unwritable(out)
    auxiliary = chosen_dataset(on, data_root, dataset_option)
    cache = FeatureCache(precision=given.pop("feature_precision"))
    loaded = _training_backbone(table["name"], **given)
    with progress_bar(quiet) as progress:
        done = train_on(
            table["name"],
            auxiliary,
            loaded,
            out,
            TrainingConfig(seed=seed, workers=workers, progress=progress, limit=auxiliary_limit),
            variant=table["variant"],
            options=table["options"],
            split=split,
            cache=cache,
        )
    echo(f"{done.path}: {done.method.title}, {done.seconds:.0f} s")
    source = learned_from(done.provenance)
    if source is not None and source.completeness is not None and source.completeness.gap:
        echo(f"warning: {display_name(auxiliary.name)} is {source.completeness.gap}", err=True)


def _training_backbone(method: str, **backbone: Any) -> Backbone:
    """The backbone that options ask for, in the precision that it trains in."""
    loaded = chosen_backbone(method, **backbone)
    precision = loaded.training_precision
    if precision == loaded.precision:
        return loaded
    return chosen_backbone(method, **{**backbone, "precision": precision})
