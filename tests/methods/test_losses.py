"""The losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from zsad.bench.anomaly_maps import upsample
from zsad.methods._losses import (
    binary_focal_loss,
    dice_loss,
    enlarged,
    focal_loss,
    local_loss,
    map_loss,
    orthogonality_loss,
)


def test_focal_of_a_pixel_is_the_closed_form():
    abnormal = torch.full((1, 1, 1), 0.3)
    mask = torch.ones(1, 1, 1)
    true = (1 - 1e-5) * 0.3 + 1e-5 * 0.7 + 1e-5
    expected = -((1 - true) ** 2) * math.log(true)
    assert focal_loss(abnormal, mask).item() == pytest.approx(expected, rel=1e-5)


def test_focal_is_the_mean_over_the_pixels_of_the_batch():
    abnormal = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    masks = (abnormal > 0.6).float()
    each = [focal_loss(a[None], m[None]) for a, m in zip(abnormal, masks, strict=True)]
    assert focal_loss(abnormal, masks).item() == pytest.approx(
        torch.stack(each).mean().item(), rel=1e-5
    )


def test_dice_is_computed_an_image_at_a_time():
    predicted = torch.zeros(2, 2, 2)
    predicted[0] = 1.0  # first image: all marked, all predicted
    masks = torch.stack([torch.ones(2, 2), torch.ones(2, 2)])
    first, second = (2 * 4 + 1) / (4 + 4 + 1), 1 / (0 + 4 + 1)
    assert dice_loss(predicted, masks).item() == pytest.approx(1 - (first + second) / 2)


def test_dice_of_an_empty_mask_with_an_empty_prediction_is_zero():
    assert dice_loss(torch.zeros(1, 3, 3), torch.zeros(1, 3, 3)).item() == 0.0


def test_a_batch_of_one_image_is_one_image():
    generator = torch.Generator().manual_seed(1)
    predicted, mask = torch.rand(1, 6, 6, generator=generator), torch.zeros(1, 6, 6)
    mask[0, 2:4, 1:5] = 1
    shared, size = (predicted * mask).sum(), predicted.sum() + mask.sum()
    expected = 1 - (2 * shared + 1) / (size + 1)
    assert dice_loss(predicted, mask).item() == pytest.approx(expected.item(), rel=1e-6)


def test_losses_refuse_tensors_without_a_batch_axis():
    with pytest.raises(ValueError, match=r"\[B, H, W\]"):
        dice_loss(torch.rand(6, 6), torch.rand(6, 6))
    with pytest.raises(ValueError, match=r"\[B, H, W\]"):
        focal_loss(torch.rand(2, 6, 6), torch.rand(6, 6))


@pytest.mark.parametrize(
    ("label", "score", "expected"),
    [(0, 0.0, 0.1733), (0, 1.0, 0.7019), (1, 0.0, 0.1733), (1, 1.0, 0.0227)],
)
def test_binary_focal_of_a_probability_taken_for_a_logit(label, score, expected):
    loss = binary_focal_loss(torch.tensor([score]), torch.tensor([label]), as_logits=True)
    assert loss.item() == pytest.approx(expected, abs=5e-5)


def test_binary_focal_of_a_probability_vanishes_where_it_is_right():
    right = binary_focal_loss(torch.tensor([0.0, 1.0]), torch.tensor([0, 1]))
    wrong = binary_focal_loss(torch.tensor([1.0, 0.0]), torch.tensor([0, 1]))
    half = binary_focal_loss(torch.tensor([0.5]), torch.tensor([1]))
    assert right.item() < 1e-9
    assert wrong.item() > 10
    assert half.item() == pytest.approx(0.25 * math.log(2), rel=1e-6)


def test_overlap_counts_each_pair_once():
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    assert orthogonality_loss(features).item() == pytest.approx(1.0)
    assert orthogonality_loss(torch.ones(10, 4)).item() == pytest.approx(45.0, rel=1e-5)
    assert orthogonality_loss(torch.ones(1, 4)).item() == 0.0


def test_local_terms_add_up_over_layers():
    masks = torch.zeros(2, 4, 4)
    masks[1, :2] = 1
    abnormal = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(2))
    once = local_loss(abnormal, masks)
    twice = once + once
    assert twice.total.item() == pytest.approx(2 * once.total.item(), rel=1e-6)
    assert once.terms("_x").keys() == {"focal_x", "dice_abnormal_x", "dice_normal_x"}
    assert once.dice_normal.item() == pytest.approx(
        dice_loss(1 - abnormal, 1 - masks).item(), rel=1e-5
    )


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("grid", [(5, 5), (3, 7)])
def test_enlarging_by_products_equals_interpolation_and_its_gradient(grid, align_corners):
    generator = torch.Generator().manual_seed(3)
    patches = torch.rand(2, grid[0] * grid[1], dtype=torch.float64, generator=generator)
    weights = torch.rand(2, 19, 19, dtype=torch.float64, generator=generator)
    gradients = []
    for how in (enlarged, upsample):
        leaf = patches.clone().requires_grad_()
        maps = how(leaf, grid, 19, align_corners)
        (maps * weights).sum().backward()
        gradients.append((maps.detach(), leaf.grad))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected)


def patches_and_masks(dtype):
    random = torch.Generator().manual_seed(7)
    patches = torch.rand(3, 5 * 4, generator=random, dtype=dtype)
    masks = (torch.rand(3, 11, 11, generator=random) > 0.7).to(dtype)
    masks[1] = 0  # a normal image
    return patches.requires_grad_(), masks


@pytest.mark.parametrize("term", ["focal", "dice_abnormal", "dice_normal", "total"])
def test_the_loss_of_a_map_is_that_of_its_enlarged_patches_and_so_is_its_gradient(term):
    patches, masks = patches_and_masks(torch.float64)
    found = getattr(map_loss(patches, (5, 4), 11, masks), term)
    expected = getattr(local_loss(enlarged(patches, (5, 4), 11), masks), term)
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(3 * loss, patches)[0] for loss in (found, expected)]
    torch.testing.assert_close(*slopes)


def test_the_loss_of_a_map_is_as_good_in_single_precision():
    patches, masks = patches_and_masks(torch.float32)
    found = map_loss(patches, (5, 4), 11, masks).total
    torch.testing.assert_close(found, local_loss(enlarged(patches, (5, 4), 11), masks).total)


def test_the_loss_of_a_map_refuses_masks_of_another_size():
    patches, masks = patches_and_masks(torch.float32)
    with pytest.raises(ValueError, match=r"\(3, 12, 12\)"):
        map_loss(patches, (5, 4), 12, masks)
