"""FAPrompt against what its released code answered, and the parts that can be switched."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from zsad.bench import create
from zsad.bench.errors import UsageError, WeightsError
from zsad.bench.method import Query
from zsad.bench.registry import method_class

CASES = [
    ("faprompt", "official", {}),
    ("faprompt_topk", "fixed", {}),
    ("faprompt_nohalf", "official", {"half_deep_tokens": False}),
]
DEAD = 8 * (768 * 896 + 896)  # of the projections that the released code never calls


@pytest.fixture(params=CASES, ids=[name for name, _, _ in CASES])
def learned(request, golden_24l, fill_by_name, recorded):
    name, variant, options = request.param
    method = create("faprompt", golden_24l, variant, **options)
    fill_by_name(method)
    return method, recorded(name)


def test_scores_and_maps_equal_the_released_code(learned, recorded_case):
    method, answer = learned
    query = recorded_case(method).query
    with torch.no_grad():
        prediction = method.predict(query)
        (first, second), features, prior = method._forward(query)
    close = {
        "text_features_neg_all1": (features[1:], 2e-5),  # raw, of norm 15
        "text_features1": (first.text, 1e-5),
        "map_max_score1": (first.patches[..., 1].amax(dim=1), 1e-5),
        "meta_bias": (prior, 1e-5),
        "map_max_score2": (second.patches[..., 1].amax(dim=1), 1e-5),
        "text_probs": (second.image, 1e-5),
        "final_score": (prediction.scores, 1e-5),
        "map_gauss_sub": (prediction.maps[:, ::14, ::14], 1e-5),
    }
    for name, (found, tolerance) in close.items():
        np.testing.assert_allclose(found, answer[name], rtol=0, atol=tolerance, err_msg=name)
    if "topk_index" in answer:
        best = first.patches[..., 1].topk(10, dim=1).indices
        np.testing.assert_array_equal(best, answer["topk_index"])


def test_losses_and_two_steps_equal_the_released_code(learned, recorded_case, two_steps):
    method, answer = learned
    chosen = method.options
    for step, terms in enumerate(two_steps(method, recorded_case(method), answer)):
        expected = {
            "image_entropy": answer["train_image_ce"][step],
            "image_focal": answer["train_image_focal"][step],
            "orthogonality": answer["train_loss_oc"][step],
            "prior": answer["train_loss_bias"][step],
            "total": answer["train_total"][step],
        }
        for row, suffix in enumerate(("", "_refined")):
            expected[f"focal{suffix}"] = answer["train_focal_map1_map2"][step][row]
            expected[f"dice_abnormal{suffix}"] = answer["train_dice_abn_map1_map2"][step][row]
            expected[f"dice_normal{suffix}"] = answer["train_dice_nor_map1_map2"][step][row]
        assert terms == pytest.approx({k: float(v) for k, v in expected.items()}, rel=1e-5)
        local = sum(
            weight * terms[f"{name}{suffix}"]
            for suffix, weight in (
                ("", chosen.local_weight),
                ("_refined", chosen.refined_local_weight),
            )
            for name in ("focal", "dice_abnormal", "dice_normal")
        )
        assert local == pytest.approx(float(answer["train_pixel_total"][step]), rel=1e-5)


def test_prompts_have_the_released_tokens(golden_24l, recorded):
    answer = recorded("faprompt")
    method = create("faprompt", golden_24l, "official")
    with torch.no_grad():
        for frame, name, words in (
            (method._normal, "tok_pos", 5),
            (method._abnormal, "tok_neg", 7),
        ):
            ids = torch.from_numpy(answer[name])
            end = int(ids.argmax())
            expected = golden_24l.embed_tokens(ids)[0, 1 + words : end + 1]
            assert frame.ends.tolist() == [end]
            torch.testing.assert_close(frame.suffix[0], expected)


def test_parameter_counts_are_the_ledgers(golden_24l):
    method = create("faprompt", golden_24l)
    assert method.parameter_counts() == (4_100_064 + DEAD, 4_100_064)
    assert method.published_parameters == 9_612_256


@pytest.fixture
def released_state(golden_24l, recorded, fill_by_name):
    """What the released code saves: names and shapes of all tensors, and its own prompts."""
    released = {"ctx_pos": (1, 1, 5, 768), "ctx_neg": (1, 10, 2, 768)}
    released |= {f"compound_prompts_text.{i}": (4, 768) for i in range(8)}
    released |= {
        "patch_meta_net.linear1.weight": (480, 7680),
        "patch_meta_net.linear1.bias": (480,),
        "patch_meta_net.linear2.weight": (768, 480),
        "patch_meta_net.linear2.bias": (768,),
    }
    dead = {
        "token_prefix_pos": (1, 1, 1, 768),
        "token_suffix_pos": (1, 1, 71, 768),
        "token_prefix_neg": (1, 10, 1, 768),
        "token_suffix_neg": (1, 10, 69, 768),
        "tokenized_prompts_pos": (1, 1, 77),
        "tokenized_prompts_neg": (1, 10, 77),
    }
    for i in range(8):
        dead[f"compound_prompt_projections.{i}.weight"] = (896, 768)
        dead[f"compound_prompt_projections.{i}.bias"] = (896,)
    state = {name: torch.zeros(shape) for name, shape in (released | dead).items()}
    fill_by_name(state)
    for kind, count, prompts in (("pos", 5, 1), ("neg", 7, 10)):
        ids = torch.from_numpy(recorded("faprompt")[f"tok_{kind}"])[:1].expand(prompts, -1)
        embedded = golden_24l.embed_tokens(ids)[None].half()
        state[f"tokenized_prompts_{kind}"] = ids[None]
        state[f"token_prefix_{kind}"] = embedded[:, :, :1]
        state[f"token_suffix_{kind}"] = embedded[:, :, 1 + count :]
    assert {name: tuple(t.shape) for name, t in state.items()} == released | dead
    return state, set(released), set(dead)


def test_a_released_checkpoint_loads_by_its_own_names(golden_24l, released_state, tmp_path):
    state, released, dead = released_state
    path = tmp_path / "epoch_7.pth"
    torch.save({"prompt_learner": state}, path)
    method = create("faprompt", golden_24l, variant="official", checkpoint=path)
    own = method.learned_state()
    assert own.keys() == released
    assert all(torch.equal(own[name], state[name]) for name in own)
    assert set(method.load_learned({"prompt_learner": state})) == dead


def test_a_released_checkpoint_is_refused_by_variants_with_other_prompts(
    golden_24l, released_state
):
    state, _, _ = released_state
    create("faprompt", golden_24l, "fixed").load_learned({"prompt_learner": state})
    method = create("faprompt", golden_24l, "paper")
    with pytest.raises(
        WeightsError,
        match=r"variant 'paper'.*'tokenized_prompts_neg'.*faprompt@official or faprompt@fixed",
    ):
        method.load_learned({"prompt_learner": state})
    elsewhere = {**state, "token_suffix_pos": state["token_suffix_pos"] + 0.01}
    with pytest.raises(WeightsError, match=r"'token_suffix_pos'.*no variant"):
        create("faprompt", golden_24l, "official").load_learned({"prompt_learner": elsewhere})


def test_all_images_share_one_text_forward_and_the_normal_prompt_is_encoded_once(
    tiny, random_case, monkeypatch
):
    method = create("faprompt", tiny)
    query = random_case(method).query
    calls = []
    encode = method.backbone.encode_embeddings

    def counting(embeddings, ends, deep_tokens=(), **how):
        calls.append(len(embeddings))
        return encode(embeddings, ends, deep_tokens, **how)

    monkeypatch.setattr(method.backbone, "encode_embeddings", counting)
    with torch.no_grad():
        method.predict(query)
        method.predict(query)
    assert calls == [11, 30, 30]


def test_the_released_selection_ignores_the_image_and_the_corrected_one_does_not(tiny):
    generator = torch.Generator().manual_seed(0)
    patches = F.normalize(torch.randn(2, 30, tiny.embed_dim, generator=generator), dim=-1)
    probabilities = torch.rand(2, 30, generator=generator)
    first, top = create("faprompt", tiny, "official"), create("faprompt", tiny, "fixed")
    assert torch.equal(first.select(patches, probabilities), patches[:, :10].flatten(1))
    assert torch.equal(first.select(patches, probabilities.flip(1)), patches[:, :10].flatten(1))
    order = probabilities.argsort(dim=1, descending=True)[:, :10]
    expected = torch.stack([p[o] for p, o in zip(patches, order, strict=True)]).flatten(1)
    assert torch.equal(top.select(patches, probabilities), expected)
    assert not torch.equal(top.select(patches, probabilities.flip(1)), expected)


def test_the_prior_moves_the_abnormal_tokens_alone(tiny):
    method = create("faprompt", tiny)
    prior = torch.randn(2, tiny.text_width, generator=torch.Generator().manual_seed(1))
    plain, moved = method._abnormal_context(), method._abnormal_context(prior)
    shift = (moved - plain).detach()  # [B, K, E + E', W]
    assert bool((shift[:, :, :5] == 0).all())
    torch.testing.assert_close(shift[:, :, 5:], prior[:, None, None].expand(2, 10, 2, -1))


def test_abnormal_prompts_share_the_normal_tokens_only_with_cap(tiny):
    assert create("faprompt", tiny, "cap")._abnormal_context().shape[:2] == (10, 7)
    without = create("faprompt", tiny, "dap")
    assert without._abnormal_context().shape[:2] == (1, 12)
    assert without._abnormal.ends.tolist() == [16]  # start, 12 learned, damaged object . end


def test_loss_weights_scale_their_terms(tiny, random_case):
    method = create("faprompt", tiny)
    case = random_case(method)
    terms = {k: v.item() for k, v in method.loss(case.query, case.labels, case.masks).items()}
    local = ("focal", "dice_abnormal", "dice_normal")
    parts = {
        "local_weight": sum(terms[name] for name in local),
        "refined_local_weight": sum(terms[f"{name}_refined"] for name in local),
        "entropy_weight": terms["image_entropy"],
        "focal_weight": terms["image_focal"],
        "overlap_weight": terms["orthogonality"],
        "prior_weight": terms["prior"],
    }
    for name, part in parts.items():
        more = {name: getattr(method.options, name) + 3.0}
        other = create("faprompt", tiny, **more)
        total = other.loss(case.query, case.labels, case.masks)["total"].item()
        assert total - terms["total"] == pytest.approx(3 * part, rel=1e-3, abs=1e-4), name


def test_paper_and_released_prior_differ_by_the_width(tiny, random_case):
    case = random_case(create("faprompt", tiny))
    sizes = [
        create("faprompt", tiny, prior_reduction=how).loss(case.query, case.labels, case.masks)
        for how in ("sum", "mean")
    ]
    ratio = sizes[0]["prior"].item() / sizes[1]["prior"].item()
    assert ratio == pytest.approx(tiny.text_width, rel=1e-4)


def test_the_prior_is_held_down_for_normal_images_alone(tiny, random_case):
    method = create("faprompt", tiny)
    case = random_case(method)
    anomalous = torch.ones_like(case.labels)
    assert method.loss(case.query, anomalous, case.masks)["prior"].item() == 0.0


def test_max_weights_mix_the_maxima_of_both_passes(tiny, random_case):
    query = random_case(create("faprompt", tiny)).query
    answers = []
    for weights in ((1.0, 0.0), (0.0, 1.0), (2.0, 1.0)):
        method = create("faprompt", tiny, max_weights=weights)
        with torch.no_grad():
            answers.append(method.predict(query).scores)
    torch.testing.assert_close(answers[2], (2 * answers[0] + answers[1]) / 3)


def test_with_one_prompt_the_best_is_the_mean(tiny, random_case):
    query = random_case(create("faprompt", tiny)).query
    mean, best = (
        create("faprompt", tiny, n_prompts=1, prototype=which) for which in ("mean", "best")
    )
    with torch.no_grad():
        torch.testing.assert_close(best.predict(query).maps, mean.predict(query).maps)
    with torch.no_grad():
        several = create("faprompt", tiny, prototype="best").predict(query).maps
        averaged = create("faprompt", tiny).predict(query).maps
    assert not torch.allclose(several, averaged, atol=1e-4)


def test_half_precision_tokens_are_rounded_on_the_way_in(tiny):
    half = create("faprompt", tiny, half_deep_tokens=True).compound_prompts_text
    full = create("faprompt", tiny).compound_prompts_text
    assert half.for_prompts(2)[0].dtype == torch.float16
    assert full.for_prompts(2)[0].dtype == torch.float32
    assert torch.equal(half.for_prompts(2)[0][1], half[0].half())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_prompts": 0}, "n_prompts"),
        ({"selection": "best"}, "selection"),
        ({"max_weights": (0.0, 0.0)}, "max_weights"),
        ({"prototype": "median"}, "prototype"),
    ],
)
def test_options_without_sense_are_refused(options, message, tiny):
    with pytest.raises(UsageError, match=message):
        create("faprompt", tiny, **options)


def test_more_selected_patches_than_an_image_has_are_refused(tiny, random_case):
    rows, columns = random_case(create("faprompt", tiny)).query.features.grid
    method = create("faprompt", tiny, n_selected=rows * columns + 1)
    with pytest.raises(UsageError, match="n_selected"), torch.no_grad():
        method.predict(random_case(method).query)


def test_the_answer_for_an_image_depends_on_it_alone(tiny, random_case):
    method = create("faprompt", tiny, "fixed")
    query = random_case(method).query
    with torch.no_grad():
        together = method.predict(query)
        alone = method.predict(Query(query.features.map(lambda t: t[2:]), ["screw"]))
    torch.testing.assert_close(alone.scores, together.scores[2:])
    torch.testing.assert_close(alone.maps, together.maps[2:])


def test_the_variants_are_the_papers_rows():
    variants = method_class("faprompt").variants
    official = dataclasses.asdict(variants["official"])
    fixed = dataclasses.asdict(variants["fixed"])
    assert {k for k in official if official[k] != fixed[k]} == {"selection"}
    assert method_class("faprompt").default_variant == "paper"
