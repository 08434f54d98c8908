"""The built-in sets: how a picture of a kind is drawn, and how a set is written and read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
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
from ..bench.names import display_name
from ._damage import DEFECTS
from ._drawing import TAU, Canvas, Mask, Picture, jittered, to_bytes, to_image
from ._kinds import COLOURS, Kind

VERSION = 3  # of the drawings: a change that moves a pixel is a new version
SIZE = 96
SMALLEST_DEFECT = 25 / 96**2  # share of the picture


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
            UsageError: an option does not exist, or is not a sensible number.
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
            UsageError: seed or size is not a sensible number.
        """
        seed, size = self.options["seed"], self.options["size"]
        if not (isinstance(seed, int) and seed >= 0):
            raise UsageError(
                f"seed of {display_name(self.name)} is a whole number from 0, not {seed!r}"
            )
        if not (isinstance(size, int) and 32 <= size <= 1024):
            raise UsageError(
                f"size of {display_name(self.name)} is a number of pixels, 32 to 1024, not {size!r}"
            )
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
