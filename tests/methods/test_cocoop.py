"""CoCoOp against what its released code answered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from zsad.bench import create
from zsad.bench.backbone import VisualFeatures
from zsad.bench.method import Query

BOTTLES = ["bottle"] * 3
LABELS = torch.tensor([1, 0, 1])


@pytest.fixture
def learned(golden_24l, fill_by_name, recorded):
    method = create("cocoop", golden_24l, "official", image_size=336)
    fill_by_name(method)
    return method, recorded("coop")


def query_of(class_token):
    token = torch.from_numpy(class_token)
    return Query(VisualFeatures(token, token, {}, (24, 24)), BOTTLES)


def logits(method, query):
    visual = F.normalize(query.features.class_token, dim=-1)
    return torch.einsum("bd,bsd->bs", visual, method.text_features(query)) / method.temperature


def test_text_features_and_logits_equal_the_released_code(learned):
    method, answer = learned
    drawn = query_of(answer["image_features_filled_raw"])
    real = query_of(answer["image_features_336_raw"])
    with torch.no_grad():
        shift = method.meta_net(F.normalize(drawn.features.class_token, dim=-1))
        text = method.text_features(drawn)
        drawn_logits, real_logits = logits(method, drawn), logits(method, real)
    np.testing.assert_allclose(shift, answer["cocoop_meta_out_filled"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(text, answer["cocoop_text_filled"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(drawn_logits, answer["cocoop_logits_filled"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(real_logits, answer["cocoop_logits_336"], rtol=0, atol=2e-5)


def test_loss_gradients_and_a_step_equal_the_released_code(learned):
    method, answer = learned
    schedule = method.schedule
    optimizer = torch.optim.SGD(
        method.parameters(),
        lr=schedule.lr,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
    )
    query = query_of(answer["image_features_336_raw"])
    total = method.loss(query, LABELS, torch.zeros(3, 336, 336))["total"]
    assert total.item() == pytest.approx(float(answer["cocoop_ce"]), rel=1e-5)
    total.backward()
    optimizer.step()
    own = dict(method.named_parameters())
    assert set(own) == set(answer["cocoop_names"])
    for row, name in enumerate(answer["cocoop_names"]):
        gradient, after = own[name].grad, own[name].detach()
        norm = float(answer["cocoop_grad_norm"][row])
        assert gradient.norm().item() == pytest.approx(norm, rel=1e-4), name
        norm = float(answer["cocoop_after_sgd_norm"][row])
        assert after.double().norm().item() == pytest.approx(norm, rel=1e-5), name
        expected = answer["cocoop_after_sgd_first8"][row]
        np.testing.assert_allclose(after.flatten()[:8], expected, rtol=1e-4, atol=1e-7)


def test_parameter_counts_are_the_ledgers(golden_24l):
    assert create("cocoop", golden_24l).parameter_counts() == (83_760, 83_760)


def test_recipes_of_the_variants(tiny):
    paper, official = create("cocoop", tiny).schedule, create("cocoop", tiny, "official").schedule
    assert (paper.optimizer, paper.epochs, paper.batch_size) == ("adam", 15, 8)
    assert (official.optimizer, official.epochs, official.batch_size) == ("sgd", 10, 1)


def test_each_image_has_its_own_text_from_one_forward(tiny, random_case):
    method = create("cocoop", tiny)
    query = random_case(method, ["bottle", "bottle", "metal_nut"]).query
    tiny.counter.prompts = 0
    with torch.no_grad():
        together = method.text_features(query)
        assert tiny.counter.prompts == 6
        alone = method.text_features(Query(query.features.map(lambda t: t[2:]), ["metal_nut"]))
    torch.testing.assert_close(together[2:], alone)
    assert not torch.allclose(together[0], together[1])
