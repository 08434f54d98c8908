"""AA-CLIP against what its released code answered, and how it is trained."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench import create
from zsad.bench.checkpoint import read_together
from zsad.bench.images import MaskRule, resize_mask
from zsad.bench.method import Query, Track
from zsad.bench.training.trainer import fit
from zsad.methods._aa_clip_images import Move, coloured, jittered
from zsad.methods._descriptions import description
from zsad.methods._grid_blur import blurred, gaussian_taps
from zsad.methods.aa_clip import LAYERS

LEVELS = len(LAYERS)


def filled(backbone, fill_by_name, variant="official", **options):
    method = create("aa_clip", backbone, variant, **options)
    fill_by_name(method.text_adapter)
    fill_by_name(method.image_adapter)
    return method


def case_of(method, recorded_case, domain="industrial", names=("bottle",) * 3):
    """The recorded pictures, with masks as the training resizes them."""
    case = recorded_case(method, names)
    query = dataclasses.replace(case.query, domains=(domain,) * 3)
    return dataclasses.replace(case, query=query)


@pytest.fixture(scope="module")
def masks(golden_inputs):
    rule = MaskRule(resize="nearest")
    resized = [resize_mask(mask, 518, rule)[0] for mask in golden_inputs.masks]
    return torch.from_numpy(np.stack(resized)).float()


@pytest.fixture(scope="module")
def method(golden_24l, fill_by_name):
    return filled(golden_24l, fill_by_name)


def assert_close(found, expected, tolerance=2e-5):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_prompts_and_anchors_equal_the_released_code(method, recorded):
    answer = recorded("aa_clip")
    prompts = [prompt.replace("{}", "dark bottle") for prompt in method.prompts]
    assert np.array_equal(method.backbone.tokenize(prompts), answer["tokenized_prompts"])
    with torch.no_grad():
        anchors = method.text_features([method.phrase(n) for n in ("carpet", "bottle", "bottle")])
    assert_close(anchors[1].T, answer["text_features"], 1e-6)
    assert torch.equal(anchors[1], anchors[2]) and not torch.equal(anchors[0], anchors[1])


@pytest.mark.parametrize("domain", ["industrial", "medical"])
def test_maps_parts_and_scores_equal_the_released_code(method, recorded, recorded_case, domain):
    answer = recorded("aa_clip")
    with torch.no_grad():
        prediction = method.predict(case_of(method, recorded_case, domain).query)
    scores = method.conclude(prediction.parts)
    if domain == "industrial":
        assert_close(prediction.maps[:, ::14, ::14], answer["map_sub"])
        assert_close(prediction.parts[:, 2], answer["image_pred"])
        assert_close(scores, answer["score"])
    else:
        assert_close(prediction.maps[:, ::14, ::14], answer["medical_map_sub"])
        assert_close(scores, answer["medical_score"])


def test_projected_patches_equal_the_released_code(method, recorded, recorded_case):
    with torch.no_grad():
        seen = method.see(case_of(method, recorded_case).query)
    patches = torch.stack(seen.patches, dim=1)[:, :, ::80, ::64]
    assert_close(patches, recorded("aa_clip")["seg_features_sub"], 1e-6)


def test_frozen_patches_of_the_first_stage_equal_the_released_code(
    golden_24l, fill_by_name, recorded, recorded_case
):
    method = filled(golden_24l, fill_by_name, text_layers=LAYERS)
    query = case_of(method, recorded_case).query
    patches = torch.stack(method.frozen_patches(query), dim=1)
    assert_close(patches[:, :, ::80, ::64], recorded("aa_clip")["s1_patch_features_sub"], 1e-6)
    alone = method.frozen_patches(query[:1])
    assert not torch.allclose(alone[-1], patches[:1, -1], atol=1e-3), "they depend on the batch"


def two_steps(method, part, loss, lr, case, masks, hold=None):
    """The loss terms of two steps of Adam; `hold` gets gradients and parameters of each."""
    module = getattr(method, part)
    optimizer = torch.optim.Adam(module.parameters(), lr=lr, betas=(0.5, 0.999))
    terms = []
    for step in (1, 2):
        optimizer.zero_grad()
        losses = loss(case.query, case.labels, masks)
        losses["total"].backward()
        terms.append({name: value.item() for name, value in losses.items()})
        gradients = {name: p.grad for name, p in module.named_parameters()}
        optimizer.step()
        if hold is not None:
            hold(gradients, f"grad_step{step}", 1e-3)
            hold(dict(module.named_parameters()), f"param_after_step{step}", 1e-4)
    return terms


@pytest.fixture
def held(recorded, hold_to):
    """Holds gradients and parameters of a stage, "s1" or "s2", to the recorded ones."""

    def of_stage(stage):
        answer = recorded("aa_clip")
        named = {"train_param_names": answer[f"{stage}_param_names"]}
        named |= {
            name.replace(f"{stage}_", "train_", 1): value
            for name, value in answer.items()
            if name.startswith(f"{stage}_")
        }
        return lambda tensors, what, tolerance: hold_to(tensors, named, f"train_{what}", tolerance)

    return of_stage


@pytest.mark.slow
def test_both_stages_one_after_the_other_equal_the_released_code(
    golden_24l, fill_by_name, recorded, recorded_case, masks, held
):
    method, answer = filled(golden_24l, fill_by_name), recorded("aa_clip")
    case = case_of(method, recorded_case)
    terms = two_steps(method, "text_adapter", method.text_loss, 1e-5, case, masks, held("s1"))
    for step, found in enumerate(terms):
        assert found["total"] == pytest.approx(float(answer["s1_total"][step]), rel=1e-4)
        assert found["focal"] == pytest.approx(float(answer["s1_focal"][step][-1]), rel=1e-4)
        expected = float(answer["s1_orthogonal"][step])
        assert found["orthogonality"] == pytest.approx(expected, rel=1e-4)
    with torch.no_grad():
        assert_close(method.text_features(["dark bottle"])[0].T, answer["chain_anchors"], 1e-6)
    terms = two_steps(method, "image_adapter", method.image_loss, 5e-4, case, masks)
    for step, found in enumerate(terms):
        assert found["total"] == pytest.approx(float(answer["chain_total"][step]), rel=1e-4)
        assert found["image"] == pytest.approx(float(answer["chain_ce"][step]), rel=1e-4)
    with torch.no_grad():
        prediction = method.predict(case.query)
    assert_close(prediction.maps[:, ::14, ::14], answer["chain_map_sub"])
    assert_close(prediction.parts[:, 2], answer["chain_image_pred"])
    assert_close(method.conclude(prediction.parts), answer["chain_score"])


@pytest.mark.slow
def test_the_second_stage_alone_equals_the_released_code(
    golden_24l, fill_by_name, recorded, recorded_case, masks, held
):
    method, answer = filled(golden_24l, fill_by_name), recorded("aa_clip")
    case = case_of(method, recorded_case)
    terms = two_steps(method, "image_adapter", method.image_loss, 5e-4, case, masks, held("s2"))
    for step, found in enumerate(terms):
        assert found["total"] == pytest.approx(float(answer["s2_total"][step]), rel=1e-4)
        for name, key in (("focal", "focal"), ("dice_normal", "dice_nor")):
            expected = float(answer[f"s2_{key}"][step].sum())
            assert found[name] == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_batch_of_two_classes_and_value_attention_over_tokens_learn_as_recorded(
    golden_24l, fill_by_name, recorded, recorded_case, masks
):
    answer = recorded("aa_clip")
    mixed = filled(golden_24l, fill_by_name)
    case = case_of(mixed, recorded_case, names=("bottle", "bottle", "carpet"))
    terms = mixed.text_loss(case.query, case.labels, masks)
    assert terms["total"].item() == pytest.approx(float(answer["mix1_total"][0]), rel=1e-4)
    expected = float(answer["mix1_orthogonal"][0])
    assert terms["orthogonality"].item() == pytest.approx(expected, rel=1e-4)
    single = filled(golden_24l, fill_by_name, value_axis="tokens")
    case = case_of(single, recorded_case)
    total = single.text_loss(case.query, case.labels, masks)["total"].item()
    assert total == pytest.approx(float(answer["fixed_s1_total"][0]), rel=1e-4)


def test_a_training_image_is_changed_as_recorded(golden_24l, golden_inputs, recorded, masks):
    answer = recorded("aa_clip")
    index = int(answer["aug_index"])
    image = Image.fromarray(golden_inputs.images[index])
    for factors in answer["aug_jitter"]:
        image = coloured(image, factors.tolist())
    prepared = create("aa_clip", golden_24l).preprocess(image)
    shift, flips = answer["aug_shift"].tolist(), answer["aug_flips"].astype(bool).tolist()
    move = Move(float(answer["aug_angle"]), tuple(shift), tuple(flips))
    changed = move(torch.cat([prepared, masks[index][None]]))
    assert_close(changed[:3, ::16, ::16], answer["aug_image_sub"], 1e-6)
    assert int((changed[3] > 0).sum()) == int(answer["aug_mask_sum"])


def test_changes_are_drawn_in_their_ranges_and_shares():
    generator = torch.Generator().manual_seed(0)
    moves = [Move.drawn(518, generator) for _ in range(400)]
    shares = np.mean([[m.angle != 0, m.shift != (0, 0), *m.flips] for m in moves], axis=0)
    assert np.all(np.abs(shares - 0.5) < 0.1)
    assert 25 < max(abs(m.angle) for m in moves) <= 30
    assert 70 < max(abs(s) for m in moves for s in m.shift) <= 78
    image = Image.new("RGB", (4, 4), (90, 120, 30))
    same = [jittered(image, generator).tobytes() == image.tobytes() for _ in range(400)]
    assert 0.005 < np.mean(same) < 0.06, "0.3 to the third power"


def test_image_and_mask_are_moved_alike(tiny):
    method = create("aa_clip", tiny)
    side = method.image_size
    masks = torch.rand(8, side, side) > 0.6
    images = masks[:, None].float().expand(-1, 3, -1, -1)
    generator = torch.Generator().manual_seed(1)
    moved, marked = method.augment(images, masks, ["a"] * 8, generator)
    assert torch.equal(moved[:, 0] > 0, marked)
    assert not torch.equal(marked, masks)


def test_the_blur_has_kornias_taps_and_a_mirrored_edge(recorded):
    answer = recorded("aa_clip")
    assert_close(gaussian_taps(7, 1.0), answer["kernel_industrial"], 1e-7)
    assert_close(gaussian_taps(9, 1.5), answer["kernel_medical"], 1e-7)
    line = np.zeros(9)
    line[1] = 1
    expected = np.convolve(np.pad(line, 3, mode="reflect"), gaussian_taps(7, 1.0), "valid")
    maps = torch.from_numpy(line).expand(1, 9, 9)
    assert_close(blurred(maps, 7, 1.0)[0, 4], expected, 1e-12)
    assert blurred(torch.ones(1, 3, 3), 7, 1.0).allclose(torch.ones(1, 3, 3))


def test_a_score_of_the_image_alone_weighs_the_parts_by_the_auxiliary_datasets_ranges(
    tiny, monkeypatch
):
    method = create("aa_clip", tiny, text_epochs=1, epochs=1)
    images = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)
    masks = np.zeros((4, 64, 64), dtype=bool)
    masks[1::2, 8:40, 8:40] = True
    fit(method, images, masks, [0, 1, 0, 1], ["bottle", "bottle", "tile", "tile"], epochs=1)
    query = method.preprocess.encode(tiny, torch.zeros(4, 1), [])
    prepared = torch.stack([method.preprocess(Image.fromarray(image)) for image in images])
    query = Query(query, ("bottle", "bottle", "tile", "tile"), prepared)
    with torch.no_grad():
        maps, image = method.evidence(query)
        scores = method.predict(query).scores
    ratios = [
        float((image[s].max() - image[s].min()) / (maps[s].max() - maps[s].min()))
        for s in (slice(2), slice(2, 4))
    ]
    assert float(method.score_ratio) == pytest.approx(np.mean(ratios), rel=1e-3)
    expected = method.score_ratio * maps.amax(dim=(1, 2)) + image
    torch.testing.assert_close(scores, expected)
    medical = dataclasses.replace(query, domains=("medical",) * 4)
    with torch.no_grad():
        greatest = method.evidence(medical)[0].amax(dim=(1, 2))
        torch.testing.assert_close(method.predict(medical).scores, greatest)


def test_only_the_official_score_needs_the_category(tiny):
    tracks = {}
    for variant in ("per_image", "official", "fixed"):
        method = create("aa_clip", tiny, variant)
        tracks[variant] = method.track_of(method.options)
        assert ("score_ratio" in method.learned_state()) == (variant != "official")
    assert tracks["official"] is Track.TRANSDUCTIVE
    assert tracks["per_image"] is tracks["fixed"] is Track.ZERO_SHOT
    assert create("aa_clip", tiny).variant == "per_image"


def test_a_part_that_is_constant_counts_as_nothing(tiny):
    method = create("aa_clip", tiny, "official")
    parts = torch.tensor([[2.0, 0.0, 0.5, 0.0], [1.0, 0.0, 0.5, 0.0]])
    torch.testing.assert_close(method.conclude(parts), torch.tensor([0.5, 0.25]))
    parts[:, :2] = 1.0
    torch.testing.assert_close(method.conclude(parts), torch.zeros(2))


def test_a_description_that_comes_with_the_query_goes_before(tiny, random_case):
    method = create("aa_clip", tiny)
    query = random_case(method, ("bottle", "bottle", "solar_cell")).query
    described = dataclasses.replace(query, descriptions=("a green vial", None, None))
    assert method.phrases(described) == ["a green vial", "dark bottle", "solar cell"]
    assert create("aa_clip", tiny, descriptions=False).phrases(described)[0] == "bottle"


def test_two_released_files_are_taken_together(tiny, tmp_path):
    source, other = create("aa_clip", tiny, "official", seed=3), create("aa_clip", tiny, "official")
    state = source.learned_state()
    for part in ("text_adapter", "image_adapter"):
        inner = {
            name.removeprefix(f"{part}."): tensor
            for name, tensor in state.items()
            if name.startswith(part)
        }
        torch.save({"epoch": 4, part: inner, f"{part[:-8]}_optimizer": {}}, tmp_path / part)
    files = [tmp_path / "text_adapter", tmp_path / "image_adapter"]
    assert other.load_learned(read_together(files)) == ()
    assert all(torch.equal(other.learned_state()[name], state[name]) for name in state)


def test_parameters_rates_and_descriptions_are_the_released_ones(golden_24l, tiny):
    method = create("aa_clip", golden_24l)
    assert method.parameter_counts() == (12_582_912, 4 * 768**2 + 6 * 128**2 + 5 * 128 * 768)
    text, image = method.stages()
    assert (text.schedule.epochs, text.schedule.batch_size, text.schedule.lr) == (5, 16, 1e-5)
    assert (image.schedule.epochs, image.schedule.batch_size, image.schedule.lr) == (20, 2, 5e-4)
    assert image.schedule.milestones == (16_000, 32_000) and image.schedule.gamma == 0.5
    assert description("metal_nut") == "metal nut which has four notched edges"
    assert description("brain") == "scan" and description("solar_cell") == "solar cell"
    assert create("aa_clip", tiny, descriptions=False).phrase("metal_nut") == "metal nut"
