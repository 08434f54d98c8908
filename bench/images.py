"""Reading images and masks from disk, of any suffix, mode or age.

Files are opened by content, never by suffix. An image becomes RGB first and is resized later, where
it is needed (the `fixed` order: the released codes resize in the stored mode, which picks
nearest neighbours for palette files). An EXIF orientation is applied to image and mask alike; the
released codes ignore it, so a stored photograph that lies on its side is scored lying there.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from .errors import DataError, UsageError

MaskResize = Literal["official", "nearest", "none"]
Mask = NDArray[np.bool_]  # [H, W], True = anomalous

MAX_PIXELS = 80_000_000
"""An image with more pixels is refused before it is decoded: a decompression bomb, or a mistake."""

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# CVC-ClinicDB's TIFFs call three samples a pixel "black is zero", a pair that Pillow does not know.
TiffImagePlugin.OPEN_INFO.setdefault((b"II", 1, (1,), 1, (8, 8, 8), ()), ("RGB", "RGB"))
TiffImagePlugin.OPEN_INFO.setdefault((b"MM", 1, (1,), 1, (8, 8, 8), ()), ("RGB", "RGB"))


@dataclass(frozen=True)
class MaskRule:
    """How a mask file becomes booleans, and how booleans become the evaluated size.

    Attributes:
        threshold: a grey value above it is anomalous. The released codes use 0 everywhere.
        resize: "official" resizes bilinearly (antialiased) and keeps what is > 0.5; "nearest"
            keeps single pixels; "none" leaves the original size.
    """

    threshold: int = 0
    resize: MaskResize = "official"

    def __post_init__(self) -> None:
        whole = isinstance(self.threshold, int) and not isinstance(self.threshold, bool)
        if not whole or not 0 <= self.threshold <= 254:
            raise UsageError(f"a mask threshold is a grey value 0..254, not {self.threshold!r}")
        if self.resize not in ("official", "nearest", "none"):
            raise UsageError(
                f"a mask is resized 'official', 'nearest' or 'none', not '{self.resize}'"
            )


@dataclass(frozen=True)
class Picture:
    """A decoded image and what was done to it.

    Attributes:
        image: RGB, upright.
        orientation: the EXIF orientation (1..8) that was applied, 1 = none.
        stored_size: width and height as stored, before turning.
    """

    image: Image.Image
    orientation: int = 1
    stored_size: tuple[int, int] = (0, 0)


def read_image(path: Path, upright: bool = True) -> Image.Image:
    """Load an image as RGB.

    Args:
        path: the file; its suffix does not matter.
        upright: apply the EXIF orientation.

    Raises:
        DataError: the file is missing, cannot be decoded or is too large; the message names it.
    """
    return read_picture(path, upright).image


def read_picture(path: Path, upright: bool = True) -> Picture:
    """`read_image` with the orientation and the stored size, which masks need."""
    stored, orientation = _decode(path, "image")
    turned = _turn(to_rgb(stored), orientation if upright else 1)
    return Picture(turned, orientation if upright else 1, stored.size)


def read_mask(path: Path, rule: MaskRule, picture: Picture | None = None) -> Mask:
    """`read_drawn_mask` without where it was drawn."""
    return read_drawn_mask(path, rule, picture)[0]


def read_drawn_mask(
    path: Path, rule: MaskRule, picture: Picture | None = None
) -> tuple[Mask, bool]:
    """Load a mask as booleans [H, W], True = anomalous, and say whether only alpha held it.

    A mask without an orientation of its own that was drawn on the stored pixels of `picture` is
    turned as the picture was. Where the colour is the same everywhere and the alpha channel is
    not, the alpha channel is the mask.

    Raises:
        DataError: as `read_image`.
    """
    stored, orientation = _decode(path, "mask")
    drawn_on_stored = picture is not None and stored.size == picture.stored_size
    if picture is not None and drawn_on_stored and 1 in (orientation, picture.orientation):
        orientation = picture.orientation
    alpha = _drawn_alpha(stored)
    pixels = _above(stored if alpha is None else alpha, rule.threshold)
    turned = _turn(Image.fromarray(pixels.view(np.uint8)), orientation)
    return np.asarray(turned).astype(bool), alpha is not None


def _drawn_alpha(image: Image.Image) -> Image.Image | None:
    """The alpha channel of an image that has all its information there, else None."""
    if not image.has_transparency_data:
        return None
    *colours, alpha = image.convert("RGBA").split()
    flat = all(low == high for low, high in (band.getextrema() for band in colours))
    low, high = alpha.getextrema()
    return alpha if flat and low != high else None


def image_size(path: Path) -> tuple[int, int]:
    """Width and height as stored, from the header alone.

    Raises:
        DataError: as `read_image`.
    """
    with _opened(path, "image") as image:
        return image.size


def header(path: Path) -> tuple[str, str, int]:
    """Format ("PNG"), mode ("RGB") and EXIF orientation (1..8) of an image, without its pixels.

    The mode of a file with transparency of any kind is RGBA.

    Raises:
        DataError: as `read_image`.
    """
    with _opened(path, "image") as image:
        mode = "RGBA" if image.has_transparency_data else image.mode
        return image.format or "", mode, _orientation(image)


def resize_mask(mask: Mask, size: int, rule: MaskRule) -> tuple[Mask, int]:
    """Bring a mask [H, W] to [size, size] and count the regions that vanish on the way.

    "official" is what the released codes do: PIL's antialiased bilinear on 0/255, then > 0.5.
    A region (8-connected) is lost when none of its pixels lies on a True pixel of the result.

    Returns:
        The resized mask (unchanged for the rule "none") and the number of lost regions.
    """
    if rule.resize == "none" or mask.shape == (size, size):
        return mask, 0
    if not mask.any():
        return np.zeros((size, size), dtype=bool), 0
    how = Image.Resampling.BILINEAR if rule.resize == "official" else Image.Resampling.NEAREST
    grey = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
    # 127/255 < 0.5 < 128/255, so the released codes' "> 0.5" after ToTensor is "> 127" here.
    resized = np.asarray(grey.resize((size, size), how)) > 127
    return resized, _lost_regions(mask, resized)


def _lost_regions(mask: Mask, resized: Mask) -> int:
    """The number of 8-connected regions of `mask` of which `resized` keeps nothing."""
    from scipy import ndimage

    parts = ndimage.find_objects(mask.view(np.uint8))[0]  # rows and columns with a True pixel
    inside = mask[parts]
    rows, columns = (
        (2 * np.arange(part.start, part.stop) + 1) * new // (2 * old)
        for part, old, new in zip(parts, mask.shape, resized.shape, strict=True)
    )
    labels, count = ndimage.label(inside, structure=np.ones((3, 3), dtype=bool))
    kept = np.bincount(labels[inside & resized[rows][:, columns]], minlength=count + 1)
    return int(count - np.count_nonzero(kept))


def _decode(path: Path, what: str) -> tuple[Image.Image, int]:
    """The decoded file in its stored mode, and its EXIF orientation."""
    with _opened(path, what) as image:
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError(
                f"{image.width}x{image.height} pixels, more than the limit of {MAX_PIXELS}"
            )
        image.load()
        return image, _orientation(image)


@contextmanager
def _opened(path: Path, what: str) -> Iterator[Image.Image]:
    """An image file that is open; what goes wrong with it becomes a `DataError` that names it."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("it is not a regular file")  # opening a pipe may wait for ever
        # By file object: given a name, Pillow maps plain TIFFs and then turns them wrongly.
        with path.open("rb") as file, Image.open(file) as image:
            yield image
    except MemoryError:
        raise
    except Exception as error:  # a broken file makes decoders raise anything
        raise _unreadable(path, what, error) from error


def _unreadable(path: Path, what: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{what} {path} does not exist")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return DataError(f"{what} {path} is refused ({error}): make it smaller")
    return DataError(f"{what} {path} cannot be read ({error}): replace the file")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation that is still to be applied, 1 where there is none."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # a damaged EXIF block leaves the pixels usable
        return 1
    return value if value in _TURNS else 1


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    return image if orientation == 1 else image.transpose(_TURNS[orientation])


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB. 16-bit grey is divided by 257, float by its kind: 0..1 is stretched to 0..255."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray((wide / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        scale = 255 if values.max(initial=0) <= 1 else 1
        grey = (values * scale).round().clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return image.convert("RGB")


def _above(image: Image.Image, threshold: int) -> Mask:
    """Booleans of a mask in any mode; 16-bit masks are compared in the range that they use."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image).astype(np.float64))
        top = values.max(initial=0)
        unit = 1 / 255 if image.mode == "F" and top <= 1 else 257 if top > 255 else 1
        return np.asarray(values > threshold * unit)
    grey = image if image.mode == "L" else image.convert("L")
    return np.asarray(grey) > threshold
