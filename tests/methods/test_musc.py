"""MuSc answers as the released code did, whatever the order, the batch and the tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from zsad.bench import create, predict_images
from zsad.bench.category import KeptImages, observe
from zsad.bench.errors import UsageError
from zsad.bench.predict import encode_pictures
from zsad.bench.query import Prediction
from zsad.methods import musc
from zsad.methods.musc import (
    MuSc,
    aggregated,
    greatest_similarities,
    nearest_distances,
    rescored,
)

GRID = (37, 37)


@pytest.fixture(scope="module")
def golden(recorded):
    return {name: torch.from_numpy(values) for name, values in recorded("musc").items()}


@pytest.fixture(scope="module")
def category(golden_24l, golden_inputs):
    """The recorded category, encoded by the view of a variant: the pictures and nine changes."""
    pictures = golden_inputs.images
    changed = [
        *pictures,
        *(np.flip(p, axis=1) for p in pictures),
        *(np.rot90(p, k=1, axes=(0, 1)) for p in pictures),
        *(np.roll(p, shift=(37, 53), axis=(0, 1)) for p in pictures),
    ]
    images = [Image.fromarray(np.ascontiguousarray(p)) for p in changed]

    def encoded(variant: str) -> KeptImages:
        method, kept = create("musc", golden_24l, variant), KeptImages(12)
        for start in range(0, 12, 4):
            kept.add(encode_pictures(method, images[start : start + 4], ["bottle"] * 4))
        return kept

    return encoded


@pytest.fixture(scope="module")
def official(category):
    return category("official")


def answers(method: MuSc, kept: KeptImages) -> Prediction:
    observe(method, kept)
    with torch.no_grad():
        return Prediction.joined([method.predict(batch) for batch in kept.batches()])


def close(found, expected, atol):
    torch.testing.assert_close(found.double(), expected.double(), atol=atol, rtol=0)


def test_the_official_variant_answers_as_recorded(golden_24l, official, golden):
    method = create("musc", golden_24l, "official")
    found = answers(method, official)
    close(official.all().features.class_token[:, ::4], golden["class_feature"], 1e-4)
    close(method._patch_maps[:, ::4], golden["patch_map_sub"], 5e-6)
    close(found.maps[:, ::20, ::20], golden["map_sub"], 5e-6)
    close(found.maps.amax(dim=(1, 2)), golden["score_before"], 5e-6)
    close(found.scores, golden["score"], 2e-5)


def test_patch_scores_of_a_layer_and_degree_are_as_recorded(official, golden):
    layers = (6, 12, 18, 24)
    for layer, degree, stated in (
        (18, 3, golden["msm_sub"][1, 2]),
        (6, 1, golden["msm_sub"][0, 0]),
    ):
        spec = musc.TokenSpec(layer)
        assert layers.index(layer) == (2 if layer == 18 else 0)
        tokens = aggregated(official.all().features.tokens[spec], GRID, degree, True)
        best = torch.zeros(12, 1369, 12)
        greatest_similarities(tokens, best, lambda: None)
        close(nearest_distances(best, 3)[::4, ::16], stated, 5e-6)
        if layer == 18:
            distances = (2 - 2 * best[0, ::28, 1:]).sqrt()
            close(distances, golden["nearest_r3_l18_image0_sub"], 5e-6)


def test_the_first_release_read_raw_tokens_for_degree_one(golden_24l, official, golden):
    method = create("musc", golden_24l, "paper")
    observe(method, official)
    close(method._patch_maps[:, ::8], golden["first_upload_patch_map_sub"], 5e-6)


def test_parts_score_each_other_alone_and_image_scores_are_smoothed_over_all(
    golden_24l, official, golden, monkeypatch
):
    parts = [torch.nonzero(golden["divide2_subset"] == number)[:, 0].tolist() for number in (0, 1)]
    method = create("musc", golden_24l, "official")
    monkeypatch.setattr(method, "parts", lambda images: parts)
    found = answers(method, official)
    close(found.maps[:, ::42, ::42], golden["divide2_map_sub"], 5e-6)
    close(found.maps.amax(dim=(1, 2)), golden["divide2_score_before"], 5e-6)
    close(found.scores, golden["divide2_score"], 2e-5)


def test_the_default_variant_runs_the_backbones_own_activation(golden_24l, category, golden):
    method = create("musc", golden_24l)
    assert method.variant == "fixed"
    found = answers(method, category("fixed"))
    close(found.maps[:, ::42, ::42], golden["quickgelu_map_sub"], 5e-6)
    close(found.scores, golden["quickgelu_score"], 2e-5)


def test_image_scores_are_averaged_over_windows_as_recorded(golden):
    similar = torch.linalg.cholesky(golden["similarity"].double() + 1e-9 * torch.eye(12))
    for row, window in enumerate((1, 2, 3, 8, 9)):
        found = rescored(golden["score_before"], similar, [window])
        close(found, golden["score_per_window"][row], 2e-5)
    close(rescored(golden["score_before"], similar, [1, 8, 9]), golden["score_k189"], 2e-5)


def test_equal_raw_scores_are_all_zero():
    tokens = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    assert rescored(torch.full((4,), 0.3), tokens, [1, 2]).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("tile", [1, 5 * 36 * 4, 1 << 20])
def test_each_pair_is_multiplied_once_and_tiles_do_not_matter(monkeypatch, tile):
    tokens = F.normalize(torch.randn(7, 6, 5, generator=torch.Generator().manual_seed(1)), dim=-1)
    monkeypatch.setattr(musc, "TILE_BYTES", tile)
    best, asked = torch.zeros(7, 6, 7), []
    greatest_similarities(tokens, best, lambda: asked.append(1))
    literal = torch.einsum("imd,jnd->imjn", tokens, tokens).amax(dim=3)
    literal[range(7), :, range(7)] = -1
    torch.testing.assert_close(best, literal)
    assert len(asked) == 7


def test_neighbourhoods_are_averaged_without_those_beyond_the_border():
    tokens = torch.randn(1, 12, 6, generator=torch.Generator().manual_seed(2))
    found = aggregated(tokens, (3, 4), 3, normalise=True)[0].reshape(3, 4, 6)
    centred = (tokens - tokens.mean()).reshape(3, 4, 6)
    torch.testing.assert_close(found[0, 0], F.normalize(centred[:2, :2].sum((0, 1)), dim=0))
    torch.testing.assert_close(found[1, 2], F.normalize(centred[:3, 1:4].sum((0, 1)), dim=0))


@pytest.fixture(scope="module")
def pictures():
    numbers = np.random.default_rng(3)
    return list(numbers.integers(0, 255, (9, 48, 48, 3)).astype(np.uint8))


def test_large_categories_are_divided_by_content_whatever_the_order(tiny, pictures):
    method = create("musc", tiny, max_images=4)
    whole = predict_images(method, pictures, "tile")
    order = [4, 2, 8, 0, 6, 1, 3, 7, 5]
    permuted = predict_images(method, [pictures[i] for i in order], "tile", batch_size=2)
    torch.testing.assert_close(permuted.scores, whole.scores[order], atol=1e-5, rtol=0)
    torch.testing.assert_close(permuted.maps, whole.maps[order], atol=1e-5, rtol=0)
    undivided = predict_images(create("musc", tiny), pictures, "tile")
    assert not torch.allclose(undivided.maps, whole.maps, atol=1e-3)


def test_parts_are_nearly_equal_and_hold_every_image_once(tiny):
    class Nine:
        keys = (5, 3, 8, 1, 9, 2, 7, 4, 6)

        def __len__(self):
            return 9

    parts = create("musc", tiny, max_images=4).parts(Nine())
    assert sorted(place for part in parts for place in part) == list(range(9))
    assert [len(part) for part in parts] == [3, 3, 3]
    assert parts[0] == [3, 7, 6], "the images of the first, fourth and seventh key"
    assert create("musc", tiny, "official").parts(Nine()) == [list(range(9))]


@pytest.mark.parametrize(
    ("variant", "count", "least"),
    [("official", 4, 5), ("official_visa", 8, 9), ("fixed", 1, 2), ("shared", 1, 2)],
)
def test_a_category_that_is_too_small_is_refused_and_says_how_many(
    tiny, pictures, variant, count, least
):
    method = create("musc", tiny, variant)
    with pytest.raises(UsageError, match=f"at least {least} of a category, not {count}"):
        predict_images(method, pictures[:count], "tile")
    answer = predict_images(method, pictures[:least], "tile")
    assert torch.isfinite(answer.scores).all()


def test_an_image_alone_has_no_score(tiny, pictures):
    method = create("musc", tiny)
    query = encode_pictures(method, [Image.fromarray(pictures[0])], ["tile"])
    with pytest.raises(UsageError, match="observe a category"):
        method.predict(query)


def test_all_variants_but_the_released_ones_run_the_backbones_own_activation(golden_24l):
    keys = {v: create("musc", golden_24l, v).forward_key()[1:3] for v in MuSc.variants}
    released = ("gelu", "bicubic_plain")
    assert keys == {
        **dict.fromkeys(("official", "official_visa", "paper"), released),
        "fixed": ("quick_gelu", "bicubic_plain"),
        "shared": ("quick_gelu", "bilinear"),
    }
