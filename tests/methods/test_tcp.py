"""TCP: deep tokens of the class, held to CLIP's own text features."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from zsad.bench import create
from zsad.bench.errors import UsageError
from zsad.bench.weights import random_backbone


def test_its_networks_have_the_released_size(golden_24l):
    method = create("tcp", golden_24l)
    assert method.parameter_counts() == (743_616, 743_616)
    assert method.meta_net.linear1.weight.shape == (192, 768)
    assert method._block == 8


def test_deep_tokens_enter_before_one_block_alone(tiny, monkeypatch, random_case):
    method = create("tcp", tiny)
    seen = []
    encode = method.backbone.encode_embeddings

    def watching(embeddings, ends, deep_tokens=()):
        if deep_tokens:
            seen.append([tokens.shape[1] for tokens in deep_tokens])
        return encode(embeddings, ends, deep_tokens)

    monkeypatch.setattr(method.backbone, "encode_embeddings", watching)
    method.text_features(random_case(method).query)
    assert seen == [[0] * (method._block - 1) + [4]]


def test_the_network_reads_the_frozen_text_of_each_state(tiny):
    method = create("tcp", tiny)
    frozen = method.frozen_features(["metal_nut"])
    words = ["This is a photo of metal nut.", "This is a photo of damaged metal nut."]
    expected = F.normalize(tiny.encode_text(words), dim=-1)
    torch.testing.assert_close(frozen[0], expected)


def test_the_teacher_holds_the_text_to_clips_own(tiny, random_case):
    method = create("tcp", tiny, "literal", teacher_weight=100.0)
    case = random_case(method)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.002)
    distances = []
    for _ in range(10):
        optimizer.zero_grad()
        terms = method.loss(case.query, case.labels, case.masks)
        torch.testing.assert_close(terms["total"], terms["image"] + 100 * terms["teacher"])
        terms["total"].backward()
        distances.append(terms["teacher"].item())
        optimizer.step()
    assert distances[-1] < distances[0]


def test_a_tower_of_one_block_and_an_unknown_teacher_are_refused(tiny):
    towers = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 64, "layers": 1},
        "text_cfg": {"vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    with pytest.raises(UsageError, match="two text blocks"):
        create("tcp", random_backbone(towers, "flat"))
    with pytest.raises(UsageError, match="teacher"):
        create("tcp", tiny, teacher="school")
