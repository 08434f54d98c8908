"""Which surfaces and objects there are, in disjoint groups, and the defects of each group.

`kinds.toml` lists the kinds. The test kinds also have defects that none of the others has. Behind
the four groups that the default benchmark is made of stands one for each of the small sets.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _lesions as lesions
from . import _objects as objects
from . import _textures as textures
from ._damage import SEEN, UNSEEN, VALIDATION

TABLE = Path(__file__).with_name("kinds.toml")


@dataclass(frozen=True)
class Kind:
    """A class of pictures: its name, the function that draws it, its usual colours.

    Attributes:
        colours: two, each of three values in 0..1.
        upright: its orientation is fixed (a weave), not free (a screw on a table).
    """

    name: str
    draw: Callable[..., Any]
    colours: tuple[list[float], list[float]]
    upright: bool = False

    @property
    def category(self) -> str:
        """The name of its category and folder in a set."""
        return self.name.replace(" ", "_")


def kinds_of(group: str) -> tuple[Kind, ...]:
    """The kinds of one group of the table, in its order."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    drawings = {**vars(textures), **vars(objects), **vars(lesions)}
    kinds: list[Kind] = []
    for name, entry in table[group].items():
        first, second = (table["colours"][colour] for colour in entry["colours"])
        draw = drawings[entry["drawn"]]
        kinds.append(Kind(name, draw, (first, second), entry.get("upright", False)))
    return tuple(kinds)


BACKBONE_KINDS = kinds_of("backbone")
VALIDATION_KINDS = kinds_of("validation")
AUXILIARY_KINDS = kinds_of("auxiliary")
TEST_KINDS = kinds_of("test")
AUXILIARY_DEFECTS = tuple(SEEN)
VALIDATION_DEFECTS = (*SEEN, *VALIDATION)
TEST_DEFECTS = ("scratch", "hole", "stain", "crack", *UNSEEN)
