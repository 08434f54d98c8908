"""AnomalyCLIP against what its released code answered, and its learned state."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from zsad.bench import create
from zsad.bench.errors import UsageError, WeightsError

CASES = [
    ("anomalyclip", {"layers": (6, 12, 18, 24)}),
    ("anomalyclip_layer24", {}),
    ("anomalyclip_nohalf", {"layers": (6, 12, 18, 24), "half_deep_tokens": False}),
]
DEAD = 8 * (768 * 896 + 896)  # of the projections that the released code never calls


@pytest.fixture(params=CASES, ids=[name for name, _ in CASES])
def learned(request, golden_24l, fill_by_name, recorded):
    name, options = request.param
    method = create("anomalyclip", golden_24l, **options)
    fill_by_name(method)
    return method, recorded(name)


def test_scores_and_maps_equal_the_released_code(learned, recorded_case):
    method, answer = learned
    case = recorded_case(method)
    with torch.no_grad():
        prediction = method.predict(case.query)
        text = method.text_features()
    np.testing.assert_allclose(prediction.scores, answer["image_score"], rtol=0, atol=1e-5)
    if "text_features" in answer:
        np.testing.assert_allclose(text, answer["text_features"], rtol=0, atol=1e-5)
    if "map_gauss_sub" in answer:
        found = prediction.maps[:, ::14, ::14]
        np.testing.assert_allclose(found, answer["map_gauss_sub"], rtol=0, atol=1e-5)


def test_without_smoothing_the_map_is_the_raw_sum_of_layers(
    golden_24l, fill_by_name, recorded, recorded_case
):
    options = {"layers": (6, 12, 18, 24), "half_deep_tokens": False, "smoothing_sigma": 0.0}
    method = create("anomalyclip", golden_24l, **options)
    fill_by_name(method)
    with torch.no_grad():
        maps = method.predict(recorded_case(method).query).maps
    expected = recorded("anomalyclip_nohalf")["map_raw_sub"]
    np.testing.assert_allclose(maps[:, ::14, ::14], expected, rtol=0, atol=1e-5)


def test_losses_and_two_steps_equal_the_released_code(learned, recorded_case, two_steps):
    method, answer = learned
    for step, terms in enumerate(two_steps(method, recorded_case(method), answer)):
        expected = {
            "image": answer["train_image_ce"][step],
            "focal": answer["train_focal"][step].sum(),
            "dice_abnormal": answer["train_dice_abn"][step].sum(),
            "dice_normal": answer["train_dice_nor"][step].sum(),
            "total": answer["train_total"][step],
        }
        assert terms == pytest.approx({k: float(v) for k, v in expected.items()}, rel=1e-5)


def test_prompts_have_the_released_tokens(golden_24l, recorded):
    expected = torch.from_numpy(recorded("anomalyclip")["tokenized_prompts"])
    method = create("anomalyclip", golden_24l)
    with torch.no_grad():
        embedded = golden_24l.embed_tokens(expected)
        for row, frame in enumerate((method._normal, method._abnormal)):
            end = int(expected[row].argmax())
            assert frame.ends.tolist() == [end]
            torch.testing.assert_close(frame.suffix[0], embedded[row, 13 : end + 1])


def test_text_is_encoded_once_while_the_parameters_stand_still(tiny, random_case):
    method = create("anomalyclip", tiny)
    query = random_case(method).query
    with torch.no_grad():
        before = method.predict(query)
        tiny.counter.prompts = 0
        again = method.predict(query)
        assert tiny.counter.prompts == 0
        method.ctx_neg.copy_(torch.linspace(-3, 3, method.ctx_neg.numel()).view_as(method.ctx_neg))
        after = method.predict(query)
    assert tiny.counter.prompts == 2
    assert torch.equal(before.scores, again.scores)
    assert not torch.allclose(before.scores, after.scores)


def test_a_step_of_an_optimiser_and_a_loaded_state_change_the_answer(tiny, random_case):
    method, other = create("anomalyclip", tiny, seed=1), create("anomalyclip", tiny, seed=2)
    case = random_case(method)
    with torch.no_grad():
        first = method.predict(case.query).scores
    optimizer = torch.optim.Adam(method.parameters(), lr=0.1)
    method.loss(case.query, case.labels, case.masks)["total"].backward()
    optimizer.step()
    with torch.no_grad():
        second = method.predict(case.query).scores
        method.load_learned(other.learned_state())
        third, expected = method.predict(case.query).scores, other.predict(case.query).scores
    assert not torch.allclose(first, second)
    assert torch.equal(third, expected)


def test_parameter_counts_are_the_ledgers(golden_24l):
    method = create("anomalyclip", golden_24l)
    assert method.parameter_counts() == (43_008 + DEAD, 43_008)
    assert method.published_parameters == 5_555_200
    assert set(method.state_dict()) == set(method.learned_state())


def test_a_released_checkpoint_loads_and_its_dead_tensors_are_reported(tiny, tmp_path):
    source = create("anomalyclip", tiny, seed=3)
    width = tiny.text_width
    prompts = ["X " * 12 + "object.", "X " * 12 + "damaged object."]
    ids = open_clip.SimpleTokenizer()(prompts)
    embedded = tiny.embed_tokens(ids)
    released = {
        **source.learned_state(),
        "token_prefix_pos": embedded[None, :1, :1],
        "token_suffix_neg": embedded[None, 1:, 13:],
        "tokenized_prompts_pos": ids[None, :1].int(),
        "compound_prompt_projections.0.weight": torch.zeros(896, width),
        "compound_prompt_projections.0.bias": torch.zeros(896),
    }
    path = tmp_path / "epoch_15.pth"
    torch.save({"prompt_learner": released}, path)
    method = create("anomalyclip", tiny, checkpoint=path)
    for name, tensor in source.learned_state().items():
        assert torch.equal(method.learned_state()[name], tensor)
    assert len(method.load_learned({"prompt_learner": released})) == 5
    other = {**released, "tokenized_prompts_pos": ids[None, 1:]}
    with pytest.raises(WeightsError, match="other prompts .*'tokenized_prompts_pos'"):
        method.load_learned({"prompt_learner": other})
    torch.save({"prompt_learner": {**released, "ctx": torch.zeros(1)}}, path)
    with pytest.raises(WeightsError, match="unknown tensors: ctx"):
        create("anomalyclip", tiny, checkpoint=path)
    del released["ctx_pos"]
    torch.save({"prompt_learner": released}, path)
    with pytest.raises(WeightsError, match="lacks the tensor 'ctx_pos'"):
        create("anomalyclip", tiny, checkpoint=path)


def test_too_many_learned_tokens_are_refused(tiny):
    with pytest.raises(UsageError, match="fewer learned tokens"):
        create("anomalyclip", tiny, n_context=80)


def test_the_answer_for_an_image_depends_on_it_alone(tiny, random_case):
    method = create("anomalyclip", tiny)
    query = random_case(method).query
    with torch.no_grad():
        together = method.predict(query)
        alone = method.predict(type(query)(query.features.map(lambda t: t[1:2]), ["screw"]))
    torch.testing.assert_close(alone.scores, together.scores[1:2])
    torch.testing.assert_close(alone.maps, together.maps[1:2])
