"""From patch values to maps: probabilities, enlargement, and scipy's Gaussian filter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F
from zsad.bench.anomaly_maps import (
    gaussian_matrix,
    prompt_probabilities,
    smooth,
    state_probabilities,
    upsample,
    upsample_smoothed,
)


def filtered(maps: torch.Tensor, sigma: float) -> np.ndarray:
    return np.stack([gaussian_filter(one, sigma) for one in maps.numpy()])


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0, 10.0])
def test_smoothing_is_scipys_filter_borders_included(sigma):
    maps = torch.rand(3, 120, 131, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(smooth(maps, sigma).numpy(), filtered(maps, sigma), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    sigma=st.floats(0.1, 12),
    seed=st.integers(0, 2**16),
)
def test_smoothing_is_scipys_filter_where_the_kernel_is_wider_than_the_map(
    rows, columns, sigma, seed
):
    maps = torch.rand(2, rows, columns, generator=torch.Generator().manual_seed(seed))
    np.testing.assert_allclose(smooth(maps, sigma).numpy(), filtered(maps, sigma), atol=1e-6)


def test_smoothing_keeps_the_mean_and_a_constant():
    maps = torch.rand(2, 30, 40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(smooth(maps, 4.0).mean(), maps.mean())
    torch.testing.assert_close(smooth(torch.full((1, 9, 9), 0.7), 4.0), torch.full((1, 9, 9), 0.7))
    torch.testing.assert_close(
        gaussian_matrix(20, 4.0).sum(dim=1), torch.ones(20, dtype=torch.float64)
    )


def test_no_sigma_leaves_the_maps_alone():
    maps = torch.rand(1, 5, 5)
    assert smooth(maps, 0.0) is maps


def test_each_map_is_smoothed_by_itself():
    maps = torch.rand(4, 20, 20, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(smooth(maps, 3.0)[2:3], smooth(maps[2:3], 3.0))


def test_probabilities_are_a_softmax_of_cosines():
    random = torch.Generator().manual_seed(3)
    visual = torch.randn(2, 5, 8, generator=random)
    text = F.normalize(torch.randn(2, 2, 8, generator=random), dim=-1)
    found = state_probabilities(visual, text, 0.07)
    for image in range(2):
        for patch in range(5):
            token = visual[image, patch].numpy().astype(np.float64)
            cosine = text[image].numpy() @ (token / np.linalg.norm(token)) / 0.07
            expected = np.exp(cosine) / np.exp(cosine).sum()
            np.testing.assert_allclose(found[image, patch].numpy(), expected, atol=1e-5)


def test_one_text_serves_all_images_and_class_tokens_too():
    random = torch.Generator().manual_seed(4)
    tokens = torch.randn(3, 8, generator=random)
    text = F.normalize(torch.randn(2, 8, generator=random), dim=-1)
    shared = state_probabilities(tokens, text, 0.07)
    own = state_probabilities(tokens, text.expand(3, -1, -1), 0.07)
    torch.testing.assert_close(shared, own)
    torch.testing.assert_close(shared, state_probabilities(tokens[:, None], text, 0.07)[:, 0])
    torch.testing.assert_close(shared.sum(dim=-1), torch.ones(3))


def test_upsampling_keeps_rows_and_columns_apart():
    patches = torch.arange(6.0)[None]  # a grid of 2 rows and 3 columns
    maps = upsample(patches, (2, 3), 6)
    assert maps.shape == (1, 6, 6)
    assert maps[0, 0, -1] == 2
    assert maps[0, -1, 0] == 3


@pytest.mark.parametrize("sigma", [0.0, 0.3, 4.0, 10.0])
def test_patches_are_upsampled_and_smoothed_at_once(sigma):
    patches = torch.rand(3, 5 * 7, generator=torch.Generator().manual_seed(6))
    found = upsample_smoothed(patches, (5, 7), 60, sigma)
    torch.testing.assert_close(found, smooth(upsample(patches, (5, 7), 60), sigma))


@pytest.mark.parametrize("align_corners", [False, True])
def test_upsampling_is_bilinear_with_either_corner_rule(align_corners):
    patches = torch.rand(2, 9, 2, generator=torch.Generator().manual_seed(5))
    maps = upsample(patches, (3, 3), 7, align_corners)
    assert maps.shape == (2, 2, 7, 7)
    places = np.arange(7) * 2 / 6 if align_corners else (np.arange(7) + 0.5) * 3 / 7 - 0.5
    row = np.interp(np.clip(places, 0, 2), np.arange(3), patches[1, :3, 0].numpy())
    np.testing.assert_allclose(maps[1, 0, 0].numpy(), row, atol=1e-6)


def test_a_single_prompt_is_a_pair_with_the_normal_one():
    generator = torch.Generator().manual_seed(3)
    patches = torch.randn(2, 7, 5, generator=generator)
    prompts = torch.randn(4, 5, generator=generator)
    found = prompt_probabilities(patches, prompts, 0.07)
    assert found.shape == (2, 3, 7)
    for k in range(3):
        pair = F.normalize(torch.stack([prompts[0], prompts[1 + k]]), dim=-1)[None]
        torch.testing.assert_close(found[:, k], state_probabilities(patches, pair, 0.07)[..., 1])
