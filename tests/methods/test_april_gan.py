"""APRIL-GAN against what its released code answered, and its mosaics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from zsad.bench import create
from zsad.bench.errors import UsageError
from zsad.bench.weights import random_backbone

CLASSES = ("bottle", "bottle", "carpet")


@pytest.fixture
def learned(golden_24l, fill_by_name, recorded, monkeypatch):
    """With recorded text features: 420 prompts take the text tower half a minute a class."""
    method = create("april_gan", golden_24l)
    fill_by_name(method)
    answer = recorded("april_gan")
    for name in set(CLASSES):
        text = torch.from_numpy(answer[f"text_{name}"]).T.contiguous()
        monkeypatch.setitem(method.text._kept, name, text)
    return method, answer


def test_scores_and_maps_equal_the_released_code(learned, recorded_case):
    method, answer = learned
    with torch.no_grad():
        prediction = method.predict(recorded_case(method, CLASSES).query)
    np.testing.assert_allclose(prediction.scores, answer["image_score"], rtol=0, atol=1e-5)
    found = prediction.maps[:, ::14, ::14]
    np.testing.assert_allclose(found, answer["map_sub"], rtol=0, atol=1e-5)


def test_losses_and_two_steps_equal_the_released_code(learned, recorded_case, two_steps):
    method, answer = learned
    for step, terms in enumerate(two_steps(method, recorded_case(method, CLASSES), answer)):
        expected = {
            "focal": answer["train_focal"][step].sum(),
            "dice_abnormal": answer["train_dice_abn"][step].sum(),
            "total": answer["train_total"][step],
        }
        assert terms == pytest.approx({k: float(v) for k, v in expected.items()}, rel=1e-5)


@pytest.mark.slow
def test_text_features_equal_the_released_code(golden_24l, recorded):
    text = create("april_gan", golden_24l).text.of("carpet")
    np.testing.assert_allclose(text.T, recorded("april_gan")["text_carpet"], rtol=0, atol=1e-5)


def test_prompts_are_245_normal_and_175_abnormal_ones(tiny):
    prompts = create("april_gan", tiny).text.prompts("metal_nut")
    assert len(prompts) == 245 + 175
    assert prompts[0] == "a bad photo of a metal_nut."
    assert "there is the broken metal_nut in the scene." in prompts


def test_parameter_counts_are_the_ledgers():
    towers = {
        "embed_dim": 768,
        "vision_cfg": {"image_size": 28, "patch_size": 14, "width": 1024, "layers": 4},
        "text_cfg": {"vocab_size": 50, "width": 12, "heads": 1, "layers": 1},
    }
    method = create("april_gan", random_backbone(towers, "wide"))
    assert method.parameter_counts() == (3_148_800, 3_148_800)


def test_the_official_backbone_is_not_the_shared_one(tiny):
    official, shared = create("april_gan", tiny), create("april_gan", tiny, "shared")
    faprompt = create("faprompt", tiny)
    assert official.forward_key() != faprompt.forward_key() or tiny.own_activation == "gelu"
    assert shared.forward_key() == faprompt.forward_key()
    assert official.backbone.activation == "gelu"
    assert official.backbone.pos_embed == "bicubic"


def test_maps_add_up_the_probabilities_of_four_layers(tiny, random_case):
    method = create("april_gan", tiny)
    with torch.no_grad():
        maps = method.predict(random_case(method).query).maps
    assert maps.min() >= 0 and 1 < maps.max() <= 4


def test_a_released_checkpoint_loads(tiny, tmp_path):
    source = create("april_gan", tiny, seed=4)
    path = tmp_path / "visa_pretrained.pth"
    torch.save({"trainable_linearlayer": source.learned_state()}, path)
    method = create("april_gan", tiny, checkpoint=path)
    assert list(method.learned_state())[:2] == ["fc.0.weight", "fc.0.bias"]
    assert torch.equal(method.fc[3].weight, source.fc[3].weight)


@pytest.mark.parametrize("variant", [None, "shared"])
@pytest.mark.parametrize(
    ("auxiliary", "epochs", "mosaic_rate"),
    [
        ("mvtec_ad", 3, 0.2),
        ("MVTec-AD", 3, 0.2),
        ("visa", 15, 0.0),
        ("synthetic_aux", 15, 0.0),
        (None, 15, 0.0),
    ],
)
def test_the_auxiliary_dataset_chooses_the_released_configuration(
    tiny, variant, auxiliary, epochs, mosaic_rate
):
    method = create("april_gan", tiny, variant, auxiliary=auxiliary)
    assert (method.options.epochs, method.options.mosaic_rate) == (epochs, mosaic_rate)
    assert (method.schedule.epochs, method.schedule.augments) == (epochs, mosaic_rate > 0)


def test_an_explicit_option_overrides_the_auxiliary_datasets(tiny):
    method = create("april_gan", tiny, auxiliary="mvtec_ad", epochs=15)  # the variant's own value
    assert (method.options.epochs, method.options.mosaic_rate) == (15, 0.2)


def test_the_variant_for_mvtec_has_that_configuration_on_every_auxiliary_dataset(tiny):
    method = create("april_gan", tiny, "official_mvtec", auxiliary="visa")
    assert (method.options.epochs, method.options.mosaic_rate) == (3, 0.2)


def with_partners(pictures, partners):
    """Pictures followed by the four that each of them brings along."""
    return torch.cat([pictures, pictures[torch.tensor(partners).flatten()]])


def test_a_mosaic_shows_its_partners_at_half_the_size(tiny):
    method = create("april_gan", tiny, mosaic_rate=1.0)
    levels = torch.tensor([0.0, 1.0, 2.0, 3.0])
    images = levels[:, None, None, None].expand(4, 3, 16, 16)
    masks = (levels >= 2)[:, None, None].expand(4, 16, 16)
    brought = [[0, 1, 1, 0], [1, 1, 0, 0], [2, 3, 3, 3], [3, 2, 2, 3]]
    names = ["bottle", "bottle", "tile", "tile"] * 5
    tiled, marked = method.augment(
        with_partners(images, brought), with_partners(masks, brought), names, torch.Generator()
    )
    assert tiled.shape == (20, 3, 16, 16) and marked.shape == (20, 16, 16)
    corners = tiled[:4, 0, 2::12, 2::12].round()  # the middle of no seam
    assert corners.flatten(1).tolist() == brought
    assert not marked[:2].any() and marked[2:4].all()


def test_masks_follow_their_tiles(tiny):
    method = create("april_gan", tiny, mosaic_rate=1.0)
    images = torch.zeros(2, 3, 16, 16)
    images[1, :, 4:12, 4:12] = 1.0
    images = with_partners(images, [[0, 1, 0, 1], [1, 0, 0, 0]])
    masks = images[:, 0] > 0.5
    tiled, marked = method.augment(images, masks, ["a"] * 10, torch.Generator())
    assert marked[0].any() and not torch.equal(marked[:2], masks[:2])
    assert torch.equal(tiled[:2, 0] > 0.5, marked[:2])


def test_a_rate_of_zero_changes_nothing_and_the_same_seed_the_same(tiny):
    method = create("april_gan", tiny)
    images = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    masks = images[:, 0] > 1
    names = ["a"] * 40
    same, kept = method.augment(images, masks, names, torch.Generator().manual_seed(2))
    assert torch.equal(same, images) and torch.equal(kept, masks)
    often = create("april_gan", tiny, mosaic_rate=0.5)
    runs = [often.augment(images, masks, names, torch.Generator().manual_seed(2)) for _ in "ab"]
    assert torch.equal(runs[0][0], runs[1][0])
    changed = (runs[0][0] != images).flatten(1).any(dim=1)
    assert changed[:8].any() and not changed[:8].all() and not changed[8:].any()


def test_a_rate_that_is_no_share_is_refused(tiny):
    with pytest.raises(UsageError, match="mosaic-rate.*equal to 1, not 20"):
        create("april_gan", tiny, mosaic_rate=20)
