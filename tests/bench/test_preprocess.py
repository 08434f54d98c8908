"""Images are squashed, and shown as they were."""

from __future__ import annotations

import numpy as np
from PIL import Image
from zsad.bench.preprocess import Preprocess

RANDOM = np.random.default_rng(0)


def test_a_squashed_picture_is_shown_as_it_was_prepared():
    image = Image.fromarray(RANDOM.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    prepare = Preprocess(32, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    np.testing.assert_array_equal(prepare.picture(prepare(image)), np.asarray(image))
