"""The split of sets that come without one: a seeded quarter of the normal images is for testing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..bench.errors import DataError, UsageError, reading

Item = TypeVar("Item")


@dataclass(frozen=True)
class NormalSplit:
    """Which normal images are test images.

    The rule is that of DRA, DevNet and AHL, which FAPrompt follows for SDD, AITEX, ELPV and LAG:
    scikit-learn's `train_test_split(test_size=0.25, random_state=42)` on the normal images alone,
    all anomalous ones being test images. Written with NumPy's legacy generator, whose stream is
    frozen, so that no later shuffle changes the members.

    Attributes:
        fraction: the share of normal images that is tested, rounded up.
        seed: of the permutation.
        list_file: a text file with the names of the normal test images, one a line; it replaces
            the rule.
    """

    fraction: float = 0.25
    seed: int = 42
    list_file: Path | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.fraction, int | float) and not isinstance(self.fraction, bool)
        if not number or not 0 < self.fraction <= 1:
            raise UsageError(f"normal_test_fraction lies in (0, 1], not {self.fraction!r}")
        whole = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        if not whole or not 0 <= self.seed < 2**32:
            raise UsageError(f"split_seed is a whole number from 0 to 2**32 - 1, not {self.seed!r}")

    def divide(
        self, normals: Sequence[Item], names: Sequence[str]
    ) -> tuple[list[Item], list[Item]]:
        """Test and train part of the normal images; their order decides who goes where.

        Args:
            normals: the normal images, in the order that the rule permutes.
            names: what a list file would call each of them.

        Raises:
            DataError: the list file is missing or names an image that does not exist.
        """
        if self.list_file is not None:
            wanted = _read_list(self.list_file)
            unknown = wanted - set(names)
            if unknown:
                raise DataError(
                    f"{self.list_file} names {len(unknown)} images that do not exist, "
                    f"first '{min(unknown)}'"
                )
            chosen = [name in wanted for name in names]
            pairs = list(zip(normals, chosen, strict=True))
            return [n for n, tested in pairs if tested], [n for n, tested in pairs if not tested]
        order = np.random.RandomState(self.seed).permutation(len(normals))
        count = math.ceil(self.fraction * len(normals))
        return [normals[i] for i in order[:count]], [normals[i] for i in order[count:]]


def _read_list(path: Path) -> set[str]:
    with reading(path, "list of test images", DataError):
        lines = path.read_text(encoding="utf-8").splitlines()
    return {line.strip() for line in lines if line.strip()}
