"""Images are squashed, and shown as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench.backbone import TokenSpec
from zsad.bench.errors import UsageError
from zsad.bench.preprocess import Preprocess, Unencoded
from zsad.bench.weights import load_backbone

RANDOM = np.random.default_rng(0)


def test_a_squashed_picture_is_shown_as_it_was_prepared():
    image = Image.fromarray(RANDOM.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    prepare = Preprocess(32, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    np.testing.assert_array_equal(prepare.picture(prepare(image)), np.asarray(image))


def test_images_that_a_method_encodes_itself_are_not_encoded_before():
    tiny = load_backbone("tiny")
    prepare, plain = Unencoded(tiny.native_size), Preprocess(tiny.native_size)
    picture = Image.new("RGB", (9, 9), (10, 200, 30))
    assert torch.equal(prepare(picture), plain(picture))
    assert prepare != plain, "no method that reads features shares their absence"
    images = torch.stack([prepare(picture)] * 2)
    features = prepare.encode(tiny, images, [])
    assert tiny.counter.images == 0
    assert len(features) == 2 and not features.class_token.any() and features.tokens == {}
    assert features.grid == tiny.encode_image(images).grid
    with pytest.raises(UsageError, match="declare none"):
        prepare.encode(tiny, images, [TokenSpec(1)])
