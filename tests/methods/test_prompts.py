"""Prompt ensembles: the words are the released ones, and text is encoded once a class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from zsad.bench.prompts import PromptEnsemble, encode_states, fill
from zsad.methods import _prompts as prompts

ENSEMBLES = {
    "IMAGENET_80": (prompts.IMAGENET_80, 80, 80),
    "COOP_7": (prompts.COOP_7, 7, 7),
    "WINCLIP_22": (prompts.WINCLIP_22, 22, 22),
    "WINCLIP_21": (prompts.WINCLIP_21, 21, 20),
    "APRIL_35": (prompts.APRIL_35, 35, 35),
    "anovl object": (prompts.anovl_templates("bottle"), 66, 66),
    "anovl texture": (prompts.anovl_templates("carpet"), 66, 66),
}


@pytest.mark.parametrize("name", ENSEMBLES)
def test_templates_are_as_many_as_published_and_have_one_place(name):
    templates, count, distinct = ENSEMBLES[name]
    assert (len(templates), len(set(templates))) == (count, distinct)
    assert all(template.count("{}") == 1 for template in templates)


def test_released_winclip_has_one_template_twice_and_two_less():
    lost = set(prompts.WINCLIP_22) - set(prompts.WINCLIP_21)
    assert lost == {"a cropped photo of a {}.", "a jpeg corrupted photo of a {}."}
    assert prompts.WINCLIP_21.count("a jpeg corrupted photo of the {}.") == 2


def test_coop_chose_from_the_imagenet_templates():
    assert set(prompts.COOP_7) < set(prompts.IMAGENET_80)


def test_states_stand_outermost():
    filled = fill(["a {}.", "the {}."], ["{}", "damaged {}"], "tile")
    assert filled == ["a tile.", "the tile.", "a damaged tile.", "the damaged tile."]


def test_a_class_name_with_braces_is_taken_as_it_is():
    assert fill(["a {}."], ["new {}"], "{0} {}") == ["a new {0} {}."]


def test_clip_prompts_read_as_published():
    def text(states):
        return fill(prompts.CLIP_TEMPLATES, states, "metal_nut")

    assert text(prompts.CLIP_NORMAL) == ["a photo of a normal metal_nut."]
    assert text(prompts.CLIP_ABNORMAL) == ["a photo of an anomalous metal_nut."]


def test_anovl_replaces_the_noun_and_the_article_and_drops_the_full_stop():
    templates = prompts.anovl_templates("grid")
    assert templates[0] == "a cropped industrial photo of the {}"
    assert templates[12] == "an industrial photo of a {}"
    assert templates[22 + 13] == "a textural photo of the {}"
    assert templates[65] == "a surface picture of a {} for anomaly detection"
    assert "an industrial image of a {}" in prompts.anovl_templates("bottle")
    assert "a manufacturing image of the small {}" in prompts.anovl_templates("bottle")
    assert not any(template.endswith(".") for template in templates)


def test_winclip_prompts_and_means_are_the_recorded_ones(golden_b16, recorded):
    case = recorded("winclip")
    states = {
        "normal": (prompts.WINCLIP_NORMAL, "text_normal_avg"),
        "abnormal": (prompts.WINCLIP_ABNORMAL, "text_abnormal_avg"),
    }
    for row, (words, array) in enumerate(states.values()):
        filled = fill(prompts.WINCLIP_21, words, "bottle")
        assert len(filled) == case["n_prompts"][row]
        assert [filled[0], filled[-1]] == case["first_last_prompts"][row].tolist()
        mean = golden_b16.encode_text(filled).mean(dim=0)
        np.testing.assert_allclose(mean.numpy(), case[array], atol=2e-6)


@pytest.mark.parametrize("name", ["bottle", "carpet"])
def test_anovl_text_features_are_the_recorded_ones(golden_b16, recorded, name):
    templates = prompts.anovl_templates(name)
    found = encode_states(
        golden_b16,
        fill(templates, prompts.ANOVL_NORMAL, name),
        fill(templates, prompts.ANOVL_ABNORMAL, name),
        normalise_each=False,
    )
    np.testing.assert_allclose(found.numpy().T, recorded("anovl_tta")[f"text_{name}"], atol=1e-6)


def test_the_two_means_differ_in_what_is_normalised_first(golden_b16):
    normal, abnormal = ["a flawless tile.", "tile"], ["a broken tile with a hole.", "x"]
    raw = golden_b16.encode_text([*normal, *abnormal]).reshape(2, 2, -1)
    each = encode_states(golden_b16, normal, abnormal, normalise_each=True)
    mean = encode_states(golden_b16, normal, abnormal, normalise_each=False)
    torch.testing.assert_close(each, F.normalize(F.normalize(raw, dim=-1).mean(dim=1), dim=-1))
    torch.testing.assert_close(mean, F.normalize(raw.mean(dim=1), dim=-1))
    torch.testing.assert_close(each.norm(dim=-1), torch.ones(2))
    assert (each - mean).abs().max() > 1e-6


def test_each_class_is_encoded_once_whatever_the_batches(golden_b16):
    ensemble = PromptEnsemble(golden_b16, ["a {}.", "the {}."], ["{}"], ["broken {}"], True)
    before = golden_b16.counter.prompts
    first = ensemble(["tile", "wood", "tile"])
    assert golden_b16.counter.prompts == before + 2 * 4
    second = ensemble(["wood", "tile"])
    assert golden_b16.counter.prompts == before + 2 * 4
    assert first.shape == (3, 2, golden_b16.embed_dim)
    assert torch.equal(first[0], first[2])
    assert torch.equal(second, first[[1, 0]])
    assert not torch.equal(first[0], first[1])


def test_two_ensembles_do_not_share_what_they_keep(golden_b16):
    one = PromptEnsemble(golden_b16, ["a {}."], ["{}"], ["broken {}"], True)
    other = PromptEnsemble(golden_b16, ["the {}."], ["{}"], ["broken {}"], True)
    assert not torch.equal(one(["tile"]), other(["tile"]))
