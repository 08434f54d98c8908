"""The shared forward: equal to open_clip's, to the released dual path, and to itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from zsad.bench.backbone import TokenSpec
from zsad.bench.errors import UsageError
from zsad.bench.preprocess import Preprocess
from zsad.bench.weights import random_backbone

SMALL = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 6, "head_width": 16},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 3,
    },
}
LAYERS = (6, 12, 18, 24)


@pytest.fixture(scope="module")
def small():
    return random_backbone(SMALL, "small")


@pytest.fixture(scope="module")
def pictures():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def photos(golden_inputs):
    """The recorded pictures as AnomalyCLIP prepares them, [3, 3, 518, 518]."""
    prepare = Preprocess(518, "bicubic")
    return torch.stack([prepare(Image.fromarray(image)) for image in golden_inputs.images])


@pytest.fixture(scope="module")
def dual(golden_24l, photos):
    """The dual path of the golden backbone on all pictures."""
    return golden_24l.encode_image(photos, [TokenSpec(layer, 6) for layer in LAYERS])


# -- weights drawn by name ----------------------------------------------------------------------


def test_named_weights_are_the_ones_that_were_recorded_with(golden_24l, golden_b16):
    assert golden_24l.weights_sha256 == (
        "77c22e4bc08d01d91ffbdc25bfdfb72329ebb1b3ac6f503646aca4840355e5ed"
    )
    assert golden_b16.weights_sha256 == (
        "b9dee71448de4c829efac030093d12fe5501665540084ecb408b896093d9639a"
    )


# -- against open_clip --------------------------------------------------------------------------


def test_class_token_is_that_of_open_clip(small, pictures):
    with torch.no_grad():
        expected = small.model.encode_image(pictures)
    torch.testing.assert_close(
        small.encode_image(pictures).class_token, expected, atol=1e-5, rtol=0
    )


def test_all_tokens_are_those_of_open_clip(small, pictures):
    with torch.no_grad():
        expected = small.model.forward_intermediates(
            pictures, image_indices=[1, 3, 5], image_output_fmt="NLC", normalize_intermediates=False
        )["image_intermediates"]
    features = small.encode_image(pictures, [TokenSpec(2), TokenSpec(4), TokenSpec(6)])
    for layer, tokens in zip((2, 4, 6), expected, strict=True):
        torch.testing.assert_close(features.tokens[TokenSpec(layer)], tokens, atol=1e-5, rtol=0)


def test_ordinary_path_does_not_notice_the_value_path(small, pictures):
    plain = small.encode_image(pictures, [TokenSpec(6)])
    both = small.encode_image(pictures, [TokenSpec(6), TokenSpec(6, 2), TokenSpec(3, 1)])
    assert torch.equal(plain.class_token, both.class_token)
    assert torch.equal(plain.tokens[TokenSpec(6)], both.tokens[TokenSpec(6)])


def test_text_features_are_those_of_open_clip(small):
    prompts = ["a photo of a normal metal_nut.", "X " * 30, "object"]
    with torch.no_grad():
        expected = small.model.encode_text(small.tokenize(prompts))
    torch.testing.assert_close(small.encode_text(prompts), expected, atol=1e-5, rtol=0)


def test_golden_towers_equal_open_clip(golden_24l, golden_inputs):
    prepare = Preprocess(336, "bicubic")
    images = torch.stack([prepare(Image.fromarray(golden_inputs.images[0]))])
    with torch.no_grad():
        image = golden_24l.model.encode_image(images)
        text = golden_24l.model.encode_text(golden_24l.tokenize(["a damaged bottle."]))
    torch.testing.assert_close(
        golden_24l.encode_image(images).class_token, image, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        golden_24l.encode_text(["a damaged bottle."]), text, atol=1e-5, rtol=0
    )


# -- against recorded answers -------------------------------------------------------------------


def test_pictures_are_prepared_as_recorded(photos, recorded):
    np.testing.assert_allclose(
        photos[:, :, ::16, ::16].numpy(), recorded("backbone")["pre_sub"], atol=1e-6
    )


def test_value_path_reproduces_recorded_tokens_and_similarities(golden_24l, dual, recorded):
    case = recorded("backbone")
    np.testing.assert_allclose(dual.class_token_no_ln.numpy(), case["class_token_no_ln"], atol=2e-5)
    text = torch.from_numpy(case["value_text"])
    for index, layer in enumerate(LAYERS):
        tokens = golden_24l.project(dual.tokens[TokenSpec(layer, 6)])  # [3, 1369, 768]
        # Rows 40, 80, ... of the recorded tokens, whose row 0 is the class token.
        np.testing.assert_allclose(
            tokens[:, 39::40, ::16].numpy(), case["value_tokens_sub"][:, index, 1:], atol=2e-5
        )
        similarity = (F.normalize(tokens, dim=-1) @ text.T / 0.07).softmax(dim=-1)[..., 1]
        np.testing.assert_allclose(
            similarity.numpy(), case["value_similarity"][:, index, 1:], atol=1e-6
        )


def test_other_activation_and_interpolation_reproduce_recorded_tokens(golden_24l, photos, recorded):
    case = recorded("backbone")
    view = golden_24l.view("gelu", "bicubic")
    features = view.encode_image(photos, [TokenSpec(layer) for layer in LAYERS])
    np.testing.assert_allclose(features.class_token.numpy(), case["gelu_class_token"], atol=2e-5)
    for index, layer in enumerate(LAYERS):
        np.testing.assert_allclose(
            features.tokens[TokenSpec(layer)][:, 9::10, ::16].numpy(),
            case["gelu_tokens_sub"][:, index, 1:],
            atol=2e-5,
        )


def test_bicubic_positions_are_the_recorded_ones(golden_24l, recorded):
    positions = golden_24l.view("gelu", "bicubic")._positions(37)
    np.testing.assert_allclose(
        positions[::10, ::16].numpy(),
        recorded("backbone")["gelu_bicubic_positions_sub"],
        atol=1e-6,
    )


def test_native_size_reproduces_the_recorded_class_token(golden_24l, golden_inputs, recorded):
    # CLIP's own transform: shortest side to 336, then the centre.
    crops = []
    for image in golden_inputs.images:
        wide = Image.fromarray(image).resize((403, 336), Image.Resampling.BICUBIC)
        left = round((403 - 336) / 2)
        crops.append(Preprocess(336)(wide.crop((left, 0, left + 336, 336))))
    found = golden_24l.encode_image(torch.stack(crops)).class_token
    np.testing.assert_allclose(found.numpy(), recorded("backbone")["native_class_token"], atol=2e-5)


# -- the value path -----------------------------------------------------------------------------


def test_value_path_is_the_running_sum_of_value_attention(small, pictures):
    specs = [TokenSpec(layer, 3) for layer in range(3, 7)]
    features = small.encode_image(pictures, [*specs, *map(TokenSpec, range(1, 7))])
    running = features.tokens[TokenSpec(2)]
    for layer in range(3, 7):
        block = small.visual.transformer.resblocks[layer - 1]
        residual = _value_attention(small, pictures, layer, block)
        running = running + residual
        torch.testing.assert_close(features.tokens[TokenSpec(layer, 3)], running, atol=1e-5, rtol=0)


def _value_attention(backbone, pictures, layer, block):
    """Softmax(v v^T / sqrt(d)) v through the output projection, head by head, [B, L, W]."""
    seen = []
    handle = block.ln_1.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        backbone.model.encode_image(pictures)
    handle.remove()
    attention, x = block.attn, seen[0]
    width = x.shape[-1]
    value = x @ attention.in_proj_weight[2 * width :].T + attention.in_proj_bias[2 * width :]
    heads = []
    for part in value.split(width // attention.num_heads, dim=-1):
        weights = (part @ part.transpose(1, 2) / part.shape[-1] ** 0.5).softmax(dim=-1)
        heads.append(weights @ part)
    with torch.no_grad():
        return attention.out_proj(torch.cat(heads, dim=-1))[:, 1:]


def test_value_tokens_of_several_layers_are_no_aliases(dual):
    kept = [dual.tokens[TokenSpec(layer, 6)] for layer in LAYERS]
    for first, second in itertools.pairwise(kept):
        assert first.data_ptr() != second.data_ptr()
        assert (first - second).abs().max() > 1e-2


def test_value_paths_of_two_beginnings_share_one_pass(small, pictures):
    before = small.counter.images
    both = small.encode_image(pictures, [TokenSpec(6, 1), TokenSpec(6, 4)])
    assert small.counter.images == before + 3
    for start in (1, 4):
        alone = small.encode_image(pictures, [TokenSpec(6, start)])
        torch.testing.assert_close(
            both.tokens[TokenSpec(6, start)], alone.tokens[TokenSpec(6, start)]
        )


# -- what is kept -------------------------------------------------------------------------------


def test_tokens_hold_what_was_asked_for_without_the_class_token(small, pictures):
    specs = {TokenSpec(0), TokenSpec(1), TokenSpec(6), TokenSpec(4, 2)}
    features = small.encode_image(pictures, specs)
    assert set(features.tokens) == specs
    assert {tuple(t.shape) for t in features.tokens.values()} == {(3, 16, 64)}
    assert features.grid == (4, 4)


def test_stem_is_what_enters_the_first_norm(small, pictures):
    embeddings = small.encode_image(pictures, [TokenSpec(0)]).tokens[TokenSpec(0)]
    with torch.no_grad():
        patches = small.visual.conv1(pictures).flatten(2).transpose(1, 2)
    expected = patches + small.visual.positional_embedding[1:]
    torch.testing.assert_close(embeddings, expected)


@pytest.mark.parametrize("spec", [TokenSpec(7), TokenSpec(-1), TokenSpec(2, 3), TokenSpec(3, 0)])
def test_layers_that_do_not_exist_are_refused(small, pictures, spec):
    with pytest.raises(UsageError, match="does not exist"):
        small.encode_image(pictures, [spec])


@pytest.mark.parametrize("shape", [(1, 3, 33, 33), (1, 3, 32, 40)])
def test_images_that_do_not_fit_are_refused(small, shape):
    with pytest.raises(UsageError, match="multiple of 8"):
        small.encode_image(torch.zeros(shape))


# -- sizes and views ----------------------------------------------------------------------------


def test_bilinear_positions_are_sampled_between_neighbours(small):
    rows = small.visual.positional_embedding[1:].detach().reshape(4, 4, -1).numpy()
    resized = small._positions(8)[1:].reshape(8, 8, -1).detach().numpy()
    places = (np.arange(8) + 0.5) / 2 - 0.5
    low = np.clip(np.floor(places).astype(int), 0, 3)
    high = np.clip(low + 1, 0, 3)
    part = np.clip(places - low, 0, 1)[:, None, None]
    along = rows[low] * (1 - part) + rows[high] * part
    across = along[:, low] * (1 - part[:, 0]) + along[:, high] * part[:, 0]
    np.testing.assert_allclose(resized, across, atol=1e-6)


def test_class_tokens_position_is_never_resized(small):
    assert torch.equal(small._positions(9)[0], small.visual.positional_embedding[0])


def test_any_square_size_is_taken(small):
    features = small.encode_image(torch.zeros(1, 3, 56, 56), [TokenSpec(6)])
    assert features.grid == (7, 7)
    assert features.tokens[TokenSpec(6)].shape == (1, 49, 64)


def test_a_view_leaves_the_weights_and_the_original_alone(small, pictures):
    before = small.encode_image(pictures).class_token
    view = small.view("gelu", "bicubic")
    assert view.model is small.model
    assert (view.encode_image(pictures).class_token - before).abs().max() > 1e-4
    assert torch.equal(small.encode_image(pictures).class_token, before)


def test_equal_forward_keys_mean_equal_features(small):
    assert small.view("own", "bicubic").forward_key(32) == small.forward_key(32)
    assert small.view("quick_gelu").forward_key(32) == small.forward_key(32)
    assert small.view("own", "bicubic").forward_key(64) != small.forward_key(64)
    assert small.view("gelu").forward_key(32) != small.forward_key(32)


def test_layers_of_24_are_found_in_other_depths(small, golden_24l, golden_b16):
    assert [golden_24l.layer(n) for n in (6, 12, 24)] == [6, 12, 24]
    assert [golden_b16.layer(n) for n in (6, 12, 24)] == [3, 6, 12]
    assert [small.layer(n) for n in (1, 12, 24)] == [1, 3, 6]


# -- windows ------------------------------------------------------------------------------------


def test_the_window_of_all_patches_is_the_whole_image(small, pictures):
    features = small.encode_image(pictures, [TokenSpec(0)])
    windows = torch.arange(16)[None]
    (embedded,) = small.encode_windows(features.tokens[TokenSpec(0)], [windows])
    torch.testing.assert_close(embedded[:, 0], features.class_token, atol=1e-5, rtol=0)


def test_windows_are_encoded_apart_from_each_other(small, pictures, monkeypatch):
    embeddings = small.encode_image(pictures, [TokenSpec(0)]).tokens[TokenSpec(0)]
    windows = torch.tensor([[0, 1, 4, 5], [10, 11, 14, 15], [5, 6, 9, 10]])
    larger = torch.tensor([[0, 1, 2, 4, 5, 6, 8, 9, 10]])

    def alone(windows):
        return torch.cat([small.encode_windows(embeddings, [w[None]])[0] for w in windows], dim=1)

    for at_once in (1 << 11, 7):
        monkeypatch.setattr("zsad.bench.backbone.TOKENS_AT_ONCE", at_once)
        together = small.encode_windows(embeddings, [windows, larger])
        for found, scale in zip(together, (windows, larger), strict=True):
            torch.testing.assert_close(found, alone(scale), atol=1e-5, rtol=0)


def test_class_tokens_alone_are_those_of_the_whole_forward(small, pictures, monkeypatch):
    expected = small.encode_image(pictures).class_token
    before = small.counter.images
    for at_once in (1 << 11, 17):
        monkeypatch.setattr("zsad.bench.backbone.TOKENS_AT_ONCE", at_once)
        torch.testing.assert_close(small.class_tokens(pictures), expected, atol=1e-5, rtol=0)
    assert small.counter.images == before + 2 * len(pictures)


# -- text ---------------------------------------------------------------------------------------


def test_token_ids_are_those_of_clips_tokeniser(small):
    expected = {
        "X " * 12 + "object.": [343] * 12 + [14115, 269],
        "X " * 12 + "damaged object.": [343] * 12 + [13568, 14115, 269],
        "N N N N N object.": [333] * 5 + [14115, 269],
        "N N N N N A A damaged object.": [333] * 5 + [320, 320, 13568, 14115, 269],
        "a photo of a normal bottle.": [320, 1125, 539, 320, 5967, 5392, 269],
        "anomalous": [21612, 526, 879],
        "metal_nut": [4044, 318, 6491],
        "macaroni1": [41824, 272],
        "PCB1": [26235, 272],
        "01": [271, 272],
    }
    ids = small.tokenize(list(expected))
    assert ids.shape == (len(expected), 77)
    for row, tokens in zip(ids.tolist(), expected.values(), strict=True):
        end = row.index(49407)
        assert row[: end + 1] == [49406, *tokens, 49407]
        assert row[end + 1 :] == [0] * (76 - end)
        assert max(range(77), key=row.__getitem__) == end


def test_text_does_not_depend_on_the_batch(small):
    prompts = ["a", "a photo of a bottle with a flaw for visual inspection.", "tile"]
    together = small.encode_text(prompts, batch_size=2)
    alone = torch.cat([small.encode_text([prompt]) for prompt in prompts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_deep_tokens_overwrite_the_first_positions_from_the_second_block_on(small):
    ids = small.tokenize(["one two three four five six"])
    embeddings, ends = small.embed_tokens(ids), ids.argmax(dim=-1)
    deep = [torch.full((4, 32), 0.3), torch.full((4, 32), -0.2)]
    found = small.encode_embeddings(embeddings, ends, deep)
    x = embeddings + small.text.positional_embedding
    causal = torch.full((77, 77), float("-inf")).triu(1)
    with torch.no_grad():
        for number, block in enumerate(small.text.transformer.resblocks):
            if 1 <= number <= 2:
                x = torch.cat([x[:, :1], deep[number - 1][None], x[:, 5:]], dim=1)
            x = block(x, attn_mask=causal)
        expected = small.text.ln_final(x[:, ends[0]]) @ small.text.text_projection
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - small.encode_embeddings(embeddings, ends)).abs().max() > 1e-3


def test_gradients_reach_embeddings_and_deep_tokens_but_no_weight(small):
    ids = small.tokenize(["one two three four five six"])
    embeddings = small.embed_tokens(ids).clone().requires_grad_()
    deep = [torch.zeros(4, 32, requires_grad=True)]
    small.encode_embeddings(embeddings, ids.argmax(dim=-1), deep).sum().backward()
    assert embeddings.grad.abs().sum() > 0
    assert deep[0].grad.abs().sum() > 0
    assert all(p.grad is None and not p.requires_grad for p in small.model.parameters())


def test_counter_is_shared_by_views(small, pictures):
    before = small.counter.images, small.counter.prompts
    small.view("gelu").encode_image(pictures)
    small.encode_text(["a", "b"])
    assert (small.counter.images, small.counter.prompts) == (before[0] + 3, before[1] + 2)
