"""The built-in set: which surfaces and objects there are, how one is drawn, how a set is written.

Four disjoint groups of classes: those a backbone is trained on, those it is chosen on, the
auxiliary ones that methods learn from, and the held-out ones that methods are tested on. The test
classes also have kinds of defects that none of the others has.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ..bench.content import content_hashes
from ..bench.dataset import CategoryInfo, Counts, Dataset, Sample, Source, Split, files_of
from ..bench.errors import DataError, UsageError
from ..bench.images import MaskRule, read_mask, read_picture
from . import _objects as objects
from . import _textures as textures
from ._damage import DEFECTS, SEEN, UNSEEN, VALIDATION
from ._drawing import TAU, Canvas, Mask, Picture, jittered, to_bytes, to_image

VERSION = 3  # of the drawings: a change that moves a pixel is a new version
SIZE = 96
SMALLEST_DEFECT = 25 / 96**2  # share of the picture
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


# -- drawing ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawing:
    """A normal picture [S, S, 3] uint8, and with a defect the same one with it, and its mask."""

    normal: NDArray[np.uint8]
    anomalous: NDArray[np.uint8] | None
    mask: Mask


def draw(
    kind: Kind,
    defect: str | None,
    random: np.random.Generator,
    size: int = SIZE,
    varied: float = 0.0,
) -> Drawing:
    """Draw one picture of a kind, and the same with a defect if one is asked for.

    Args:
        kind: of what.
        defect: name of the defect, or None.
        random: all of the drawing depends on it.
        size: side in pixels.
        varied: probability of other colours, scales and orientations than the kind's own.
    """
    canvas = Canvas(size, random)
    picture, foreground = _undamaged(canvas, kind, varied)
    light = _Light.some(random)
    normal = light.shine(canvas, picture)
    if defect is None:
        return Drawing(normal, None, np.zeros(canvas.shape, bool))
    for _ in range(6):
        damaged, mask = DEFECTS[defect](canvas, picture, foreground)
        damaged = np.clip(damaged, 0, 1)
        if mask.mean() >= SMALLEST_DEFECT:
            visible = np.abs(damaged - picture).max(-1)[mask] > 0.06
            if visible.mean() > 0.25:
                break
    return Drawing(normal, light.shine(canvas, damaged), mask)


def _undamaged(canvas: Canvas, kind: Kind, varied: float) -> tuple[Picture, Mask]:
    random = canvas.random
    first, second = np.array(COLOURS[kind.first]), np.array(COLOURS[kind.second])
    vary = random.random() < varied
    if vary:
        first, second = random.uniform(0.08, 0.92, (2, 3))
        second = 1 - first if np.abs(first - second).sum() < 0.3 else second
    first, second = jittered(random, first), jittered(random, second)
    angle = random.uniform(0, TAU)
    if kind.upright:
        angle = random.normal(0, 0.06) + (random.integers(4) * TAU / 4 if varied else 0)
    scale = random.uniform(0.7, 1.35) if vary else random.uniform(0.88, 1.12)
    drawn = kind.draw(canvas, first, second, scale, angle)
    picture, foreground = drawn if isinstance(drawn, tuple) else (drawn, None)
    if foreground is None:
        foreground = np.ones(canvas.shape, bool)
    return np.clip(picture, 0, 1), foreground


@dataclass(frozen=True)
class _Light:
    """How a picture is lit and how noisy the camera is."""

    level: float
    fall: float
    angle: float
    noise: float

    @classmethod
    def some(cls, random: np.random.Generator) -> _Light:
        return cls(
            random.uniform(0.85, 1.12),
            random.uniform(0, 0.35),
            random.uniform(0, TAU),
            random.uniform(0.004, 0.02),
        )

    def shine(self, canvas: Canvas, picture: Picture) -> NDArray[np.uint8]:
        slope = np.cos(self.angle) * canvas.x + np.sin(self.angle) * canvas.y
        lit = picture * (self.level * (1 + self.fall * slope))[..., None]
        return to_bytes(lit + self.noise * canvas.random.standard_normal(lit.shape))


def seeded(seed: int, kind: Kind, label: int, number: int) -> np.random.Generator:
    """The generator of one picture; the same on every machine."""
    return np.random.default_rng([seed, zlib.crc32(kind.name.encode()), label, number])


# -- writing ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """A whole set: its kinds, defects, counts per kind, seed and size."""

    name: str
    kinds: tuple[Kind, ...]
    defects: tuple[str, ...]
    normal: int
    anomalous: int
    seed: int
    size: int

    def pictures(self) -> Iterator[tuple[Kind, int, str, NDArray[np.uint8], Mask]]:
        """Kind, label, defect ("good"), picture and mask, one after the other."""
        for place, kind in enumerate(self.kinds):
            for number in range(self.normal):
                drawing = draw(kind, None, seeded(self.seed, kind, 0, number), self.size)
                yield kind, 0, "good", drawing.normal, drawing.mask
            for number in range(self.anomalous):
                turn = place * self.anomalous + number  # all kinds of defects equally often
                defect = self.defects[turn % len(self.defects)]
                drawing = draw(kind, defect, seeded(self.seed, kind, 1, number), self.size)
                assert drawing.anomalous is not None
                yield kind, 1, defect, drawing.anomalous, drawing.mask

    @property
    def folder_name(self) -> str:
        """Tells sets of other seeds, sizes and versions apart."""
        return f"{self.name}-v{VERSION}-seed{self.seed}-{self.size}px"

    def write(self, folder: Path) -> None:
        """Draw the set into a folder: whole or not at all, also when two processes do it."""
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            self._draw_into(temporary)
            temporary.rename(folder)
        except OSError:
            if not (folder / "manifest.json").exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _draw_into(self, folder: Path) -> None:
        digest, rows = hashlib.sha256(), []
        for number, (kind, label, defect, picture, mask) in enumerate(self.pictures()):
            digest.update(picture.tobytes() + np.packbits(mask).tobytes())
            place = Path(kind.name.replace(" ", "_")) / defect
            image, mask_file = place / f"{number:04d}.png", None
            (folder / place).mkdir(parents=True, exist_ok=True)
            to_image(picture).save(folder / image)
            if label:
                mask_file = place / f"{number:04d}_mask.png"
                to_image(mask).save(folder / mask_file)
            rows.append([image.as_posix(), label, kind.name, defect, mask_file and str(mask_file)])
        manifest = {"pixels_sha256": digest.hexdigest(), "samples": rows}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=0))


def cache_folder() -> Path:
    """Where drawn sets lie: $ZSAD_CACHE or ~/.cache/zsad, in `synthetic`."""
    cache = os.environ.get("ZSAD_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache" / "zsad") / "synthetic"


def categories(kinds: Sequence[Kind], normal: int, anomalous: int) -> Mapping[str, CategoryInfo]:
    """The catalogue of a set: category -> names and counts."""
    counts = Counts(test_normal=normal, test_anomalous=anomalous, train_normal=0, train_anomalous=0)
    return {k.name.replace(" ", "_"): CategoryInfo(k.name, k.name, counts) for k in kinds}


class DrawnDataset(Dataset):
    """A set that is drawn when it is first asked for, and then read like any other.

    The root is the folder that drawn sets are kept in; None is the cache, and so is the folder of
    the user's datasets in ZSAD_DATA. The options seed and size give other drawings.
    """

    domain = "synthetic"
    modality = "drawing"
    auxiliary = "synthetic_aux"
    kinds: ClassVar[tuple[Kind, ...]]
    defects: ClassVar[tuple[str, ...]]
    per_kind: ClassVar[tuple[int, int]]
    source = Source(
        page="drawn by zsad itself", download="nothing to download", licence="Apache-2.0"
    )
    option_defaults: ClassVar[Mapping[str, Any]] = {
        **Dataset.option_defaults,
        "seed": 11,
        "size": SIZE,
    }

    @classmethod
    def open(cls, root: Path | str | None = None, **options: Any) -> Self:
        """The set below a root; drawn there if it is absent.

        Raises:
            UsageError: an option does not exist, or is no sensible number.
            DataError: the folder cannot be written.
        """
        opened = cls(root, **options)
        recipe = opened.recipe()
        base = cache_folder() if root is None or not _is_own(Path(root)) else Path(root)
        opened.root = base / recipe.folder_name
        if not (opened.root / "manifest.json").exists():
            try:
                base.mkdir(parents=True, exist_ok=True)
                recipe.write(opened.root)
            except OSError as error:
                raise DataError(
                    f"{cls.name} cannot be drawn into {base} ({error}): set ZSAD_CACHE to a "
                    "folder with 20 MB of room"
                ) from error
        return opened

    def recipe(self) -> Recipe:
        """What is drawn.

        Raises:
            UsageError: seed or size is no sensible number.
        """
        seed, size = self.options["seed"], self.options["size"]
        if not (isinstance(seed, int) and seed >= 0):
            raise UsageError(f"seed of {self.name} is a whole number from 0, not {seed!r}")
        if not (isinstance(size, int) and 32 <= size <= 1024):
            raise UsageError(f"size of {self.name} is a number of pixels, 32 to 1024, not {size!r}")
        normal, anomalous = self.per_kind
        return Recipe(self.name, self.kinds, self.defects, normal, anomalous, seed, size)

    def samples(self, split: Split = "test") -> list[Sample]:
        """All pictures are in the test split."""
        if split == "train":
            return []
        return [
            Sample(
                image_path=self.root / image,
                label=label,
                category=name.replace(" ", "_"),
                class_name=self.class_name(name.replace(" ", "_")),
                mask_path=None if mask is None else self.root / mask,
                anomaly_type=defect,
            )
            for image, label, name, defect, mask in self._manifest()["samples"]
        ]

    def fingerprint(self, split: Split = "test") -> str:
        """sha256 of the pixels and masks on disk: the same on every machine that draws them.

        Raises:
            DataError: a picture or a mask is missing or broken.
        """
        if split != "test":
            return ""
        samples = self.samples()
        content = content_hashes(files_of(samples))
        files = tuple((sample.image_path, sample.mask_path) for sample in samples)
        return _pixels_sha256(files, tuple(content.values()))

    def _manifest(self) -> dict[str, Any]:
        path = self.root / "manifest.json"
        try:
            manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is broken ({error}): delete its folder") from error
        return manifest


@lru_cache(maxsize=8)
def _pixels_sha256(files: tuple[tuple[Path, Path | None], ...], content: tuple[str, ...]) -> str:
    """What `Recipe.write` computes while drawing, from the files; PNG encoders may differ."""
    del content  # part of the key only: files that changed are decoded again
    digest = hashlib.sha256()
    for image_path, mask_path in files:
        picture = read_picture(image_path)
        pixels = np.asarray(picture.image)
        mask = np.zeros(pixels.shape[:2], bool)
        if mask_path is not None:
            mask = read_mask(mask_path, MaskRule(), picture)
        digest.update(pixels.tobytes() + np.packbits(mask).tobytes())
    return digest.hexdigest()


def _is_own(root: Path) -> bool:
    """A data root that holds other datasets is not drawn into, unless a set lies there already."""
    if str(root) == os.environ.get("ZSAD_DATA"):
        return False
    return root.is_dir() and (not any(root.iterdir()) or any(root.glob("synthetic*-v*")))
