"""What a method class must declare to be run, and what it may not declare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import ContractError
from .options import Options
from .track import Track

if TYPE_CHECKING:
    from .method import Method


def refuse_incomplete(cls: type[Method]) -> None:
    """Refuse a class that could not run; one that is still abstract may lack what is missing.

    Raises:
        ContractError: no title, options that are not a dataclass, a default variant that does not
            exist, or hooks that do not fit the track; names the class and the fix.
    """
    if _is_abstract(cls):
        return
    where = f"method class {cls.__module__}.{cls.__qualname__}"
    _refuse_unnamed(cls, where)
    _refuse_unseen(cls, where)


def _is_abstract(cls: type[Method]) -> bool:
    """Whether a class lacks a method; ABC itself knows only after the class was made."""
    names = {name for base in cls.__mro__ for name in vars(base)}
    return any(getattr(getattr(cls, name, None), "__isabstractmethod__", False) for name in names)


def _refuse_unnamed(cls: type[Method], where: str) -> None:
    """Raise `ContractError` where a title, the options or the default variant are not given."""
    title = getattr(cls, "title", None)
    if not isinstance(title, str) or not title.strip():
        raise ContractError(f'{where} has no title: add title = "...", which the tables print')
    for name, options in cls.variants.items():
        kind = type(options)
        bare = [
            base
            for base in kind.__mro__
            if vars(base).get("__annotations__") and "__dataclass_fields__" not in vars(base)
        ]
        if not isinstance(options, Options) or bare:
            shown = options.__name__ if isinstance(options, type) else kind.__name__
            raise ContractError(
                f"{where} has options {shown} of variant '{name}' that are not a dataclass: derive "
                "them from Options, put @dataclass(frozen=True) above, and give an instance"
            )
    if cls.default_variant not in cls.variants:
        known = ", ".join(cls.variants) or "none"
        raise ContractError(
            f"{where} has no variant '{cls.default_variant}' (it has {known}): set default_variant "
            "to one of them"
        )


def _refuse_unseen(cls: type[Method], where: str) -> None:
    """Raise `ContractError` where what a class looks at and the tracks of its variants differ."""
    tracks = {variant: cls.track_of(options) for variant, options in cls.variants.items()}
    own = f"{__package__}.method"
    hooks = [name for name in ("observe", "conclude") if getattr(cls, name).__module__ != own]
    if hooks and set(tracks.values()) == {Track.ZERO_SHOT}:
        raise ContractError(
            f"{where} defines {' and '.join(hooks)}, which the zero-shot track has no use for: say "
            "track = Track.TRANSDUCTIVE, or Track.FEW_SHOT to observe normal training images"
        )
    for variant, track in tracks.items():
        if track.has_references and "observe" not in hooks:
            raise ContractError(
                f"{where} is of the {track} track and observes nothing: define observe"
            )
        shots = getattr(cls.variants[variant], "shots", None)
        if track is Track.FEW_SHOT and not (isinstance(shots, int) and shots > 0):
            raise ContractError(
                f"{where} is of the few-shot track and its variant '{variant}' does not say how "
                "many normal images it is given: add an option shots, at least 1"
            )
