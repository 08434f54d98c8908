"""CLIP: written out by hand from open_clip's own forward, and its switches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F
from zsad.bench import create, predict_images
from zsad.bench.errors import UsageError
from zsad.bench.preprocess import Preprocess

SIZE = 112  # 8 x 8 patches; keeps the towers quick


@pytest.fixture(scope="module")
def answer(golden_24l, golden_inputs):
    """A method on all pictures at a small size."""

    def run(name="clip", **options):
        method = create(name, golden_24l, image_size=SIZE, **options)
        return predict_images(method, golden_inputs.images, "bottle")

    return run


@pytest.fixture(scope="module")
def by_hand(golden_24l, golden_inputs):
    """Class tokens, projected patch tokens and text features, with open_clip's modules."""
    prepare = Preprocess(SIZE)
    images = torch.stack([prepare(Image.fromarray(image)) for image in golden_inputs.images])
    model = golden_24l.model
    positions = golden_24l.visual.positional_embedding
    with torch.no_grad():
        grid = positions[1:].T.reshape(1, -1, 24, 24)
        resized = F.interpolate(grid, (8, 8), mode="bilinear", align_corners=False)
        patches = golden_24l.visual.conv1(images).flatten(2).transpose(1, 2)
        first = golden_24l.visual.class_embedding.expand(3, 1, -1)
        x = torch.cat([first, patches], dim=1)
        x = x + torch.cat([positions[:1], resized.flatten(2)[0].T])
        x = golden_24l.visual.ln_pre(x)
        kept = {}
        for number, block in enumerate(golden_24l.visual.transformer.resblocks, start=1):
            x = block(x)
            kept[number] = golden_24l.visual.ln_post(x) @ golden_24l.visual.proj
        text = model.encode_text(
            golden_24l.tokenize(["a photo of a normal bottle.", "a photo of an anomalous bottle."])
        )
        plain = x[:, 0] @ golden_24l.visual.proj
    return kept, F.normalize(text, dim=-1), plain


def probability(tokens, text):
    return (F.normalize(tokens, dim=-1) @ text.T / 0.07).softmax(dim=-1)[..., 1]


def enlarged(patches):
    square = patches.reshape(-1, 1, 8, 8)
    return F.interpolate(square, (SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]


def test_scores_and_maps_are_the_ones_made_by_hand(answer, by_hand):
    tokens, text, _ = by_hand
    found = answer(smoothing_sigma=0.0)
    torch.testing.assert_close(found.scores, probability(tokens[24][:, 0], text), atol=1e-5, rtol=0)
    expected = enlarged(probability(tokens[24][:, 1:], text))
    torch.testing.assert_close(found.maps, expected, atol=1e-5, rtol=0)


def test_maps_are_smoothed_with_the_published_sigma_of_518_px(answer):
    sharp, soft = answer(smoothing_sigma=0.0), answer()
    expected = [gaussian_filter(one, 4 * SIZE / 518) for one in sharp.maps.numpy()]
    np.testing.assert_allclose(soft.maps.numpy(), np.stack(expected), atol=1e-5)
    assert torch.equal(sharp.scores, soft.scores)


def test_maps_of_several_layers_are_added(answer, by_hand):
    tokens, text, _ = by_hand
    found = answer(layers=(6, 12, 18, 24), smoothing_sigma=0.0).maps
    expected = sum(enlarged(probability(tokens[n][:, 1:], text)) for n in (6, 12, 18, 24))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_class_token_can_go_without_the_last_norm(answer, by_hand):
    _, text, plain = by_hand
    found = answer(class_token_ln=False).scores
    torch.testing.assert_close(found, probability(plain, text), atol=1e-5, rtol=0)


def test_temperature_moves_scores_but_not_their_order(answer):
    cold, warm = answer(temperature=0.01).scores, answer(temperature=0.5).scores
    assert (cold - warm).abs().max() > 1e-3
    assert torch.equal(cold.argsort(), warm.argsort())


def test_class_name_is_read(golden_24l, golden_inputs):
    method = create("clip", golden_24l, image_size=SIZE)
    images = [golden_inputs.images[0]] * 2
    both = predict_images(method, images, ["bottle", "carpet"])
    assert (both.scores[0] - both.scores[1]).abs() > 1e-4
    assert (both.maps[0] - both.maps[1]).abs().max() > 1e-4


def test_published_settings_are_the_default(golden_24l):
    method = create("clip", golden_24l)
    assert method.image_size == method.map_size == 518
    assert method.smoothing_sigma == 4
    assert (method.protocol()["activation"], method.protocol()["pos_embed"]) == (
        "quick_gelu",
        "bilinear",
    )


def test_a_layer_that_does_not_exist_is_refused(golden_24l, golden_inputs):
    method = create("clip", golden_24l, image_size=SIZE, layers=(25,))
    with pytest.raises(UsageError, match="layer=25"):
        predict_images(method, golden_inputs.images[:1], "bottle")


@pytest.mark.parametrize("options", [{"layer": (24,)}, {"layers": 24}, {"temperature": "low"}])
def test_options_that_make_no_sense_are_refused_by_name(golden_24l, options):
    with pytest.raises(UsageError, match=next(iter(options))):
        create("clip", golden_24l, **options)
