"""What can be asked of a method: its options, their defaults, and which values they take."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from .errors import UsageError
from .names import display_name, known_keys

DEFAULT_SEED = 111  # of AnomalyCLIP, FAPrompt and APRIL-GAN
EVALUATION_ONLY = frozenset({"smoothing_sigma"})  # options that learned weights do not depend on
LEAST = {"image_size": 1, "smoothing_sigma": 0, "temperature": 1e-6, "epochs": 0, "batch_size": 1}
AuxiliarySplit = Literal["test", "all"]


class Bounds(NamedTuple):
    """Which numbers an option takes, both ends allowed."""

    least: float
    most: float = math.inf


Share = Annotated[float, Bounds(0, 1)]  # types of options; others are bounded by `LEAST`
Positive = Annotated[int, Bounds(1)]


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
    kinds = get_type_hints(type(options))
    bounds = _bounds(type(options))
    known = [field.name for field in dataclasses.fields(options)]
    chosen = known_keys(f"option of method {title}", overrides, known)
    for name, value in chosen.items():
        option = f"option '{display_name(name)}' of method {title}"
        if not _fits(value, kinds[name]):
            kind = getattr(kinds[name], "__name__", str(kinds[name]))
            raise UsageError(f"{option} takes {kind}, not {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{option} is {value}: give a number")
        if name in bounds and value is not None:
            least, most = bounds[name]
            if not least <= value <= most:
                within = f"at least {least}" if most == math.inf else f"from {least} to {most}"
                raise UsageError(f"{option} is {within}, not {value}")
    return dataclasses.replace(options, **chosen)


def _bounds(kind: type[Options]) -> dict[str, Bounds]:
    """The bounds of options, by name or by type."""
    hints = get_type_hints(kind, include_extras=True).items()
    typed = {name: b for name, hint in hints for b in getattr(hint, "__metadata__", ())}
    return {name: Bounds(least) for name, least in LEAST.items()} | typed


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value fits an annotation: plain type, tuple, Literal or union."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in inner
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(part, inner[0]) for part in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return not isinstance(kind, type) or isinstance(value, kind)
