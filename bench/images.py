"""Reading images and masks from disk, whatever their suffix, mode or age."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import DataError


@dataclass(frozen=True)
class MaskRule:
    """How a mask file becomes booleans, and how booleans become the evaluated size.

    Attributes:
        threshold: a grey value above it is anomalous. The released codes use 0 everywhere.
        resize: "official" resizes bilinearly (antialiased) and keeps what is > 0.5; "nearest"
            keeps single pixels; "none" leaves the original size.
    """

    threshold: int = 0
    resize: Literal["official", "nearest", "none"] = "official"


def read_image(path: Path) -> Image.Image:
    """Load an image as RGB.

    Raises:
        DataError: the file is missing or cannot be decoded; the message names it.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError as error:
        raise DataError(f"image {path} does not exist") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"image {path} cannot be read ({error}): replace the file") from error


def read_mask(path: Path, rule: MaskRule) -> NDArray[np.bool_]:
    """Load a mask as booleans [H, W], True = anomalous.

    Raises:
        DataError: as `read_image`.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L")) > rule.threshold
    except FileNotFoundError as error:
        raise DataError(f"mask {path} does not exist") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"mask {path} cannot be read ({error}): replace the file") from error
