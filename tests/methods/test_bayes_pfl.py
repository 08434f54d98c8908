"""Bayes-PFL against what its released code answered, fed with the noise that was drawn there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from zsad.bench import create
from zsad.methods._category_scores import category_parts
from zsad.methods.bayes_pfl import Noise

# What the recorded tensors were multiplied with after they were drawn by name.
FACTORS = {
    "prompt_": 32,
    "PFL_context.amor_u.weight": 0.1,
    "PFL_context.amor_w.weight": 0.1,
    "PFL_normal.amor_u": 9,
    "PFL_normal.amor_w": 9,
    "PFL_normal.state": 28,
    "PFL_abnormal.amor_u": 9,
    "PFL_abnormal.amor_w": 9,
    "PFL_abnormal.state": 28,
    "RCA.q_proj_pre.weight": 1000,
}


@pytest.fixture(scope="module")
def answer(recorded):
    return recorded("bayes_pfl")


@pytest.fixture
def learned(golden_24l, fill_by_name, answer):
    method = create("bayes_pfl", golden_24l)
    fill_by_name(method)
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            for prefix, factor in FACTORS.items():
                if name.startswith(prefix):
                    parameter.mul_(factor)
        method.temperature_pixel.fill_(3.9)
        method.temperature_image.fill_(3.4)
    for name in ("context", "normal", "abnormal"):
        setattr(method, f"noise_{name}", torch.from_numpy(answer[f"noise_{name}"]))
    return method


@pytest.fixture
def case(learned, recorded_case):
    return recorded_case(learned)


@pytest.fixture
def training_case(learned, recorded_case, answer):
    """Its images have other class names, one of which the released code spells otherwise."""
    return recorded_case(learned, tuple(map(str, answer["train_class_names"])))


def test_text_features_equal_the_released_code(learned, case, answer):
    with torch.no_grad():
        encoded = learned.encode(case.query)
    found = encoded.text.flatten(1, 2)[..., ::16]
    np.testing.assert_allclose(found, answer["text_features_sub"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(
        encoded.context.log_det, answer["context_log_det"], rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(
        encoded.abnormal.value[..., ::16], answer["abnormal_sample_sub"], rtol=0, atol=1e-4
    )


def test_scores_and_maps_equal_the_released_code(learned, case, answer):
    with torch.no_grad():
        text = learned.encode(case.query).text
        raw = learned._maps(case.query, text)
        image = learned.image_probability(case.query, text)
        prediction = learned.predict(case.query)
    np.testing.assert_allclose(image, answer["image_prob"], rtol=0, atol=1e-5)
    expected = 0.5 * answer["image_prob"] + 0.5 * answer["map_top2000"]
    np.testing.assert_allclose(prediction.scores, expected, rtol=0, atol=1e-5)
    parts = category_parts(["bottle"] * 3, image, raw)
    released = learned.conclude(parts)
    np.testing.assert_allclose(released, answer["image_score_minmax"], rtol=0, atol=2e-5)
    maps = prediction.maps[:, ::7, ::7]
    np.testing.assert_allclose(maps, answer["map_gauss_sub"], rtol=0, atol=1e-5)
    first = learned.image_logits(case.query, text, second_stage=False).flatten(1)
    np.testing.assert_allclose(first.detach(), answer["image_logits_stage1"], rtol=0, atol=1e-4)


def steps(method, case, answer, stage, prefix):
    """Loss terms of two recorded optimiser steps; gradients and rates are held to the record."""
    names = [str(name) for name in answer[f"{prefix}param_names"]]
    learning = {n: p for n, p in method.named_parameters() if n.startswith(stage.learns)}
    assert set(learning) == set(names)
    loss, terms = stage.loss or method.loss, []
    groups = [{"params": [parameter], "lr": 0.0} for parameter in learning.values()]
    optimizer = torch.optim.Adam(groups, betas=stage.schedule.betas)
    for step in (1, 2):
        noise = [answer[f"{prefix}noise_{n}"][step - 1] for n in ("context", "normal", "abnormal")]
        context, normal, abnormal = map(torch.from_numpy, noise)
        drawn = Noise(context[:, None], normal[None], abnormal[None])
        method.draw = lambda batch, d=drawn, s=step: (
            d,
            int(answer[f"{prefix}prompt_index"][s - 1]),
        )
        optimizer.zero_grad()
        losses = loss(case.query, case.labels, case.masks)
        losses["total"].backward()
        terms.append({name: value.item() for name, value in losses.items()})
        for group, (name, parameter) in zip(optimizer.param_groups, learning.items(), strict=True):
            row = names.index(name)
            group["lr"] = answer[f"{prefix}lr_step{step}"][row]
            norm = float(answer[f"{prefix}grad_step{step}_norm"][row])
            if norm > 1e-6 and name != "fuse.compress.bias":
                assert parameter.grad.double().norm().item() == pytest.approx(norm, rel=1e-3), name
        optimizer.step()
    return terms


def test_losses_and_two_steps_equal_the_released_code(learned, training_case, answer):
    terms = steps(learned, training_case, answer, learned.stages()[0], "train_")
    for step, found in enumerate(terms):
        expected = {
            "image": answer["train_class"][step],
            "focal": answer["train_focal"][step].sum(),
            "dice_abnormal": answer["train_dice"][step].sum(),
            "divergence": answer["train_kl_x001"][step].sum(),
            "orthogonality": answer["train_orthogonal"][step],
            "total": answer["train_total"][step],
        }
        for name, value in expected.items():
            assert found[name] == pytest.approx(float(value), rel=1e-5 if step == 0 else 1e-4), name


def test_the_second_stage_equals_the_released_code(learned, training_case, answer):
    for name, parameter in learned.named_parameters():
        parameter.requires_grad_(name.startswith(learned.stages()[1].learns))
    terms = steps(learned, training_case, answer, learned.stages()[1], "train_stage2_")
    found = [term["total"] for term in terms]
    np.testing.assert_allclose(found, answer["train_stage2_total"], rtol=1e-5)


def test_rates_are_the_released_ones(learned, answer):
    schedule = learned.stages()[0].schedule
    for name, rate in zip(answer["train_param_names"], answer["train_lr_step1"], strict=True):
        prefixes = [prefix for prefix in schedule.rates if str(name).startswith(prefix)]
        found = schedule.rates[prefixes[0]] if prefixes else schedule.lr
        assert found == pytest.approx(float(rate)), name


def test_an_answer_depends_on_its_image_alone(learned, case):
    learned.noise_context = learned.noise_context[:1]
    with torch.no_grad():
        together = learned.predict(case.query)
        alone = learned.predict(case.query[1:2])
    np.testing.assert_allclose(alone.scores, together.scores[1:2], rtol=0, atol=1e-6)
    np.testing.assert_allclose(alone.maps, together.maps[1:2], rtol=0, atol=1e-6)
