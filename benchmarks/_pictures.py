"""A folder of drawn pictures in any number, as a user's own images lie."""

from __future__ import annotations

from pathlib import Path

from zsad.datasets._drawing import to_image
from zsad.datasets._kinds import TEST_DEFECTS, TEST_KINDS
from zsad.datasets._synthetic import draw, seeded

SEED = 3


def draw_pictures(root: Path, count: int, size: int = 96) -> None:
    """Draw pictures of the built-in kinds, normal and anomalous by turns, with masks.

    Args:
        root: normal/, anomalous/ and masks/ are made in it.
        count: of pictures.
        size: side in pixels.
    """
    for folder in ("normal", "anomalous", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        kind, label = TEST_KINDS[number % len(TEST_KINDS)], number % 2
        defect = TEST_DEFECTS[number // 2 % len(TEST_DEFECTS)] if label else None
        drawing = draw(kind, defect, seeded(SEED, kind, label, number), size)
        picture = drawing.normal if drawing.anomalous is None else drawing.anomalous
        name = f"{number:05d}.png"
        to_image(picture).save(root / ("anomalous" if label else "normal") / name)
        if label:
            to_image(drawing.mask).save(root / "masks" / name)
