"""Which surfaces and objects there are, in four disjoint groups, and the defects of each group.

The groups: kinds that a backbone is trained on, those it is chosen on, the auxiliary ones that
methods learn from, and the held-out ones that methods are tested on. The test kinds also have
defects that none of the others has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import _objects as objects
from . import _textures as textures
from ._damage import SEEN, UNSEEN, VALIDATION

COLOURS = {
    "red": (0.70, 0.20, 0.20),
    "green": (0.25, 0.55, 0.30),
    "blue": (0.22, 0.33, 0.65),
    "grey": (0.55, 0.55, 0.55),
    "white": (0.85, 0.85, 0.83),
    "black": (0.14, 0.14, 0.15),
    "brown": (0.45, 0.29, 0.17),
    "tan": (0.78, 0.63, 0.44),
    "yellow": (0.82, 0.73, 0.27),
    "orange": (0.85, 0.50, 0.20),
    "purple": (0.50, 0.30, 0.58),
    "teal": (0.20, 0.55, 0.55),
    "pink": (0.85, 0.60, 0.65),
    "steel": (0.62, 0.64, 0.67),
    "gold": (0.78, 0.64, 0.30),
    "cream": (0.90, 0.85, 0.72),
}


@dataclass(frozen=True)
class Kind:
    """A class of pictures: its name, the function that draws it, its usual colours.

    Attributes:
        upright: its orientation is fixed (a weave), not free (a screw on a table).
    """

    name: str
    draw: Callable[..., Any]
    first: str
    second: str
    upright: bool = False


BACKBONE_KINDS = (
    Kind("fabric", textures.weave, "blue", "white", True),
    Kind("canvas", textures.weave, "tan", "brown", True),
    Kind("linen", textures.weave, "cream", "tan", True),
    Kind("basket", textures.weave, "brown", "black"),
    Kind("oak wood", textures.wood, "tan", "brown", True),
    Kind("dark wood", textures.wood, "brown", "black"),
    Kind("pine board", textures.wood, "cream", "orange", True),
    Kind("carpet", textures.carpet, "grey", "black"),
    Kind("red rug", textures.carpet, "red", "brown"),
    Kind("felt", textures.carpet, "green", "teal"),
    Kind("towel", textures.carpet, "white", "pink"),
    Kind("terrazzo", textures.terrazzo, "white", "grey"),
    Kind("stone slab", textures.terrazzo, "brown", "cream"),
    Kind("granite", textures.granite, "grey", "black"),
    Kind("countertop", textures.granite, "cream", "brown"),
    Kind("brushed metal", textures.brushed, "steel", "grey", True),
    Kind("brass sheet", textures.brushed, "gold", "brown"),
    Kind("copper plate", textures.brushed, "orange", "brown"),
    Kind("corrugated sheet", textures.corrugated, "steel", "black"),
    Kind("cardboard", textures.corrugated, "tan", "brown", True),
    Kind("roofing", textures.corrugated, "red", "black", True),
    Kind("perforated plate", textures.dots, "black", "steel", True),
    Kind("polka cloth", textures.dots, "white", "pink"),
    Kind("chessboard", textures.checks, "white", "black", True),
    Kind("tablecloth", textures.checks, "red", "white"),
    Kind("wallpaper", textures.stripes, "cream", "green", True),
    Kind("awning", textures.stripes, "blue", "white"),
    Kind("knitwear", textures.herringbone, "purple", "cream", True),
    Kind("sweater", textures.herringbone, "teal", "white"),
    Kind("plaster wall", textures.plaster, "white", "grey"),
    Kind("paper", textures.plaster, "cream", "white"),
    Kind("rubber mat", textures.plaster, "black", "grey"),
    Kind("gravel", textures.gravel, "grey", "brown"),
    Kind("pebbles", textures.gravel, "cream", "black"),
    Kind("honeycomb", textures.honeycomb, "black", "gold"),
    Kind("mesh filter", textures.honeycomb, "grey", "white", True),
    Kind("sponge", textures.sponge, "yellow", "orange"),
    Kind("foam", textures.sponge, "white", "teal"),
    Kind("plank floor", textures.planks, "tan", "brown", True),
    Kind("fence", textures.planks, "cream", "grey", True),
    Kind("roof shingles", textures.scales, "grey", "black", True),
    Kind("fish skin", textures.scales, "steel", "teal"),
    Kind("coral", textures.labyrinth, "pink", "red"),
    Kind("fingerprint", textures.labyrinth, "white", "black"),
    Kind("quilt", textures.quilt, "purple", "black", True),
    Kind("cushion", textures.quilt, "cream", "brown"),
    Kind("sand", textures.ripples, "tan", "brown"),
    Kind("water", textures.ripples, "teal", "blue"),
    Kind("confetti", textures.confetti, "red", "white"),
    Kind("sprinkles", textures.confetti, "yellow", "brown"),
    Kind("straw mat", textures.straw, "gold", "brown"),
    Kind("hay", textures.straw, "yellow", "tan"),
    Kind("washer", objects.washer, "steel", "grey"),
    Kind("rubber ring", objects.washer, "black", "grey"),
    Kind("target plate", objects.disc, "red", "white"),
    Kind("vinyl record", objects.disc, "black", "grey"),
    Kind("bolt head", objects.bolt, "steel", "black"),
    Kind("brass bolt", objects.bolt, "gold", "brown"),
    Kind("chip", objects.chip, "black", "white"),
    Kind("circuit module", objects.chip, "green", "yellow"),
    Kind("tablet", objects.tablet, "white", "grey"),
    Kind("pink pill", objects.tablet, "pink", "white"),
    Kind("gear", objects.gear, "grey", "steel"),
    Kind("plastic cog", objects.gear, "orange", "yellow"),
    Kind("screw", objects.screw, "steel", "grey"),
    Kind("brass screw", objects.screw, "gold", "brown"),
    Kind("cookie", objects.cookie, "tan", "brown"),
    Kind("cracker", objects.cookie, "cream", "orange"),
    Kind("plug", objects.plug, "white", "black"),
    Kind("socket", objects.plug, "blue", "black"),
    Kind("key", objects.key, "steel", "black"),
    Kind("brass key", objects.key, "gold", "brown"),
    Kind("bottle cap", objects.bottle_cap, "red", "white"),
    Kind("jar lid", objects.bottle_cap, "gold", "green"),
    Kind("badge", objects.star, "gold", "red"),
    Kind("starfish", objects.star, "orange", "pink"),
    Kind("connector", objects.connector, "white", "gold"),
    Kind("terminal block", objects.connector, "green", "steel"),
    Kind("horseshoe", objects.horseshoe, "grey", "black"),
    Kind("clamp", objects.horseshoe, "steel", "blue"),
    Kind("comb", objects.comb, "black", "brown"),
    Kind("heat sink", objects.comb, "steel", "grey"),
    Kind("bottle", objects.bottle, "green", "cream"),
    Kind("vial", objects.bottle, "white", "blue"),
)
VALIDATION_KINDS = (
    Kind("chainmail", textures.chainmail, "grey", "black", True),
    Kind("tiles", textures.tiles, "blue", "white", True),
    Kind("cable", objects.cable, "blue", "brown"),
    Kind("battery", objects.battery, "gold", "black"),
    Kind("braid", textures.braid, "tan", "brown"),
    Kind("bulb", objects.bulb, "yellow", "steel"),
)
AUXILIARY_KINDS = (
    Kind("twill", textures.twill, "blue", "grey"),
    Kind("brick wall", textures.bricks, "red", "cream", True),
    Kind("coin", objects.coin, "gold", "brown"),
    Kind("cross joint", objects.cross, "green", "black"),
    Kind("tube", objects.tube, "white", "red"),
    Kind("mosaic", textures.mosaic, "teal", "cream", True),
    Kind("camouflage", textures.camouflage, "green", "brown"),
    Kind("leaf", objects.leaf, "green", "yellow"),
    Kind("dice", objects.dice, "white", "black"),
)
TEST_KINDS = (
    Kind("leather", textures.leather, "brown", "black"),
    Kind("grid", textures.grid, "steel", "black"),
    Kind("marble", textures.marble, "white", "grey"),
    Kind("nut", objects.nut, "gold", "brown"),
    Kind("capsule", objects.capsule, "orange", "black"),
    Kind("button", objects.button, "teal", "black"),
)
AUXILIARY_DEFECTS = tuple(SEEN)
VALIDATION_DEFECTS = (*SEEN, *VALIDATION)
TEST_DEFECTS = ("scratch", "hole", "stain", "crack", *UNSEEN)
