"""CLIP-AC: CLIP with other text, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from zsad.bench import create, predict_images
from zsad.bench.errors import UsageError
from zsad.methods import _prompts

SIZE = 56


@pytest.mark.parametrize(
    ("prompts", "templates"), [("imagenet80", _prompts.IMAGENET_80), ("coop7", _prompts.COOP_7)]
)
def test_text_is_the_mean_of_normalised_templates(golden_b16, prompts, templates):
    method = create("clip-ac", golden_b16, prompts=prompts)
    found = method.text(["carpet"])[0]
    for row, state in enumerate(("normal carpet", "anomalous carpet")):
        each = F.normalize(golden_b16.encode_text([t.format(state) for t in templates]), dim=-1)
        expected = F.normalize(each.mean(dim=0), dim=0)
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=0)


def test_april_gan_ensemble_has_its_own_states(golden_b16):
    method = create("clip-ac", golden_b16, prompts="april")
    before = golden_b16.counter.prompts
    method.text(["wood"])
    assert golden_b16.counter.prompts - before == 35 * (7 + 5)


def test_with_clips_own_prompts_it_is_clip(golden_24l, golden_inputs, monkeypatch):
    clip = create("clip", golden_24l, image_size=SIZE)
    ensemble = create("clip-ac", golden_24l, image_size=SIZE, prompts="coop7")
    first = predict_images(clip, golden_inputs.images[:2], "bottle")
    second = predict_images(ensemble, golden_inputs.images[:2], "bottle")
    assert (first.scores - second.scores).abs().max() > 1e-4
    monkeypatch.setattr(ensemble, "text", clip.text)
    third = predict_images(ensemble, golden_inputs.images[:2], "bottle")
    torch.testing.assert_close(first.scores, third.scores)
    torch.testing.assert_close(first.maps, third.maps)


def test_both_read_one_forward(golden_24l):
    clip, ensemble = create("clip", golden_24l), create("clip-ac", golden_24l)
    assert clip.forward_key() == ensemble.forward_key()
    assert clip.token_specs == ensemble.token_specs


def test_unknown_ensembles_are_refused(golden_b16):
    with pytest.raises(UsageError, match="prompts"):
        create("clip-ac", golden_b16, prompts="imagenet81")
