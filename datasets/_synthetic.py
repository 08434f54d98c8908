"""The built-in sets: how a picture of a kind is drawn, and how a set is written and read."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ..bench.content import content_hashes
from ..bench.dataset import CategoryInfo, Counts, Dataset, Domain, Sample, Source, Split, files_of
from ..bench.errors import DataError, UsageError, reading
from ..bench.images import MaskRule, read_mask, read_picture
from ..bench.names import display_name
from ._damage import DEFECTS
from ._drawing import TAU, Canvas, Mask, Picture, jittered, to_bytes, to_image
from ._kinds import TEST_DEFECTS, Kind
from ._lesions import LESIONS

VERSION = 3  # of the drawings: a change that moves a pixel is a new version
SIZE = 96
TRAIN = 2  # in the place of a label, so that no training picture is drawn as a test picture is
MANIFEST = "manifest.json"
DRAWN_ON = {**DEFECTS, **LESIONS}
SMALLEST_DEFECT = 25 / 96**2  # share of the picture
DIMMEST, BRIGHTEST = (0.85, 0, 0, 0.004), (1.12, 0.35, TAU, 0.02)
"""Ends of what a light may be: its level, how much it falls off, where to, and the noise."""


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
    light = random.uniform(DIMMEST, BRIGHTEST)
    normal = _lit(canvas, picture, light)
    if defect is None:
        return Drawing(normal, None, np.zeros(canvas.shape, bool))
    for _ in range(6):
        damaged, mask = DRAWN_ON[defect](canvas, picture, foreground)
        damaged = np.clip(damaged, 0, 1)
        if mask.mean() >= SMALLEST_DEFECT:
            visible = np.abs(damaged - picture).max(-1)[mask] > 0.06
            if visible.mean() > 0.25:
                break
    return Drawing(normal, _lit(canvas, damaged, light), mask)


def _undamaged(canvas: Canvas, kind: Kind, varied: float) -> tuple[Picture, Mask]:
    random = canvas.random
    first, second = np.array(kind.colours)
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


def _lit(canvas: Canvas, picture: Picture, light: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The picture as a camera takes it under a light, see `DIMMEST`."""
    level, fall, angle, noise = light
    slope = np.cos(angle) * canvas.x + np.sin(angle) * canvas.y
    lit = picture * (level * (1 + fall * slope))[..., None]
    return to_bytes(lit + noise * canvas.random.standard_normal(lit.shape))


def seeded(seed: int, kind: Kind, label: int, number: int) -> np.random.Generator:
    """The generator of one picture; the same on every machine."""
    return np.random.default_rng([seed, zlib.crc32(kind.name.encode()), label, number])


# -- sets ---------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where drawn sets lie: $ZSAD_CACHE or ~/.cache/zsad, in `synthetic`."""
    cache = os.environ.get("ZSAD_CACHE")
    return (Path(cache) if cache else Path.home() / ".cache" / "zsad") / "synthetic"


