"""From a name to a method that is ready: built on a backbone, its learned weights loaded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .backbone import Backbone
from .checkpoint import read_together
from .errors import UsageError
from .method import Method, TrainableMethod, build
from .names import display_name
from .options import DEFAULT_SEED
from .registry import method_class, resolve, union_name
from .training.user_checkpoint import open_checkpoint, refuse_misfit

LOG = logging.getLogger(__name__)


def create(
    name: str,
    backbone: Backbone,
    variant: str | None = None,
    checkpoint: str | Path | Sequence[str | Path] | None = None,
    seed: int = DEFAULT_SEED,
    auxiliary: str | None = None,
    **options: Any,
) -> Method:
    """Build a method on a backbone.

    Args:
        name: registry name, hyphen or underscore.
        backbone: from `load_backbone`.
        variant: "paper", "official", ...; None is the method's default.
        checkpoint: learned weights, ours (safetensors) or the released file, or several files that
            hold them together.
        seed: of the initial values of learned tensors.
        auxiliary: registry name of the dataset that the method is trained on; a method may have
            options of its own for it. None takes it from the checkpoint's header.
        **options: options of the method that differ from the variant's.

    Raises:
        UsageError: unknown name, variant, option or auxiliary dataset, or the backbone is not one.
        WeightsError: the checkpoint is missing, broken or does not fit.
    """
    entry = resolve("method", name)
    if not hasattr(backbone, "encode_image"):
        kind = type(backbone).__name__
        raise UsageError(f"'{backbone}' ({kind}) is not a backbone: give load_backbone(...)")
    trained_on = None if auxiliary is None else union_name(auxiliary)
    given = [checkpoint] if isinstance(checkpoint, str | Path) else checkpoint or []
    known = open_checkpoint(given)
    if trained_on is None:
        trained_on = known.trained_on
    options = {**known.training_options(entry.name), **options}
    method = build(method_class(name), backbone, variant, seed, trained_on, **options)
    method.name = entry.name
    if given:
        if not isinstance(method, TrainableMethod):
            raise UsageError(
                f"method '{display_name(entry.name)}' is training-free and takes no checkpoint"
            )
        refuse_misfit(method, known)
        unused = method.load_learned(read_together([Path(file) for file in given]))
        if unused:
            LOG.info("%s: tensors without use: %s", checkpoint, ", ".join(unused))
    return method
