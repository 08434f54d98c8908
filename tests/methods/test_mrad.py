"""MRAD against what its released code answered: memory, three kinds of answers, two stages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench import create
from zsad.bench.images import MaskRule, resize_mask
from zsad.bench.method import Query
from zsad.methods.mrad import upper

# What the recorded weights were multiplied with after they were drawn by name.
GAINS = {"patch_proj.": 5, "image_proj.": 8, "prompt_proj.": 8}
DEAD = ("patch_proj.fc.1.bias", "image_proj.mlp2.bias")


@pytest.fixture(scope="module")
def answer(recorded):
    return recorded("mrad")


@pytest.fixture(scope="module")
def memory(golden_24l, golden_inputs):
    """The keys that the method makes of the twelve recorded auxiliary images."""
    method = create("mrad", golden_24l, "tf")
    turned = [lambda a: a, lambda a: a[:, ::-1], np.rot90, lambda a: np.roll(a, (37, 53), (0, 1))]
    pairs = [
        (np.ascontiguousarray(turn(image)), np.ascontiguousarray(turn(mask)))
        for turn in turned
        for image, mask in zip(golden_inputs.images, golden_inputs.masks, strict=True)
    ]
    labels = torch.tensor(list(golden_inputs.labels) * len(turned))
    with torch.no_grad():
        for start in range(0, len(pairs), 4):
            images = torch.stack(
                [method.preprocess(Image.fromarray(i)) for i, _ in pairs[start : start + 4]]
            )
            masks = [
                resize_mask(m, method.map_size, MaskRule())[0] for _, m in pairs[start : start + 4]
            ]
            query = Query.encoded(method, images, ["bottle"] * len(images))
            truth = torch.from_numpy(np.stack(masks)).float()
            method.remember(query, labels[start : start + 4], truth)
    method.settle()
    return method.memory


@pytest.fixture
def learned(golden_24l, memory, fill_by_name):
    def make(variant):
        method = create("mrad", golden_24l, variant)
        fill_by_name(
            {n: p for n, p in method.named_parameters() if not n.startswith("prompt_learner")}
        )
        if method.options.text_map:
            fill_by_name(method.prompt_learner)
        with torch.no_grad():
            for name, parameter in method.named_parameters():
                for prefix, gain in GAINS.items():
                    if name.startswith(prefix) and name.endswith("weight"):
                        parameter.mul_(gain)
        method.memory = memory
        return method

    return make


def test_the_memory_equals_the_released_codes(memory, answer):
    for name in ("image_keys", "image_labels", "patch_keys", "patch_labels"):
        found = getattr(memory, name)
        np.testing.assert_allclose(found, answer[f"memory_{name}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("variant", "kind"), [("tf", "tf"), ("ft", "ft"), ("official", "clip")])
def test_scores_and_maps_equal_the_released_code(learned, recorded_case, answer, variant, kind):
    method = learned(variant)
    query = recorded_case(method).query
    with torch.no_grad():
        features = method.features(query)
        patches = method.patch_probability(features.patches)
        image = method.image_probability(features.image)
        prediction = method.predict(query)
    np.testing.assert_allclose(patches, answer[f"{kind}_patch_prob"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(image, answer[f"{kind}_image_prob"][:, 1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(prediction.scores, answer[f"{kind}_score"], rtol=0, atol=1e-5)
    maps = prediction.maps[:, ::14, ::14]
    np.testing.assert_allclose(maps, answer[f"{kind}_map_sub"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "stage", "kind", "terms"),
    [
        ("ft", 0, "ft", {"focal": "focal", "dice_abnormal": "dice", "image": "image"}),
        (
            "official",
            1,
            "clip",
            {"focal": "focal", "dice_abnormal": "dice_abn", "dice_normal": "dice_nor"},
        ),
        (
            "official_q95",
            1,
            "clipq95",
            {"focal": "focal", "dice_abnormal": "dice_abn", "dice_normal": "dice_nor"},
        ),
    ],
)
def test_two_steps_of_a_stage_equal_the_released_code(
    learned, recorded_case, answer, variant, stage, kind, terms
):
    method = learned(variant)
    case, chosen = recorded_case(method), method.stages()[stage]
    learning = {n: p for n, p in method.named_parameters() if n.startswith(chosen.learns)}
    optimizer = torch.optim.Adam(learning.values(), lr=4e-4, betas=chosen.schedule.betas)
    loss = chosen.loss or method.loss
    for step in (0, 1):
        if kind == "ft":
            optimizer.param_groups[0]["lr"] = float(answer["ft_train_lr"][step])
        optimizer.zero_grad()
        losses = loss(case.query, case.labels, case.masks)
        losses["total"].backward()
        optimizer.step()
        for name, recorded_name in terms.items():
            expected = float(answer[f"{kind}_train_{recorded_name}"][step])
            assert losses[name].item() == pytest.approx(expected, rel=2e-5), (step, name)
    if kind == "clipq95":
        return
    rows = [str(name) for name in answer[f"{kind}_train_names"]]
    for name, parameter in learning.items():
        short = name.removeprefix("prompt_learner.")
        row = rows.index(name if name in rows else short)
        if name not in DEAD:
            norm = parameter.detach().double().norm().item()
            expected = float(answer[f"{kind}_train_param_step2_norm"][row])
            assert norm == pytest.approx(expected, rel=1e-4), name


def test_a_quantile_is_interpolated_as_torchs():
    values = torch.rand(7, 20, generator=torch.Generator().manual_seed(1))
    for quantile in (0.0, 0.33, 0.8, 0.95, 1.0):
        expected = torch.quantile(values, quantile, dim=-1, keepdim=True)
        assert torch.allclose(upper(values, quantile), expected, atol=1e-7)
