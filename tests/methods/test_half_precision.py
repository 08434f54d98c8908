"""Deep tokens in half precision lose what the released codes lose."""

from __future__ import annotations

import torch
from zsad.bench.prompt_learner import encode_prompts, make_frame
from zsad.bench.weights import random_backbone
from zsad.methods._half_precision import deep_tokens


def backbone_of(text_layers: int):
    towers = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 64, "layers": 1},
        "text_cfg": {"vocab_size": 49408, "width": 16, "heads": 2, "layers": text_layers},
    }
    return random_backbone(towers, f"text-{text_layers}")


def test_a_small_gradient_is_lost_in_half_precision():
    backbone = backbone_of(4)
    frame = make_frame(backbone, 2, ["cup."])
    gradients = {}
    for half in (False, True):
        torch.manual_seed(0)
        deep = deep_tokens(backbone, 2, 9, half)
        features = encode_prompts(backbone, [frame.fill(torch.zeros(2, 16))], deep)
        (features.sum() * 1e-10).backward()
        gradients[half] = deep[0].grad
    assert gradients[False].abs().max() > 0
    assert gradients[True].abs().max() == 0
