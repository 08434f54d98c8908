"""Frames with learned tokens, deep text tokens, and text features kept while frozen."""

from __future__ import annotations

import pytest
import torch
from zsad.bench import text_forward
from zsad.bench.backbone import Backbone
from zsad.bench.errors import UsageError
from zsad.bench.prompt_learner import (
    DeepTokens,
    FrozenText,
    MetaNet,
    deep_sets,
    encode_prompts,
    make_frame,
)
from zsad.bench.weights import load_backbone, random_backbone


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny", pretrained="random")


def backbone_of(text_layers: int):
    towers = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 64, "layers": 1},
        "text_cfg": {"vocab_size": 49408, "width": 16, "heads": 2, "layers": text_layers},
    }
    return random_backbone(towers, f"text-{text_layers}")


def test_a_frame_filled_with_words_is_the_sentence(tiny):
    ids = tiny.tokenize(["a photo of a broken cup."])
    words = tiny.embed_tokens(ids)[0, 1:5]  # a photo of a
    frame = make_frame(tiny, 4, ["broken cup."])
    with torch.no_grad():
        learned = encode_prompts(tiny, [frame.fill(words)])
    torch.testing.assert_close(learned, tiny.encode_text(["a photo of a broken cup."]))


def test_prompts_of_different_lengths_share_a_forward(tiny):
    frames = [make_frame(tiny, 2, ["cup."]), make_frame(tiny, 2, ["a very old metal nut."])]
    context = torch.randn(2, tiny.text_width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = encode_prompts(tiny, [frame.fill(context) for frame in frames])
        apart = [encode_prompts(tiny, [frame.fill(context)]) for frame in frames]
    torch.testing.assert_close(together, torch.cat(apart))


def test_contexts_and_frames_broadcast_in_order(tiny):
    frame = make_frame(tiny, 3, ["cup.", "tile."])
    context = torch.randn(5, 1, 3, tiny.text_width, generator=torch.Generator().manual_seed(0))
    prompts = frame.fill(context)
    assert prompts.embeddings.shape[0] == 10
    assert prompts.ends.tolist() == frame.ends.tolist() * 5
    torch.testing.assert_close(prompts.embeddings[6, 1:4], context[3, 0])
    torch.testing.assert_close(prompts.embeddings[7, 4:], frame.suffix[1])
    many = make_frame(tiny, 3, ["cup."]).fill(context[:, 0])
    assert many.embeddings.shape[0] == 5


def test_a_prompt_beyond_the_context_length_is_refused(tiny):
    with pytest.raises(UsageError, match="fewer learned tokens"):
        make_frame(tiny, 76, ["cup."])


@pytest.mark.parametrize(("blocks", "expected"), [(12, 8), (6, 3), (4, 2), (3, 1), (2, 1), (1, 0)])
def test_shallower_text_towers_get_fewer_deep_sets(blocks, expected):
    assert deep_sets(backbone_of(blocks), 9) == expected


@pytest.mark.parametrize(("depth", "expected"), [(1, 0), (5, 4), (9, 8), (11, 10), (12, 11)])
def test_depth_counts_blocks_of_the_full_tower(depth, expected):
    assert deep_sets(backbone_of(12), depth) == expected


def test_deep_tokens_replace_what_the_first_block_made_of_the_context(tiny):
    backbone = backbone_of(4)
    frame = make_frame(backbone, 3, ["cup."])
    deep = DeepTokens.make(backbone, 3, 9)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tokens in deep:
            tokens.normal_(generator=generator)
    context = torch.randn(3, 16, generator=generator, requires_grad=True)
    encode_prompts(backbone, [frame.fill(context)], deep).sum().backward()
    assert len(deep) == 2
    assert all(tokens.grad.abs().sum() > 0 for tokens in deep)
    assert context.grad.abs().sum() > 0  # through the first block's other positions


def test_the_hidden_layer_of_a_meta_net_is_a_sixteenth():
    net = MetaNet(7680, 768)
    assert net.linear1.weight.shape == (480, 7680)
    assert sum(p.numel() for p in net.parameters()) == 4_056_288
    assert MetaNet(64, 4).linear1.weight.shape == (8, 64)


def test_frozen_text_is_computed_again_when_a_parameter_has_changed():
    module = torch.nn.Linear(2, 2)
    frozen, calls = FrozenText(module), []

    def compute():
        calls.append(1)
        return module.weight.detach().clone()

    with torch.no_grad():
        first = frozen.get("a", compute)
        assert frozen.get("a", compute) is first
        frozen.get("b", compute)
        module.weight.mul_(2)
        assert torch.equal(frozen.get("a", compute), module.weight)
    assert len(calls) == 3
    frozen.get("a", compute)
    frozen.get("a", compute)
    assert len(calls) == 5, "nothing is kept while gradients are recorded"
    module.load_state_dict({"weight": torch.ones(2, 2), "bias": torch.zeros(2)})
    with torch.no_grad():
        assert torch.equal(frozen.get("a", compute), torch.ones(2, 2))


@pytest.mark.parametrize("with_deep_tokens", [False, True])
def test_a_shared_beginning_changes_neither_features_nor_gradients(with_deep_tokens):
    backbone = backbone_of(4)
    generator = torch.Generator().manual_seed(0)
    normal = make_frame(backbone, 3, ["cup."])
    abnormal = make_frame(backbone, 5, ["damaged cup."])
    deep = DeepTokens.make(backbone, 2, 9).float() if with_deep_tokens else None
    for tokens in deep or []:
        torch.nn.init.normal_(tokens, generator=generator)  # small ones have rough gradients
    first = torch.randn(3, 16, generator=generator, requires_grad=True)
    own = torch.randn(6, 2, 16, generator=generator, requires_grad=True)
    weights = torch.randn(7, 16, generator=generator)
    learned = [first, own, *(deep or [])]

    def in_one_forward(shared):
        return encode_prompts(backbone, [normal.fill(first), abnormal.fill(context)], deep, shared)

    def one_after_another():
        begun = []
        parts = [normal.fill(first), abnormal.fill(context)]
        return torch.cat([encode_prompts(backbone, [p], deep, 4, begun=begun) for p in parts])

    answers, gradients = [], []
    for encode in (lambda: in_one_forward(0), lambda: in_one_forward(4), one_after_another):
        context = torch.cat([first.expand(6, -1, -1), own], dim=1)
        answers.append(encode())
        gradients.append(torch.autograd.grad((answers[-1] * weights).sum(), learned))
    for features, slopes in zip(answers[1:], gradients[1:], strict=True):
        torch.testing.assert_close(features, answers[0])
        for found, expected in zip(slopes, gradients[0], strict=True):
            assert expected.abs().max() > 0
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_beginning_that_is_known_is_not_computed_again(tiny):
    frame, begun = make_frame(tiny, 3, ["cup.", "damaged cup."]), []
    context = torch.randn(3, tiny.text_width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = encode_prompts(tiny, [frame.fill(context)], shared=4, begun=begun)
        assert len(begun) == tiny.text_depth
        changed = frame.fill(context)
        changed.embeddings[:, :4] = torch.nan
        found = encode_prompts(tiny, [changed], shared=4, begun=begun)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("tokens_in_row", [1, 256])
def test_groups_of_prompts_have_beginnings_of_their_own(tokens_in_row, monkeypatch):
    monkeypatch.setattr(text_forward, "TOKENS_IN_ROW", tokens_in_row)
    backbone = backbone_of(3)
    generator = torch.Generator().manual_seed(0)
    frame = make_frame(backbone, 3, ["cup.", "damaged cup.", "cup.", "damaged cup."])
    context = torch.randn(2, 3, 16, generator=generator, requires_grad=True)
    weights = torch.randn(4, 16, generator=generator)
    prompts = frame.fill(context.repeat_interleave(2, dim=0))
    answers, gradients = [], []
    for shared in (0, 4):
        features = encode_prompts(backbone, [prompts], shared=shared, groups=2)
        answers.append(features)
        loss = (features * weights).sum()
        gradients.append(torch.autograd.grad(loss, context, retain_graph=True)[0])
    torch.testing.assert_close(answers[1], answers[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-5)


def test_a_prompt_may_end_at_the_first_position_of_its_own(tiny):
    frame = make_frame(tiny, 1, ["cup"])
    prompts = frame.fill(
        torch.randn(1, tiny.text_width, generator=torch.Generator().manual_seed(0))
    )
    end = int(prompts.ends[0])
    with torch.no_grad():
        apart = encode_prompts(tiny, [prompts])
        torch.testing.assert_close(encode_prompts(tiny, [prompts], shared=end), apart)
