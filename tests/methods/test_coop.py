"""CoOp against what its released code answered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from zsad.bench import create
from zsad.bench.backbone import TokenSpec, VisualFeatures
from zsad.bench.errors import UsageError, WeightsError
from zsad.bench.method import Query
from zsad.bench.prompt_learner import make_frame

BOTTLES = ["bottle"] * 3
LABELS = torch.tensor([1, 0, 1])


@pytest.fixture
def learned(golden_24l, fill_by_name, recorded):
    method = create("coop", golden_24l, image_size=336)
    fill_by_name(method)
    answer = recorded("coop")
    class_token = torch.from_numpy(answer["image_features_336_raw"])
    features = VisualFeatures(class_token, class_token, {}, (24, 24))
    return method, Query(features, BOTTLES), answer


def test_text_features_and_logits_equal_the_released_code(learned):
    method, query, answer = learned
    with torch.no_grad():
        text = method.text_features(query)  # [3, 2, D]
    for row in text:
        np.testing.assert_allclose(row, answer["coop_text"], rtol=0, atol=1e-5)
    visual = F.normalize(query.features.class_token, dim=-1)
    logits = torch.einsum("bd,bsd->bs", visual, text) / method.temperature
    np.testing.assert_allclose(logits, answer["coop_logits"], rtol=0, atol=2e-5)


def test_prompts_have_the_released_tokens(learned):
    method, _, answer = learned
    ids = torch.from_numpy(answer["tokenized_prompts"])
    frame = method.frame(["bottle"])
    assert frame.ends.tolist() == ids.argmax(dim=-1).tolist()
    expected = method.backbone.embed_tokens(ids)[:, 13 : int(frame.ends.max()) + 1]
    torch.testing.assert_close(frame.suffix, expected)


def test_loss_gradient_and_a_step_equal_the_released_code(learned):
    method, query, answer = learned
    schedule = method.schedule
    optimizer = torch.optim.SGD(
        method.parameters(),
        lr=schedule.lr,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
    )
    terms = method.loss(query, LABELS, torch.zeros(3, 336, 336))
    assert terms["total"].item() == pytest.approx(float(answer["coop_ce"]), rel=1e-5)
    terms["total"].backward()
    norm = float(answer["coop_grad_norm"][0])
    assert method.ctx.grad.norm().item() == pytest.approx(norm, rel=1e-4)
    first = method.ctx.grad.flatten()[:8]
    np.testing.assert_allclose(first, answer["coop_grad_first8"][0], rtol=1e-3)
    optimizer.step()
    after = method.ctx.detach()
    np.testing.assert_allclose(after.flatten()[:8], answer["coop_ctx_after_sgd_first8"], rtol=1e-5)
    assert after.norm().item() == pytest.approx(float(answer["coop_ctx_after_sgd_norm"]), rel=1e-6)


def test_the_schedule_is_the_released_one(tiny):
    schedule = create("coop", tiny).schedule
    assert (schedule.optimizer, schedule.lr, schedule.momentum) == ("sgd", 0.002, 0.9)
    assert (schedule.weight_decay, schedule.cosine) == (5e-4, True)
    assert (schedule.warmup_epochs, schedule.warmup_lr) == (1, 1e-5)
    assert create("coop", tiny, epochs=3, lr=0.1, batch_size=2).schedule.epochs == 3
    other = create("coop", tiny, "vv").schedule
    assert (other.optimizer, other.lr, other.betas, other.epochs) == (
        "adam",
        1e-3,
        (0.5, 0.999),
        15,
    )


def test_the_variants_read_different_paths(tiny):
    last, start = tiny.depth, tiny.layer(6)
    assert create("coop", tiny).token_specs == {TokenSpec(last)}
    assert create("coop", tiny, "vv").token_specs == {TokenSpec(last, start)}


def test_parameter_counts_are_the_ledgers(golden_24l):
    assert create("coop", golden_24l).parameter_counts() == (9_216, 9_216)


def test_classes_of_a_batch_share_a_forward_and_are_kept_when_frozen(tiny, random_case):
    method = create("coop", tiny)
    case = random_case(method, ["bottle", "metal_nut", "bottle"])
    tiny.counter.prompts = 0
    learning = method.text_features(case.query)
    assert tiny.counter.prompts == 4  # two classes, two states
    with torch.no_grad():
        frozen = method.text_features(case.query)
        method.predict(case.query)
    assert tiny.counter.prompts == 8
    torch.testing.assert_close(learning, frozen)
    assert torch.equal(frozen[0], frozen[2])
    assert not torch.allclose(frozen[0], frozen[1])


def test_underscores_of_a_class_name_become_spaces(tiny):
    method = create("coop", tiny)
    assert torch.equal(method.frame(["metal_nut"]).suffix, method.frame(["metal nut"]).suffix)


def test_the_protocol_states_a_temperature_that_every_processor_gives(tiny, monkeypatch):
    method = create("coop", tiny)
    own = method.temperature
    monkeypatch.setattr(type(method), "temperature", own * (1 + 2**-23))  # the next single
    neighbour = method.protocol()["temperature"]
    monkeypatch.setattr(type(method), "temperature", own)
    assert method.protocol()["temperature"] == neighbour


def test_the_temperature_is_the_backbones_unless_given(tiny):
    own = 1 / tiny.model.logit_scale.exp().item()
    assert create("coop", tiny).protocol()["temperature"] == pytest.approx(own)
    assert create("coop", tiny, temperature=0.05).protocol()["temperature"] == 0.05


def test_an_unknown_recipe_is_refused(tiny):
    with pytest.raises(UsageError, match="recipe"):
        create("coop", tiny, recipe="lbfgs")


@pytest.mark.parametrize("prefix", ["", "prompt_learner."])
def test_a_released_checkpoint_loads(tiny, tmp_path, prefix):
    source = create("coop", tiny, seed=4)
    frame = source.frame(["metal_nut", "bottle"])
    state = {
        **source.learned_state(),
        "token_prefix": frame.prefix.half(),
        "token_suffix": frame.suffix.half(),
    }
    path = tmp_path / "model.pth.tar-50"
    torch.save({"state_dict": {prefix + k: v for k, v in state.items()}, "epoch": 50}, path)
    method = create("coop", tiny, checkpoint=path)
    assert torch.equal(method.ctx, source.ctx)


@pytest.mark.parametrize(
    ("name", "endings"),
    [
        ("coop", ("{}.",)),
        ("coop", ("normal {}.",)),
        ("coop", ("normal {}.", "damaged {}.")),
        ("cocoop", ("normal {}", "anomalous {}")),
        ("tcp", ("{}.",)),
    ],
)
def test_a_checkpoint_learned_with_other_words_is_refused(tiny, name, endings):
    method = create(name, tiny)
    count = method.options.n_context
    fitting = make_frame(tiny, count, [e.replace("{}", "wooden box") for e in method.endings])
    method.load_learned({**method.learned_state(), "token_suffix": fitting.suffix})
    frame = make_frame(tiny, count, [e.replace("{}", "wooden box") for e in endings])
    state = {**method.learned_state(), "token_suffix": frame.suffix}
    with pytest.raises(WeightsError, match=f"not prompts that end in '{method.endings[0]}'"):
        method.load_learned(state)


def test_a_checkpoint_learned_on_other_token_embeddings_is_refused(tiny):
    method = create("coop", tiny)
    suffix = method.frame(["bottle"]).suffix
    with pytest.raises(WeightsError, match="not token embeddings of this backbone"):
        method.load_learned({**method.learned_state(), "token_suffix": suffix.flip(-1)})


def test_an_unknown_tensor_behind_the_prefix_is_refused(tiny):
    state = {"prompt_learner.ctx": create("coop", tiny).ctx, "prompt_learner.other": torch.ones(1)}
    with pytest.raises(WeightsError, match="unknown tensors: other"):
        create("coop", tiny).load_learned(state)


def test_a_class_name_is_tokenised_once_whatever_classes_come_with_it(tiny, monkeypatch):
    method = create("coop", tiny)
    asked = []
    kept = type(tiny).tokenize
    monkeypatch.setattr(
        type(tiny), "tokenize", lambda self, texts: asked.extend(texts) or kept(self, texts)
    )
    together = method.frame(["cup", "long black cable"])
    alone = method.frame(["cup"])
    assert len(asked) == 4
    turned = method.frame(["long black cable", "cup"])
    assert len(asked) == 4
    assert torch.equal(turned.ends, together.ends[[2, 3, 0, 1]])
    assert torch.equal(alone.ends, together.ends[:2])
    assert torch.equal(alone.suffix, together.suffix[:2, : alone.suffix.shape[1]])
