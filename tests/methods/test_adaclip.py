"""AdaCLIP against what its released code answered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from zsad.bench import create
from zsad.bench.errors import UsageError
from zsad.bench.weights import random_backbone
from zsad.methods._clusters import cluster_labels, mean_of_clusters

PREFIX = "clip_model."
DEAD = "text_prompter.static_prompts.0"  # of a block that takes no tokens


def filled(backbone, fill_by_name, **options):
    method = create("adaclip", backbone, **options)
    fill_by_name(method)
    return method


@pytest.fixture
def learned(golden_24l, fill_by_name, recorded):
    return filled(golden_24l, fill_by_name), recorded("adaclip")


def feed(method, monkeypatch, patches, labels):
    """Give the method recorded patches and labels, image after image."""
    if patches is not None:
        chosen = iter(torch.from_numpy(patches.astype(np.int64)))
        monkeypatch.setattr(method, "choose", lambda probabilities: next(chosen))
    given = iter(torch.from_numpy(labels.astype(np.int64)))
    monkeypatch.setattr(method, "cluster", lambda rows: next(given))


@pytest.fixture(scope="module")
def answered(golden_24l, fill_by_name, recorded_case):
    """The method, what both of its towers make of the pictures, and its answer."""
    method = filled(golden_24l, fill_by_name)
    query = recorded_case(method).query
    with torch.no_grad():
        return method, method.see(query), method.predict(query)


def test_positions_and_the_plain_class_token_are_the_recorded_ones(learned, recorded_case):
    method, answer = learned
    positions = method.backbone._positions(37)[::10, ::16].numpy()
    np.testing.assert_allclose(positions, answer["pos_embed_sub"], rtol=0, atol=1e-6)
    plain = recorded_case(method).query.features.class_token
    np.testing.assert_allclose(plain, answer["plain_class_token"], rtol=0, atol=2e-5)


def test_text_features_and_maps_equal_the_released_code(answered, recorded):
    (_, seen, prediction), answer = answered, recorded("adaclip")
    text = seen.text.transpose(1, 2)
    np.testing.assert_allclose(text, answer["text_features"], rtol=0, atol=5e-6)
    found = prediction.maps[:, ::14, ::14]
    np.testing.assert_allclose(found, answer["map_gauss_sub"], rtol=0, atol=1e-5)
    mean = torch.stack(seen.logits()).mean(dim=0).softmax(dim=-1)[..., 1]
    np.testing.assert_allclose(mean, answer["mean_probability"], rtol=0, atol=2e-5)


def test_scores_equal_the_released_code_with_its_patches_and_clusters(
    answered, recorded, monkeypatch
):
    (method, seen, _), answer = answered, recorded("adaclip")
    feed(method, monkeypatch, answer["top_index"], answer["kmeans_labels"])
    scores = method._image_probabilities(seen)[:, 1]
    np.testing.assert_allclose(scores, answer["score"], rtol=0, atol=2e-5)


def test_scores_with_clusters_of_our_own_equal_the_released_ones(answered, recorded):
    (method, seen, prediction), answer = answered, recorded("adaclip")
    for image in range(3):
        mean = torch.stack(seen.logits()).mean(dim=0)[image].softmax(dim=-1)[:, 1]
        chosen = method.choose(mean)
        assert set(chosen.tolist()) == set(answer["top_index"][image].tolist())
        rows = torch.cat([layer[image, chosen] for layer in seen.patches], dim=1)
        same = np.array_equal(
            method.cluster(rows).numpy(), answer["kmeans_labels_fixed_state"][image]
        )
        tolerance = 2e-5 if same else 3e-3
        expected = answer["score_fixed_state"][image]
        assert float(prediction.scores[image]) == pytest.approx(expected, abs=tolerance)


def test_sorted_patches_have_the_clusters_of_the_sorted_ones(answered, recorded):
    (method, seen, _), answer = answered, recorded("adaclip")
    other = create("adaclip", method.backbone, sorted_patches=True)
    other.load_learned(method.learned_state())
    with torch.no_grad():
        scores = other._image_probabilities(seen)[:, 1]
    np.testing.assert_allclose(scores, answer["score_sorted_state"], rtol=0, atol=2e-5)


def test_the_class_token_alone_gives_the_score_without_fusion(answered, recorded):
    (method, seen, _), answer = answered, recorded("adaclip")
    other = create("adaclip", method.backbone, fusion_weight=0.0)
    scores = other._image_probabilities(seen)[:, 1]
    np.testing.assert_allclose(scores, answer["score_without_fusion"], rtol=0, atol=2e-5)


def test_tokens_in_full_precision_answer_as_recorded(
    golden_24l, fill_by_name, recorded, recorded_case, monkeypatch
):
    method, answer = filled(golden_24l, fill_by_name, half_tokens=False), recorded("adaclip")
    feed(method, monkeypatch, answer["nohalf_top_index"], answer["nohalf_kmeans_labels"])
    with torch.no_grad():
        prediction = method.predict(recorded_case(method).query)
    np.testing.assert_allclose(prediction.scores, answer["nohalf_score"], rtol=0, atol=1e-5)
    found = prediction.maps[:, ::14, ::14]
    np.testing.assert_allclose(found, answer["nohalf_map_gauss_sub"], rtol=0, atol=1e-5)


def steps_of(method, case, answer, monkeypatch, kind, lr, count):
    """Loss terms of each step, one image a step, and the gradients."""
    labels = answer[f"{kind}kmeans_labels"]
    patches = answer["train_top_index"] if kind == "train_" else None
    feed(method, monkeypatch, patches, labels)
    schedule = method.schedule
    parameters = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=lr, betas=schedule.betas, weight_decay=schedule.weight_decay
    )
    for step in range(count):
        optimizer.zero_grad()
        one = slice(step, step + 1)
        losses = method.loss(case.query[one], case.labels[one], case.masks[one])
        losses["total"].backward()
        yield step, losses
        optimizer.step()


def test_losses_and_two_steps_equal_the_released_code(learned, recorded_case, monkeypatch):
    method, answer = learned
    case = recorded_case(method)
    rows = {n.removeprefix(PREFIX): i for i, n in enumerate(answer["train_param_names"].tolist())}
    assert np.isnan(answer["train_grad_norm"][:, rows[DEAD]]).all()
    names = {n: p for n, p in method.named_parameters() if p.requires_grad}
    assert set(rows) == {*names, DEAD}
    tolerances = (1e-5, 1e-4)
    for step, losses in steps_of(method, case, answer, monkeypatch, "train_", 0.01, 2):
        expected = {
            "image": answer["train_focal_image"][step],
            "focal": answer["train_focal"][step].sum(),
            "dice_abnormal": answer["train_dice_abn"][step].sum(),
            "dice_normal": answer["train_dice_nor"][step].sum(),
            "total": answer["train_total"][step],
        }
        found = {name: value.item() for name, value in losses.items()}
        # A token that rounds to another half moves the image's probability by some 1e-5.
        for name, value in expected.items():
            tolerance = tolerances[step] * (10 if name == "image" else 1)
            assert found[name] == pytest.approx(float(value), rel=tolerance), (step, name)
        for name, parameter in names.items():
            norm = answer["train_grad_norm"][step, rows[name]]
            assert parameter.grad.norm().item() == pytest.approx(norm, rel=2e-3), (step, name)
            if step == 1:  # before the second step, that is after the first
                norm = answer["train_param_norm"][0, rows[name]]
                assert parameter.detach().norm().item() == pytest.approx(norm, rel=1e-3), name


def test_small_steps_equal_the_released_code(learned, recorded_case, monkeypatch):
    method, answer = learned
    case = recorded_case(method)
    for step, losses in steps_of(method, case, answer, monkeypatch, "train_lr0.0001_", 1e-4, 3):
        expected = float(answer["train_lr0.0001_total"][step])
        assert losses["total"].item() == pytest.approx(expected, rel=2e-5)


def test_dice_of_images_is_the_other_one(golden_24l, fill_by_name, recorded, recorded_case):
    method, answer = filled(golden_24l, fill_by_name, dice_of_rows=False), recorded("adaclip")
    case = recorded_case(method)
    with torch.no_grad():
        losses = method.loss(case.query[:1], case.labels[:1], case.masks[:1])
    for name, recorded_name in (("dice_abnormal", "dice_abn"), ("dice_normal", "dice_nor")):
        expected = float(answer[f"train_{recorded_name}_whole"][0].sum())
        assert losses[name].item() == pytest.approx(expected, rel=1e-5)


def test_prompts_are_28_normal_and_20_abnormal_ones(tiny, recorded):
    prompts = [prompt.replace("{}", "bottle") for prompt in create("adaclip", tiny).prompts]
    assert prompts == recorded("adaclip")["prompts"].tolist()


def test_only_hyphens_of_a_class_name_become_blanks(tiny):
    words = create("adaclip", tiny)._words
    embeddings, ends = words.of(["metal-nut", "metal_nut", "metal nut"])
    assert len(ends) == 3 * 48
    assert torch.equal(embeddings[:48], embeddings[96:])
    assert not torch.equal(embeddings[:48], embeddings[48:96])


def test_parameter_counts_are_the_ledgers():
    towers = {
        "embed_dim": 768,
        "vision_cfg": {"image_size": 28, "patch_size": 14, "width": 1024, "layers": 24},
        "text_cfg": {"vocab_size": 50, "width": 768, "heads": 1, "layers": 12},
    }
    method = create("adaclip", random_backbone(towers, "wide"))
    assert method.parameter_counts() == (10_665_472, 10_661_632)


def test_a_released_checkpoint_loads(golden_24l, tmp_path, recorded, fill_by_name):
    source = filled(golden_24l, fill_by_name)
    state = {PREFIX + name: tensor for name, tensor in source.state_dict().items()}
    written = {f"{name} {tuple(tensor.shape)}" for name, tensor in state.items()}
    assert written == set(recorded("adaclip")["checkpoint_names"].tolist())
    torch.save(state, tmp_path / "pretrained_visa_clinicdb.pth")
    method = create("adaclip", golden_24l, checkpoint=tmp_path / "pretrained_visa_clinicdb.pth")
    for name, tensor in source.state_dict().items():
        assert torch.equal(method.state_dict()[name], tensor), name


def test_clusters_are_the_same_in_every_run_and_for_few_rows():
    rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(3))
    assert torch.equal(cluster_labels(rows, 5), cluster_labels(rows, 5))
    assert cluster_labels(rows[:3], 5).max() == 2
    labels = torch.tensor([0, 2, 2, 0])  # none of label 1
    means = mean_of_clusters(rows[:4], labels)
    expected = torch.stack([rows[[0, 3]].mean(dim=0), rows[[1, 2]].mean(dim=0)])
    torch.testing.assert_close(means, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion_weight": 1.5}, "fusion-weight.*equal to 1, not 1.5"),
        ({"n_tokens": 0}, "equal to 1, not 0"),
        ({"clusters": 0}, "equal to 1, not 0"),
    ],
)
def test_options_that_cannot_be_are_refused(tiny, options, message):
    with pytest.raises(UsageError, match=message):
        create("adaclip", tiny, **options)


def test_mosaics_are_of_mvtec_alone_and_keep_the_label_as_released(tiny):
    assert not create("adaclip", tiny, auxiliary="visa").schedule.augments
    official = create("adaclip", tiny, auxiliary="mvtec_ad").schedule
    assert official.augments and not official.relabels
    assert create("adaclip", tiny, "fixed", auxiliary="mvtec_ad").schedule.relabels


ABLATIONS = [
    ({"towers": "visual"}, {"visual_prompter", "dynamic_visual_prompt_generator"}),
    ({"towers": "text"}, {"text_prompter", "dynamic_text_prompt_generator"}),
    ({"kinds": "static"}, {"visual_prompter", "text_prompter"}),
    (
        {"kinds": "dynamic"},
        {"dynamic_visual_prompt_generator", "dynamic_text_prompt_generator"},
    ),
]


@pytest.mark.parametrize(("options", "learned"), ABLATIONS)
def test_an_ablation_learns_what_it_reads(tiny, random_case, options, learned):
    method = create("adaclip", tiny, **options)
    case = random_case(method)
    before = method.see(case.query)
    method.loss(case.query, case.labels, case.masks)["total"].backward()
    learning = {n.split(".")[0] for n, p in method.named_parameters() if p.requires_grad}
    assert learning == {*learned, "patch_token_layer", "cls_token_layer"}
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    with torch.no_grad():
        for parameter in method.parameters():
            if not parameter.requires_grad:
                parameter.add_(1)
    after = method.see(case.query)
    assert torch.equal(before.text, after.text)
    assert torch.equal(before.class_token, after.class_token)
