"""Inside the towers: callbacks around blocks, other attention, checkpointing, other heads."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from zsad.bench.backbone import TextHooks, TokenSpec
from zsad.bench.errors import UsageError
from zsad.bench.prompt_learner import InsertedTokens
from zsad.bench.weights import random_backbone

TOWERS = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 6, "head_width": 16},
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 3,
    },
}
ALL = [TokenSpec(layer) for layer in range(7)]
PROMPTS = ["one two three four five six", "one two three four five six seven."]


@pytest.fixture(scope="module")
def small():
    return random_backbone(TOWERS, "small")


@pytest.fixture(scope="module")
def pictures():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def tokens(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def equal(first, second):
    return torch.equal(first.class_token, second.class_token) and all(
        torch.equal(first.tokens[spec], second.tokens[spec]) for spec in first.tokens
    )


# -- the visual tower ---------------------------------------------------------------------------


def test_callbacks_see_every_block_in_order(small, pictures):
    seen = []

    def watch(place):
        def hook(number, x):
            seen.append((place, number, tuple(x.shape)))
            return x

        return hook

    found = small.forward_image(pictures, ALL, before=watch("before"), after=watch("after"))
    numbers = [(place, number) for number in range(1, 7) for place in ("before", "after")]
    assert [(place, number) for place, number, _ in seen] == numbers
    assert {shape for *_, shape in seen} == {(3, 17, 64)}
    assert equal(found, small.encode_image(pictures, ALL))


def test_what_a_block_gets_and_gives_is_what_callbacks_made(small, pictures):
    plain = small.encode_image(pictures, ALL)

    def double(number, x):
        return 2 * x if number == 3 else x

    left = small.forward_image(pictures, ALL, after=double)
    entered = small.forward_image(pictures, ALL, before=lambda n, x: double(n - 1, x))
    assert torch.equal(left.tokens[TokenSpec(2)], plain.tokens[TokenSpec(2)])
    assert torch.equal(left.tokens[TokenSpec(3)], 2 * plain.tokens[TokenSpec(3)])
    assert torch.equal(entered.tokens[TokenSpec(3)], plain.tokens[TokenSpec(3)])
    assert torch.equal(entered.tokens[TokenSpec(6)], left.tokens[TokenSpec(6)])
    assert not torch.equal(left.class_token, plain.class_token)


def test_inserted_tokens_are_attended_to_and_not_given_out(small, pictures):
    first, second = tokens(2, 64), tokens(3, 2, 64, seed=2)
    shapes = []

    def watch(number, x):
        shapes.append(x.shape[1])
        return x

    hook = InsertedTokens([first, second])
    found = small.forward_image(pictures, ALL, before=hook, after=watch)
    assert shapes == [19] * 6
    assert {tuple(found.tokens[spec].shape) for spec in ALL} == {(3, 16, 64)}
    x = small.visual.ln_pre(small._embed_images(pictures))
    for number, block in enumerate(small.visual.transformer.resblocks, start=1):
        if number == 1:
            x = torch.cat([x, first.expand(3, -1, -1)], dim=1)
        elif number == 2:
            x = torch.cat([x[:, :17], second], dim=1)
        x = block(x)
        torch.testing.assert_close(found.tokens[TokenSpec(number)], x[:, 1:17], atol=1e-5, rtol=0)


def test_tokens_of_each_image_are_its_own(small, pictures):
    own = tokens(3, 2, 64)
    together = small.forward_image(pictures, [TokenSpec(6)], before=InsertedTokens([own]))
    for row in range(3):
        alone = small.forward_image(
            pictures[row : row + 1], [TokenSpec(6)], before=InsertedTokens([own[row : row + 1]])
        )
        torch.testing.assert_close(
            alone.class_token[0], together.class_token[row], atol=1e-5, rtol=0
        )


def test_gradients_reach_what_is_inserted_and_no_weight(small, pictures):
    learned = tokens(2, 64).requires_grad_()
    found = small.forward_image(pictures, [TokenSpec(6)], before=InsertedTokens([learned]))
    small.project(found.tokens[TokenSpec(6)]).sum().backward()
    assert learned.grad.abs().sum() > 0
    assert all(p.grad is None for p in small.model.parameters())


def test_checkpointing_changes_no_bit_of_answer_or_gradient(small, pictures):
    specs = [TokenSpec(6), TokenSpec(4, 2)]
    answers, gradients = [], []
    for checkpointing in (False, True):
        scale = torch.ones(64, requires_grad=True)
        found = small.forward_image(
            pictures, specs, after=lambda n, x, s=scale: x * s, checkpointing=checkpointing
        )
        (found.class_token.sum() + found.tokens[TokenSpec(4, 2)].square().sum()).backward()
        answers.append(found)
        gradients.append(scale.grad)
    assert equal(*answers)
    assert torch.equal(*gradients) and gradients[0].abs().sum() > 0


def test_checkpointing_keeps_less_for_the_gradient(small, pictures):
    kept = []
    for checkpointing in (False, True):
        scale = torch.ones(64, requires_grad=True)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, s=saved: (s.append(t.numel()), t)[1], lambda t: t
        ):
            small.forward_image(
                pictures, after=lambda n, x, s=scale: x * s, checkpointing=checkpointing
            )
        kept.append(sum(saved))
    assert kept[1] < kept[0] / 3


def test_encode_image_keeps_no_graph(small, pictures):
    found = small.encode_image(pictures.clone().requires_grad_(), ALL)
    assert not found.class_token.requires_grad
    assert not any(t.requires_grad for t in found.tokens.values())


def test_class_tokens_of_layers_are_given_where_asked_for(small, pictures):
    layers = [TokenSpec(layer, class_token=True) for layer in range(7)]
    found = small.encode_image(pictures, [*layers, TokenSpec(3)])
    assert set(found.tokens) == {*layers, TokenSpec(3)}
    assert found.tokens[layers[3]].shape == (3, 1, 64)
    last = found.tokens[layers[6]][:, 0]
    torch.testing.assert_close(small.project(last), found.class_token, atol=1e-6, rtol=0)
    seen = {}
    small.forward_image(pictures, after=lambda n, x: seen.setdefault(n, x))
    for layer in range(1, 7):
        assert torch.equal(found.tokens[layers[layer]], seen[layer][:, :1])


def test_normalised_tokens_are_projected_ones_before_the_projection(small, pictures):
    patches = small.encode_image(pictures, [TokenSpec(5)]).tokens[TokenSpec(5)].requires_grad_()
    normalised = small.normalise_tokens(patches)
    assert torch.equal(normalised @ small.visual.proj, small.project(patches))
    normalised.square().sum().backward()
    assert patches.grad is not None


# -- refused --------------------------------------------------------------------------------------


def test_value_paths_take_no_inserted_tokens(small, pictures):
    with pytest.raises(UsageError, match=r"19 tokens of 17 at block 1, and V-V paths from block 4"):
        small.forward_image(
            pictures, [TokenSpec(6, 4)], before=InsertedTokens([torch.zeros(2, 64)])
        )
    same = small.forward_image(pictures, [TokenSpec(6, 4)], before=lambda n, x: 1.5 * x)
    assert same.tokens[TokenSpec(6, 4)].shape == (3, 16, 64)


def test_patches_that_were_dropped_cannot_be_read(small, pictures):
    def drop(number, x):
        return x[:, :9] if number == 4 else x

    found = small.forward_image(pictures, [TokenSpec(3)], before=drop)
    assert found.tokens[TokenSpec(3)].shape == (3, 16, 64)
    with pytest.raises(UsageError, match=r"layer=5.*16 patches, and a callback left 8"):
        small.forward_image(pictures, [TokenSpec(5)], before=drop)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"attention": "values"}, "attention 'values' is unknown: take own, value, value_batch"),
        ({"attention": "value", "attention_from": 7}, "block 7 on does not exist"),
        ({"attention": "value", "attention_from": 0}, "block 0 on does not exist"),
    ],
)
def test_attention_that_does_not_exist_is_refused(small, pictures, how, message):
    with pytest.raises(UsageError, match=message):
        small.forward_image(pictures, **how)


# -- attention among values -----------------------------------------------------------------------


def value_residual(block, x, across_batch):
    """What AA-CLIP's replacement computes, head by head."""
    attention, width = block.attn, x.shape[-1]
    value = block.ln_1(x) @ attention.in_proj_weight[2 * width :].T
    value = value + attention.in_proj_bias[2 * width :]
    if across_batch:
        value = value.transpose(0, 1)
    parts = []
    for part in value.split(width // attention.num_heads, dim=-1):
        weights = (part @ part.transpose(1, 2) / part.shape[-1] ** 0.5).softmax(dim=-1)
        parts.append(weights @ part)
    joined = torch.cat(parts, dim=-1)
    return attention.out_proj(joined.transpose(0, 1) if across_batch else joined)


@pytest.mark.parametrize("attention", ["value", "value_batch"])
def test_value_attention_replaces_clips_own_and_keeps_the_mlp(small, pictures, attention):
    found = small.forward_image(pictures, ALL, attention=attention, attention_from=4)
    x = small.visual.ln_pre(small._embed_images(pictures))
    for number, block in enumerate(small.visual.transformer.resblocks, start=1):
        if number < 4:
            x = block(x)
        else:
            x = x + value_residual(block, x, attention == "value_batch")
            x = x + block.mlp(block.ln_2(x))
        torch.testing.assert_close(found.tokens[TokenSpec(number)], x[:, 1:], atol=2e-5, rtol=0)


def test_only_attention_among_a_batch_depends_on_it(small, pictures):
    for attention, least, most in (("value", 0, 1e-5), ("value_batch", 1e-3, 100)):
        together = small.forward_image(pictures, attention=attention, attention_from=2)
        alone = small.forward_image(pictures[:1], attention=attention, attention_from=2)
        moved = float((together.class_token[0] - alone.class_token[0]).abs().max())
        assert least <= moved <= most


# -- positions ------------------------------------------------------------------------------------


def test_plain_bicubic_positions_use_the_wider_kernel(small):
    """A grid of 4 enlarged to 8: the kernel of Keys with a = -0.75, edges repeated."""
    rows = small.visual.positional_embedding[1:].detach().reshape(4, 4, -1)
    found = small.view("own", "bicubic_plain")._positions(8)[1:].reshape(8, 8, -1)

    def weight(distance, a=-0.75):
        d = abs(distance)
        if d <= 1:
            return (a + 2) * d**3 - (a + 3) * d**2 + 1
        return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0

    along = torch.zeros(8, 4)
    for target in range(8):
        place = (target + 0.5) / 2 - 0.5
        for source in range(-2, 7):
            along[target, min(max(source, 0), 3)] += weight(place - source)
    expected = torch.einsum("ab,cd,bdw->acw", along, along, rows)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_three_ways_to_resize_positions_are_three_views(small, pictures):
    large = F.interpolate(pictures, scale_factor=2)
    views = [small.view("own", pos) for pos in ("bilinear", "bicubic", "bicubic_plain")]
    assert len({view.forward_key(64) for view in views}) == 3
    assert len({view.forward_key(32) for view in views}) == 1
    found = [view.encode_image(large).class_token for view in views]
    for first, second in ((0, 1), (1, 2), (0, 2)):
        assert (found[first] - found[second]).abs().max() > 1e-4


# -- the text tower -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prompts(small):
    ids = small.tokenize(PROMPTS)
    return small.embed_tokens(ids), ids.argmax(dim=-1)


def through_blocks(small, x, ends, after=lambda number, x: x):
    causal = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
    for number, block in enumerate(small.text.transformer.resblocks, start=1):
        x = after(number, block(x, attn_mask=causal))
    return x[torch.arange(len(x)), ends]


def test_embeddings_may_carry_their_positions(small, prompts):
    embeddings, ends = prompts
    placed = embeddings + small.text.positional_embedding
    assert torch.equal(
        small.encode_embeddings(placed, ends, positioned=True),
        small.encode_embeddings(embeddings, ends),
    )


def test_callbacks_change_prompts_around_text_blocks(small, prompts):
    embeddings, ends = prompts

    def halve(number, x):
        return x / 2 if number == 2 else x

    found = small.encode_embeddings(embeddings, ends, hooks=TextHooks(after=halve))
    x = embeddings + small.text.positional_embedding
    last = through_blocks(small, x, ends, halve)
    expected = small.text.ln_final(last) @ small.text.text_projection
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    before = TextHooks(before=lambda number, x: halve(number - 1, x))
    torch.testing.assert_close(small.encode_embeddings(embeddings, ends, hooks=before), found)


def test_ends_follow_tokens_that_callbacks_insert_and_drop(small, prompts):
    embeddings, ends = prompts
    inserted = tokens(2, 32)

    def insert(number, x):
        extra = inserted.expand(len(x), -1, -1)
        return torch.cat([x[:, :1], extra, x[:, 1:]], dim=1) if number == 2 else x

    def drop(number, x):
        return torch.cat([x[:, :1], x[:, 3:]], dim=1) if number == 3 else x

    kept = small.encode_embeddings(embeddings, ends, hooks=TextHooks(before=insert))
    dropped = small.encode_embeddings(embeddings, ends, hooks=TextHooks(insert, drop))
    assert torch.equal(kept, dropped)
    x = embeddings + small.text.positional_embedding
    first, *later = small.text.transformer.resblocks
    causal = torch.full((79, 79), float("-inf")).triu(1)
    x = insert(2, first(x, attn_mask=causal[:77, :77]))
    for block in later:
        x = block(x, attn_mask=causal)
    last = small.text.ln_final(x[torch.arange(2), ends + 2])
    torch.testing.assert_close(kept, last @ small.text.text_projection, atol=1e-5, rtol=0)


def test_a_norm_before_the_last_and_another_head(small, prompts):
    embeddings, ends = prompts
    norm, head = nn.LayerNorm(32), nn.Linear(32, 5)
    nn.init.normal_(norm.weight)
    hooks = TextHooks(before_final=norm, head=head)
    found = small.encode_embeddings(embeddings, ends, hooks=hooks)
    last = through_blocks(small, embeddings + small.text.positional_embedding, ends)
    torch.testing.assert_close(found, head(small.text.ln_final(norm(last))), atol=1e-5, rtol=0)
    found.sum().backward()
    assert norm.weight.grad.abs().sum() > 0 and head.weight.grad.abs().sum() > 0


def test_deep_tokens_may_differ_between_prompts(small, prompts):
    embeddings, ends = prompts
    deep = [tokens(2, 3, 32, seed=seed) for seed in (3, 4)]
    together = small.encode_embeddings(embeddings, ends, deep)
    for row in range(2):
        alone = small.encode_embeddings(
            embeddings[row : row + 1], ends[row : row + 1], [part[row] for part in deep]
        )
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)


def test_callbacks_do_not_go_with_shared_positions(small, prompts):
    embeddings, ends = prompts
    with pytest.raises(UsageError, match="leave `shared` at 0"):
        small.encode_embeddings(
            embeddings, ends, shared=4, hooks=TextHooks(after=lambda number, x: x)
        )
    head = nn.Identity()
    shared = small.encode_embeddings(embeddings, ends, shared=4, hooks=TextHooks(head=head))
    alone = small.encode_embeddings(embeddings, ends, hooks=TextHooks(head=head))
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=0)