class DrawnDataset(Dataset):
    """A set that is drawn when it is first asked for, and then read like any other.

    The root is the folder that drawn sets are kept in; None is the cache, and so is the folder of
    the user's datasets in ZSAD_DATA. The options seed and size give other drawings.
    What a class does not say itself is as in the small sets of one domain each.

    Attributes:
        kinds: a category each.
        defects: of the anomalous pictures.
        per_kind: normal and anomalous test pictures of each kind.
        train_per_kind: normal training pictures of each kind, drawn when they are first asked for.
    """

    domain: ClassVar[Domain] = "synthetic"
    modality = "drawing"
    auxiliary = "synthetic_aux"
    is_built_in = True
    kinds: ClassVar[tuple[Kind, ...]]
    defects: ClassVar[tuple[str, ...]] = TEST_DEFECTS
    per_kind: ClassVar[tuple[int, int]] = (8, 8)
    train_per_kind: ClassVar[int] = 8
    source = Source(
        page="drawn by zsad itself", download="nothing to download", licence="Apache-2.0"
    )
    option_defaults: ClassVar[Mapping[str, Any]] = {
        **Dataset.option_defaults,
        "seed": 11,
        "size": SIZE,
    }

    def __init_subclass__(cls) -> None:
        counts = Counts(*cls.per_kind, train_normal=cls.train_per_kind, train_anomalous=0)
        cls.categories = {
            kind.category: CategoryInfo(kind.name, kind.name, counts) for kind in cls.kinds
        }

    def __init__(self, root: Path | str | None = None, **options: Any) -> None:
        super().__init__(root, **options)
        seed, size = self.options["seed"], self.options["size"]
        own = display_name(self.name)
        if not (isinstance(seed, int) and seed >= 0):
            raise UsageError(f"seed of {own} is a whole number from 0, not {seed!r}")
        if not (isinstance(size, int) and 32 <= size <= 1024):
            raise UsageError(f"size of {own} is a number of pixels, 32 to 1024, not {size!r}")

    @classmethod
    def open(cls, root: Path | str | None = None, **options: Any) -> Self:
        """The set below a root; drawn there if it is absent.

        Raises:
            UsageError: an option does not exist, or is not a sensible number.
            DataError: the folder cannot be written.
        """
        opened = cls(root, **options)
        base = cache_folder() if root is None or not _is_own(Path(root)) else Path(root)
        seed, size = opened.options["seed"], opened.options["size"]
        opened.root = base / f"{cls.name}-v{VERSION}-seed{seed}-{size}px"
        opened._drawn("test")
        return opened

    def pictures(
        self, split: Split = "test"
    ) -> Iterator[tuple[Kind, int, str, NDArray[np.uint8], Mask]]:
        """Kind, label, defect ("good"), picture and mask, one after the other."""
        seed, size = self.options["seed"], self.options["size"]
        normal, anomalous = self.per_kind
        if split == "train":
            for kind, number in itertools.product(self.kinds, range(self.train_per_kind)):
                drawing = draw(kind, None, seeded(seed, kind, TRAIN, number), size)
                yield kind, 0, "good", drawing.normal, drawing.mask
            return
        for place, kind in enumerate(self.kinds):
            for number in range(normal):
                drawing = draw(kind, None, seeded(seed, kind, 0, number), size)
                yield kind, 0, "good", drawing.normal, drawing.mask
            for number in range(anomalous):
                turn = place * anomalous + number  # all kinds of defects equally often
                defect = self.defects[turn % len(self.defects)]
                drawing = draw(kind, defect, seeded(seed, kind, 1, number), size)
                assert drawing.anomalous is not None
                yield kind, 1, defect, drawing.anomalous, drawing.mask

    def _drawn(self, split: Split) -> Path:
        """The folder of a split; drawn if it is absent.

        The training pictures lie in a folder of the test set's, which so stays what it was.

        Raises:
            DataError: the folder cannot be written.
        """
        folder = self.root if split == "test" else self.root / split
        if not (folder / MANIFEST).exists():
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                self._write(split, folder)
            except OSError as error:
                raise DataError(
                    f"{display_name(self.name)} cannot be drawn into {folder.parent} ({error}): "
                    "set ZSAD_CACHE to a folder with 20 MB of room"
                ) from error
        return folder

    def _write(self, split: Split, folder: Path) -> None:
        """Draw a split: whole or not at all, also when two processes do it."""
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            self._draw_into(temporary, split)
            temporary.rename(folder)
        except OSError:
            if not (folder / MANIFEST).exists():  # else another process was faster
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _draw_into(self, folder: Path, split: Split) -> None:
        digest, rows = hashlib.sha256(), []
        for number, (kind, label, defect, picture, mask) in enumerate(self.pictures(split)):
            digest.update(picture.tobytes() + np.packbits(mask).tobytes())
            place = Path(kind.category) / defect
            image, mask_file = place / f"{number:04d}.png", None
            (folder / place).mkdir(parents=True, exist_ok=True)
            to_image(picture).save(folder / image)
            if label and self.has_masks:
                mask_file = place / f"{number:04d}_mask.png"
                to_image(mask).save(folder / mask_file)
            rows.append([image.as_posix(), label, kind.name, defect, mask_file and str(mask_file)])
        manifest = {"pixels_sha256": digest.hexdigest(), "samples": rows}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=0))

    def samples(self, split: Split = "test") -> list[Sample]:
        """The pictures of a split; a set without training pictures has none in that one."""
        if split == "train" and not self.train_per_kind:
            return []
        folder = self.root if split == "test" else self._drawn(split)
        manifest = folder / MANIFEST
        with reading(manifest, "list of samples", DataError, ": delete its folder"):
            rows = json.loads(manifest.read_text(encoding="utf-8"))["samples"]
        samples: list[Sample] = []
        for image, label, name, defect, mask in rows:
            category = name.replace(" ", "_")
            drawn = None if mask is None else folder / mask
            word = self.class_name(category)
            samples.append(Sample(folder / image, label, category, word, drawn, defect, split))
        return samples

    def fingerprint(self, split: Split = "test") -> str:
        """sha256 of the pixels and masks on disk: the same on every machine that draws them.

        Raises:
            DataError: a picture or a mask is missing or broken.
        """
        samples = self.samples(split)
        if not samples:
            return ""
        content = content_hashes(files_of(samples))
        return _pixels_sha256(tuple(samples), tuple(content.values()))


@lru_cache(maxsize=8)
def _pixels_sha256(samples: tuple[Sample, ...], content: tuple[str, ...]) -> str:
    """What a manifest says while a set is drawn, from the files; PNG encoders may differ."""
    del content  # part of the key only: files that changed are decoded again
    digest = hashlib.sha256()
    for sample in samples:
        picture = read_picture(sample.image_path)
        pixels = np.asarray(picture.image)
        mask = np.zeros(pixels.shape[:2], bool)
        if sample.mask_path is not None:
            mask = read_mask(sample.mask_path, MaskRule(), picture)
        digest.update(pixels.tobytes() + np.packbits(mask).tobytes())
    return digest.hexdigest()


def _is_own(root: Path) -> bool:
    """A data root that holds other datasets is not drawn into, unless a set lies there already."""
    if str(root) == os.environ.get("ZSAD_DATA"):
        return False
    return root.is_dir() and (not any(root.iterdir()) or any(root.glob("synthetic*-v*")))
