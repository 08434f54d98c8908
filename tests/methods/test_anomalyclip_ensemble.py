"""AnomalyCLIP Ensemble: the mean of models that learn as if alone, or one with many prompts."""

from __future__ import annotations

import pytest
import torch
from zsad.bench import create
from zsad.bench.errors import UsageError


@pytest.fixture
def seeds(tiny):
    return create("anomalyclip_ensemble", tiny, n_members=3)


def test_scores_and_maps_are_the_means_of_the_members(seeds, random_case):
    query = random_case(seeds).query
    with torch.no_grad():
        together = seeds.predict(query)
        answers = [model.predict(query) for model in seeds.models]
    assert not torch.allclose(answers[0].scores, answers[1].scores)
    scores = torch.stack([answer.scores for answer in answers])
    maps = torch.stack([answer.maps for answer in answers])
    torch.testing.assert_close(together.scores, scores.mean(dim=0))
    torch.testing.assert_close(together.maps, maps.mean(dim=0))


def test_a_member_learns_as_if_it_were_alone(seeds, tiny, random_case):
    case = random_case(seeds)
    alone = create("anomalyclip", tiny)
    alone.load_learned(seeds.models[1].learned_state())
    for method in (seeds, alone):
        optimizer = torch.optim.Adam(method.parameters(), lr=1e-3, betas=(0.5, 0.999))
        for _ in range(2):
            optimizer.zero_grad()
            method.loss(case.query, case.labels, case.masks)["total"].backward()
            optimizer.step()
    for name, tensor in alone.learned_state().items():
        torch.testing.assert_close(seeds.models[1].learned_state()[name], tensor)


def test_one_member_is_anomalyclip(tiny, random_case):
    single = create("anomalyclip_ensemble", tiny, n_members=1)
    plain = create("anomalyclip", tiny)
    query = random_case(plain).query
    with torch.no_grad():
        torch.testing.assert_close(single.predict(query).maps, plain.predict(query).maps)
    assert single.schedule == plain.schedule


def test_many_prompts_have_tokens_of_their_own_and_are_kept_apart(tiny, random_case):
    method = create("anomalyclip_ensemble", tiny, "prompts")
    (model,) = method.models
    assert model.ctx_neg.shape == (1, 10, 12, tiny.text_width)
    case = random_case(method)
    terms = method.loss(case.query, case.labels, case.masks)
    local = sum(terms[name] for name in ("focal", "dice_abnormal", "dice_normal"))
    expected = terms["image"] + 4 * local + 2 * terms["orthogonality"]
    torch.testing.assert_close(terms["total"], expected)
    features = model.raw_features()
    assert features.shape == (11, tiny.embed_dim)
    prototype = torch.nn.functional.normalize(features[1:].mean(dim=0), dim=0)
    torch.testing.assert_close(model.text_features()[1], prototype)


def test_its_learned_state_can_be_loaded_again(seeds, tiny):
    other = create("anomalyclip_ensemble", tiny, n_members=3, seed=7)
    other.load_learned(seeds.learned_state())
    for name, tensor in seeds.learned_state().items():
        assert torch.equal(other.learned_state()[name], tensor)


def test_an_ensemble_without_members_is_refused(tiny):
    with pytest.raises(UsageError, match="n-members.*equal to 1, not 0"):
        create("anomalyclip_ensemble", tiny, n_members=0)
