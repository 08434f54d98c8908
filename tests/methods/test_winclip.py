"""WinCLIP against the recorded released code, and its windows against loops written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench import create, predict_images
from zsad.bench.anomaly_maps import state_probabilities
from zsad.bench.errors import UsageError
from zsad.bench.method import Query
from zsad.methods.winclip import (
    PATCH_EMBEDDINGS,
    harmonic_mean,
    per_patch,
    spread_harmonically,
    window_index,
)


@pytest.fixture(scope="module")
def method(golden_b16):
    return create("winclip", golden_b16)


@pytest.fixture(scope="module")
def features(method, golden_inputs):
    prepare = method.preprocess
    images = torch.stack([prepare(Image.fromarray(image)) for image in golden_inputs.images])
    return method.backbone.encode_image(images, method.token_specs)


@pytest.fixture(scope="module")
def case(recorded):
    return recorded("winclip")


def test_pictures_are_prepared_as_recorded(method, golden_inputs, case):
    prepared = torch.stack([method.preprocess(Image.fromarray(i)) for i in golden_inputs.images])
    np.testing.assert_allclose(prepared[:, :, ::8, ::8].numpy(), case["pre_sub"], atol=1e-6)


def test_scores_and_maps_are_the_recorded_ones(method, golden_inputs, case):
    found = predict_images(method, golden_inputs.images, "bottle")
    np.testing.assert_allclose(found.scores.numpy(), case["image_score"], atol=1e-6)
    maps = found.maps.numpy()
    np.testing.assert_allclose(maps[:, ::4, ::4], case["final_map_sub"], atol=1e-6)
    stats = np.stack([(m.mean(), m.std(), m.min(), m.max()) for m in maps.astype(np.float64)])
    np.testing.assert_allclose(stats, case["final_map_stats"], atol=1e-6)


def test_each_step_is_the_recorded_one(method, features, case):
    embeddings, text = features.tokens[PATCH_EMBEDDINGS], method.text(["bottle"] * 3)
    np.testing.assert_allclose(features.class_token.numpy(), case["cls_token"], atol=1e-5)
    for side, step in ((2, "window2"), (3, "window3")):
        windows = window_index(15, side)
        assert np.array_equal(windows.numpy() + 1, case[f"{step}_index"])
        (embedded,) = method.backbone.encode_windows(embeddings, [windows])
        np.testing.assert_allclose(
            embedded[:, ::4, ::8].numpy(), case[f"{step}_tokens_sub"], atol=1e-5
        )
        abnormal = state_probabilities(embedded, text, method.options.temperature)[..., 1]
        scale = per_patch(abnormal, 15, side)
        assert scale.dtype == torch.float64
        np.testing.assert_allclose(scale.reshape(3, 15, 15).numpy(), case[f"map{side}"], atol=1e-6)


def test_the_scales_and_the_whole_image_are_joined_as_recorded(case):
    scales = torch.from_numpy(np.stack([case["map2"], case["map3"]]))
    whole = torch.from_numpy(case["image_score"]).double()[:, None, None].expand_as(scales[0])
    joined = harmonic_mean(torch.stack([*scales, whole]))
    np.testing.assert_allclose(joined.numpy(), case["map_multi15"], atol=1e-9)


@pytest.mark.parametrize(("grid", "side"), [(15, 2), (15, 3), (5, 3), (3, 3)])
def test_every_patch_gets_the_harmonic_mean_of_the_windows_over_it(grid, side):
    windows = window_index(grid, side)
    count = grid - side + 1
    assert windows.shape == (count * count, side * side)
    values = torch.rand(2, len(windows), generator=torch.Generator().manual_seed(0)).double()
    values += 0.01
    found = spread_harmonically(values, windows, grid * grid).reshape(2, grid, grid)
    for image in range(2):
        scores = values[image].reshape(count, count).numpy()
        for row in range(grid):
            for column in range(grid):
                over = scores[
                    max(0, row - side + 1) : row + 1, max(0, column - side + 1) : column + 1
                ]
                expected = over.size / (1 / over).sum()
                assert found[image, row, column].item() == pytest.approx(expected, rel=1e-12)


def test_a_window_without_any_probability_gives_zero_not_infinity():
    joined = harmonic_mean(torch.tensor([[0.0, 0.5, float("nan")], [0.4, 0.5, 0.5]]))
    assert joined.tolist() == [0.0, 0.5, 0.0]


def test_an_image_smaller_than_a_window_is_refused():
    with pytest.raises(UsageError, match="image_size"):
        window_index(2, 3)


def test_paper_and_official_differ_in_templates_only(golden_b16, method, features):
    paper = create("winclip", golden_b16, variant="paper")
    assert paper.options.templates == "22"
    assert (paper.text(["bottle"]) - method.text(["bottle"])).abs().max() > 1e-6
    paper.text = method.text
    query = Query(features, ["bottle"] * 3)
    assert torch.equal(paper.predict(query).maps, method.predict(query).maps)


def test_all_windows_of_a_batch_are_encoded_at_once(method, features):
    before = method.backbone.counter.windows
    method.predict(Query(features, ["bottle"] * 3))
    assert method.backbone.counter.windows - before == 3 * (14 * 14 + 13 * 13)


def test_maps_are_240_px_and_not_smoothed_unless_asked(golden_b16, method, features):
    assert (method.image_size, method.map_size, method.smoothing_sigma) == (240, 240, 0)
    soft = create("winclip", golden_b16, smoothing_sigma=4.0)
    query = Query(features, ["bottle"] * 3)
    sharp_maps, soft_maps = method.predict(query).maps, soft.predict(query).maps
    assert sharp_maps.shape == (3, 240, 240)
    assert soft_maps.std() < sharp_maps.std()
