"""What can be asked of a method: its options, their defaults, and which values they take."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

from annotated_types import Ge, Le

from .errors import UsageError
from .json_fields import fault_of
from .names import display_name, known_keys

DEFAULT_SEED = 111  # of AnomalyCLIP, FAPrompt and APRIL-GAN
EVALUATION_ONLY = frozenset({"smoothing_sigma"})  # options that learned weights do not depend on
LEAST = {"image_size": 1, "smoothing_sigma": 0, "temperature": 1e-6, "epochs": 0, "batch_size": 1}
AuxiliarySplit = Literal["test", "all"]


Share = Annotated[float, Ge(0), Le(1)]  # types of options; others are bounded by `LEAST`
Positive = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Options:
    """What every method can be asked; a method's own options extend it.

    Attributes:
        image_size: input side in pixels; None is the published one where the backbone's grid can
            be resized to it, else the backbone's native size.
        smoothing_sigma: Gaussian sigma in pixels of the map; None is the published sigma, scaled
            from 518 px to the map size; 0 gives unsmoothed maps.
    """

    image_size: int | None = None
    smoothing_sigma: float | None = None


def with_overrides(options: Options, overrides: Mapping[str, Any], title: str) -> Options:
    """The options with other values for some of them.

    Args:
        options: of a variant.
        overrides: option -> value.
        title: of the method, for messages.

    Raises:
        UsageError: an option does not exist, or takes no such value; names the nearest known ones.
    """
    kinds = get_type_hints(type(options), include_extras=True)
    known = [field.name for field in dataclasses.fields(options)]
    chosen = known_keys(f"option of method {title}", overrides, known)
    for name, value in chosen.items():
        kind = kinds[name]
        if name in LEAST and value is not None:
            kind = Annotated[kind, Ge(LEAST[name])]
        if fault := fault_of(value, kind):
            raise UsageError(f"option '{display_name(name)}' of method {title} {fault}")
    return dataclasses.replace(options, **chosen)
