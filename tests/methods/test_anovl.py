"""AnoVL against the recorded released code, without and with its test-time adapter.

Probabilities lie within 0.003 of 0.5, because the released code uses no temperature: hence 1e-6.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from zsad.bench import create, predict_images
from zsad.methods import _anovl_adaptation, _anovl_tiles, _prompts
from zsad.methods._anovl_adaptation import Adaptation, adaptation_loss
from zsad.methods.anovl import AnoVl, AnoVlOptions, average3, views

STEPS = 5


@pytest.fixture(scope="module")
def case(recorded):
    return recorded("anovl_tta")


@pytest.fixture(scope="module")
def plain(golden_b16):
    """The training-free method."""
    return create("anovl", golden_b16)


@pytest.fixture
def official(golden_b16, plain):
    """The adapted method; it shares the text that `plain` has encoded."""
    method = create("anovl", golden_b16, variant="official")
    method._texts = plain._texts
    return method


@pytest.fixture(scope="module")
def prepared(plain, golden_inputs):
    """The pictures [3, 3, 240, 240] as AnoVL prepares them."""
    prepare = plain.preprocess
    return torch.stack([prepare(Image.fromarray(image)) for image in golden_inputs.images])


class Recorded(Adaptation):
    """The adaptation with the adapter's weights and the noise of the recording put in."""

    image = -1

    def initial_adapter(self, prompts, width):
        state = {"ad.weight": torch.zeros(prompts, width), "ad.bias": torch.zeros(prompts)}
        self.fill(state)
        return state["ad.weight"], state["ad.bias"]

    def noise(self, tokens, step):
        self.image += step == 0
        digest = hashlib.sha256(f"anovl.noise.{self.image}.{step}".encode()).digest()
        random = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))
        drawn = 0.055 * random.standard_normal((tokens.shape[1] // 225, 15, 15, 640))
        return torch.from_numpy(drawn.astype(np.float32)).reshape(1, -1, 640)


@pytest.fixture
def recorded_method(golden_b16, plain, fill_by_name):
    """AnoVL with given options and what was recorded; it shares the text of `plain`."""

    def make(options):
        method = AnoVl(golden_b16, options)
        method._texts = plain._texts
        method.adaptation = Recorded(**vars(method.adaptation))
        method.adaptation.fill = fill_by_name
        return method

    return make


# -- training-free ------------------------------------------------------------------------------


def test_scores_and_maps_are_the_recorded_ones(plain, golden_inputs, recorded, case):
    found = predict_images(plain, golden_inputs.images, "bottle")
    np.testing.assert_allclose(found.scores.numpy(), case["image_score"], atol=2e-7)
    np.testing.assert_allclose(found.maps[:, ::4, ::4].numpy(), case["plain_map_sub"], atol=3e-7)
    alone = recorded("anovl")
    assert found.scores[0].item() == pytest.approx(alone["image_score"].item(), abs=2e-7)
    np.testing.assert_allclose(found.maps[0, ::4, ::4].numpy(), alone["map_sub"], atol=3e-7)


def test_value_tokens_of_all_blocks_are_the_recorded_ones(golden_b16, plain, prepared, recorded):
    features = golden_b16.encode_image(prepared[:1], plain.token_specs)
    tokens = golden_b16.project(features.tokens[plain.patches])[0]
    np.testing.assert_allclose(
        tokens[::4, ::8].numpy(), recorded("anovl")["patch_tokens_vv_sub"], atol=2e-5
    )
    text = plain.text("bottle").states
    probability = (F.normalize(tokens, dim=-1) @ text.T).softmax(dim=-1)[:, 1]
    np.testing.assert_allclose(
        probability.reshape(15, 15).numpy(), recorded("anovl")["map15"], atol=3e-7
    )


def test_the_22_views_are_the_recorded_ones(golden_b16, prepared, recorded, case):
    seen = views(prepared[:1])[:, 0]
    assert seen.shape == (22, 3, 240, 240)
    means = seen.double().mean(dim=(1, 2, 3)).sort().values
    np.testing.assert_allclose(means.numpy(), recorded("anovl")["aug_mean_sorted"], atol=1e-6)
    ours = seen[:, :, ::24, ::24].flatten(1).numpy()
    theirs = case["aug_img0_sorted_by_mean_sub"].reshape(22, -1)
    distance = np.abs(ours[:, None] - theirs[None]).max(axis=-1)
    assert sorted(distance.argmin(axis=1)) == list(range(22))  # turned views have equal means
    assert distance.min(axis=1).max() < 1e-4
    tokens = golden_b16.encode_image(seen).class_token
    np.testing.assert_allclose(
        tokens.mean(dim=0).numpy(), recorded("anovl")["cls_feature_mean_over_aug"], atol=2e-5
    )


def test_views_of_a_batch_are_those_of_each_image(prepared):
    together = views(prepared)
    for index in range(3):
        torch.testing.assert_close(together[:, index], views(prepared[index : index + 1])[:, 0])


def test_grey_and_turned_views_are_what_they_say(prepared):
    image = prepared[0]
    seen = views(image[None])[:, 0]
    assert torch.equal(seen[0], image)
    assert torch.equal(seen[1], image.flip(-1))
    grey = (image * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=0)
    torch.testing.assert_close(seen[2], grey.expand(3, -1, -1))
    assert torch.equal(seen[4], image.flip(-1).flip(-2))


def test_patches_are_averaged_with_their_neighbours_and_a_repeated_border():
    patches = torch.rand(2, 20, generator=torch.Generator().manual_seed(0))
    found = average3(patches, (4, 5)).reshape(2, 4, 5)
    padded = np.pad(patches.reshape(2, 4, 5).numpy(), ((0, 0), (1, 1), (1, 1)), mode="edge")
    for row in range(4):
        for column in range(5):
            expected = padded[:, row : row + 3, column : column + 3].mean(axis=(1, 2))
            np.testing.assert_allclose(found[:, row, column].numpy(), expected, atol=1e-6)


def test_text_is_encoded_once_a_class(golden_b16):
    method = create("anovl", golden_b16)
    before = golden_b16.counter.prompts
    first = method.text("macaroni1")
    assert golden_b16.counter.prompts - before == 2 * 462
    assert method.text("macaroni1") is first
    assert golden_b16.counter.prompts - before == 2 * 462


def test_macaroni1_is_called_macaroni():
    prompts = _prompts.anovl_prompts("macaroni", ["normal {}"])
    assert prompts[0] == "a cropped industrial photo of the normal macaroni"
    assert _prompts.ANOVL_RENAMED["macaroni2"] == "macaroni"


# -- adapted at test time -----------------------------------------------------------------------


def test_the_dictionary_is_in_the_released_order(plain, case):
    prompts = plain.text("bottle").prompts
    assert prompts.shape == (924, 640)
    for side, half in enumerate(prompts.split(462)):
        np.testing.assert_allclose(
            half[::11, ::16].numpy(), case["text_list_bottle_sub"][..., side], atol=1e-6
        )


def test_adapted_maps_are_the_recorded_ones_optimiser_leak_included(
    recorded_method, golden_inputs, case
):
    losses = []
    watched = adaptation_loss

    def note(clean, disturbed):
        loss = watched(clean, disturbed)
        losses.append(loss.item())
        return loss

    method = recorded_method(AnoVlOptions(steps=STEPS, leak=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_anovl_adaptation, "adaptation_loss", note)
        found = predict_images(method, golden_inputs.images, "bottle")
    np.testing.assert_allclose(found.maps[:, ::4, ::4].numpy(), case["tta_map_sub"], atol=1e-6)
    np.testing.assert_allclose(found.scores.numpy(), case["image_score"], atol=1e-6)
    np.testing.assert_allclose(np.reshape(losses, (3, STEPS)), case["tta_loss"], atol=1e-5)
    weight = method.adaptation.leaking["bottle"].weight.detach()
    assert weight.norm().item() == pytest.approx(case["tta_ad_weight_norm"][2], rel=1e-5)
    np.testing.assert_allclose(
        weight.flatten()[:8].numpy(), case["tta_ad_weight_first8"][2], atol=1e-6
    )


def test_without_the_leak_the_first_image_alone_is_as_recorded(
    recorded_method, golden_inputs, case
):
    method = recorded_method(AnoVlOptions(steps=STEPS))
    found = predict_images(method, golden_inputs.images, "bottle", batch_size=1)
    difference = np.abs(found.maps[:, ::4, ::4].numpy() - case["tta_map_sub"]).max(axis=(1, 2))
    assert difference[0] < 1e-6
    assert (difference[1:] > 1e-4).all()


def test_an_adapted_answer_depends_on_its_image_alone(official, plain, golden_inputs):
    images, names = golden_inputs.images[:2], ["bottle", "carpet"]
    together = predict_images(official, images, names)
    turned = predict_images(official, images[::-1], names[::-1], batch_size=1)
    torch.testing.assert_close(together.maps, turned.maps.flip(0), atol=1e-6, rtol=0)
    untouched = predict_images(plain, images, names)
    assert (together.maps - untouched.maps).abs().max() > 1e-4
    torch.testing.assert_close(together.scores, untouched.scores)


def test_adaptation_leaves_no_gradient_and_no_weight_behind(official, golden_inputs):
    found = predict_images(official, golden_inputs.images[:1], "bottle")
    assert not found.maps.requires_grad
    assert not list(official.parameters())
    assert all(p.grad is None for p in official.backbone.model.parameters())


def test_loss_is_entropy_and_half_the_separation():
    clean = torch.tensor([[[0.7, 0.3], [0.6, 0.4]]])
    noisy = torch.tensor([[[0.5, 0.5], [0.8, 0.2]]])
    entropy = -(clean * clean.log()).sum() / 2
    separated = (-noisy[..., 1].log() - clean[..., 0].log()).mean()
    expected = (entropy + 0.5 * separated).item()
    assert adaptation_loss(clean, noisy).item() == pytest.approx(expected, rel=1e-6)


# -- two tiles ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide_pictures(golden_inputs):
    """The recorded pictures at 600 x 500, 700 x 500 and 600 x 400 px."""
    first, second, third = (Image.fromarray(image) for image in golden_inputs.images)
    return [
        first,
        second.resize((700, 500), Image.Resampling.BICUBIC),
        third.crop((0, 50, 600, 450)),
    ]


@pytest.mark.parametrize("steps", [0, STEPS])
def test_scores_losses_and_joined_maps_of_two_tiles_are_the_recorded_ones(
    recorded_method, wide_pictures, recorded, monkeypatch, steps
):
    case = recorded("anovl_visa")
    losses, maps = [], []

    def noted(kept, function):
        def run(*arguments):
            kept.append(function(*arguments))
            return kept[-1]

        return run

    monkeypatch.setattr(_anovl_adaptation, "adaptation_loss", noted(losses, adaptation_loss))
    monkeypatch.setattr(_anovl_tiles, "join_tiles", noted(maps, _anovl_tiles.join_tiles))
    method = recorded_method(AnoVlOptions(steps=steps, leak=True, script="visa"))
    found = predict_images(method, wide_pictures, "bottle", batch_size=1)
    np.testing.assert_allclose(found.scores.numpy(), case["image_score"], atol=2e-7)
    joined = [m[0, 0] for m in maps if m.shape[1] == 1]
    for i, (joint, square) in enumerate(zip(joined, found.maps, strict=True)):
        expected = case[f"{'map' if steps else 'plain_map'}_{i}_sub"]
        np.testing.assert_allclose(joint[::8, ::8].numpy(), expected, atol=1e-6)
        assert square.mean().item() == pytest.approx(joint.mean().item(), abs=1e-5)
    if steps:
        found_losses = [loss.item() for loss in losses]
        np.testing.assert_allclose(np.reshape(found_losses, (3, STEPS)), case["loss"], atol=2e-6)
        weight = method.adaptation.leaking["bottle"].weight.detach()
        assert weight.norm().item() == pytest.approx(case["weight_norm"][2], rel=1e-5)


def test_tiled_answers_depend_on_their_image_alone_whatever_the_sizes(
    golden_b16, plain, wide_pictures
):
    method = create("anovl", golden_b16, "official_visa")
    method._texts = plain._texts
    upright = wide_pictures[1].rotate(90, expand=True)
    pictures = [wide_pictures[0], wide_pictures[1], upright, wide_pictures[0].rotate(180)]
    together = predict_images(method, pictures, "bottle")
    apart = predict_images(method, pictures[::-1], "bottle", batch_size=1)
    torch.testing.assert_close(together.maps, apart.maps.flip(0), atol=1e-6, rtol=0)
    torch.testing.assert_close(together.scores, apart.scores.flip(0), atol=1e-6, rtol=0)
    assert together.maps.shape == (4, 240, 240)
