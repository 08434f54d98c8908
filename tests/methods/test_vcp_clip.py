"""VCP-CLIP against what its released code answered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from zsad.bench import create
from zsad.bench.errors import UsageError
from zsad.bench.weights import random_backbone

FACTORS = {
    "prompt_query": 32,
    "q_proj_pre.weight": 10,
    "k_proj_pre_1.weight": 10,
    "prompt_embeddings": 16,
    "deep_prompt_embeddings": 16,
}
TEMPERATURES = {"prompt_temp": 3.9, "prompt_temp_l1": 4.2}
PLACES = {  # of the learned tensors in a released checkpoint; all others lie at its top level
    "fc": "trainable_linearlayer",
    "prompt_query": "New_Lan_Embed",
    "prompt_linear1": "New_Lan_Embed",
    "prompt_temp": "New_Lan_Embed",
    "q_proj_pre": "Zero_try",
    "k_proj_pre_1": "Zero_try",
    "v_proj_pre_1": "Zero_try",
    "proj_post_t": "Zero_try",
    "prompt_temp_l1": "Zero_try",
}
NOISE = {"prompt_linear1.fc.bias", "k_proj_pre_1.bias"}  # gradients that are zero in theory


def place_of(name):
    place = PLACES.get(name.split(".")[0])
    return name if place is None else f"{place}.{name}"


@pytest.fixture
def learned(golden_24l, fill_by_name, recorded):
    method = create("vcp_clip", golden_24l)
    state = {n: t for n, t in method.state_dict().items() if n not in TEMPERATURES}
    renamed = {
        n.replace("prompt_norm.weight", "ln_prompt_norm.weight"): t for n, t in state.items()
    }
    fill_by_name(renamed)
    with torch.no_grad():
        for name, factor in FACTORS.items():
            state[name].mul_(factor)
        for name, value in TEMPERATURES.items():
            getattr(method, name).fill_(value)
    return method, recorded("vcp_clip")


class RecordedDropout(nn.Module):
    """Drops what the released code dropped."""

    def __init__(self, answer):
        super().__init__()
        kept = np.unpackbits(answer["train_dropout_kept"], axis=-1)  # [step, state, B, depth, D]
        self.kept = torch.from_numpy(kept).permute(0, 3, 2, 1, 4)[..., None, :]
        self.rate, self.step = float(answer["train_dropout_rate"]), 0

    def forward(self, tokens):
        kept = self.kept[self.step]
        self.step += 1
        assert tokens.shape == kept.shape
        return tokens * kept / (1 - self.rate)


def test_text_features_equal_the_released_code(learned, recorded_case):
    method, answer = learned
    assert np.array_equal(method._ids.numpy()[:, :6], answer["tokenized_prompts"][:, :6])
    with torch.no_grad():
        text = method.text_features(recorded_case(method).query.features.class_token)
    np.testing.assert_allclose(text, answer["text_features"], rtol=0, atol=2e-6)


def test_scores_and_maps_equal_the_released_code(learned, recorded_case):
    method, answer = learned
    with torch.no_grad():
        prediction = method.predict(recorded_case(method).query)
    np.testing.assert_allclose(prediction.scores, answer["image_score"], rtol=0, atol=1e-5)
    found = prediction.maps[:, ::14, ::14]
    np.testing.assert_allclose(found, answer["map_gauss_sub"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["train_", "train_nodrop_"])
def test_losses_and_two_steps_equal_the_released_code(learned, recorded_case, hold_to, kind):
    method, answer = learned
    case = recorded_case(method)
    assert case.masks.sum(dim=(1, 2)).tolist() == answer["train_mask_sum"].tolist()
    if kind == "train_":
        method.dropout = RecordedDropout(answer)
    rates = method.schedule.rates
    groups = [
        {"params": [p], "lr": rates["prompt_temp"] if n in TEMPERATURES else method.schedule.lr}
        for n, p in method.named_parameters()
    ]
    optimizer = torch.optim.Adam(groups, betas=method.schedule.betas)
    for step in (1, 2):
        optimizer.zero_grad()
        losses = method.loss(case.query, case.labels, case.masks)
        losses["total"].backward()
        for branch in ("pre", "post"):
            for term, name in (("focal", "focal"), ("dice_abnormal", "dice")):
                expected = answer[f"{kind}{name}_{branch}"][step - 1].sum()
                assert losses[f"{term}_{branch}"].item() == pytest.approx(expected, rel=1e-5)
        total = answer[f"{kind}total"][step - 1]
        assert losses["total"].item() == pytest.approx(float(total), rel=1e-5)
        named = {n: p for n, p in method.named_parameters() if n not in NOISE}
        optimizer.step()
        if kind == "train_":
            gradients = {place_of(n): p.grad for n, p in named.items()}
            hold_to(gradients, answer, f"train_grad_step{step}", 1e-3)
            parameters = {place_of(n): p for n, p in named.items()}
            hold_to(parameters, answer, f"train_param_after_step{step}", 1e-4)


def test_the_learning_rates_are_the_recorded_ones(learned):
    method, answer = learned
    rows = dict(zip(answer["train_param_names"].tolist(), answer["train_lr_step1"], strict=True))
    schedule = method.schedule
    for name, _ in method.named_parameters():
        fitting = [rate for prefix, rate in schedule.rates.items() if name.startswith(prefix)]
        rate = fitting[0] if fitting else schedule.lr
        assert rate == pytest.approx(rows[place_of(name)]), name


def test_parameter_counts_are_the_ledgers():
    towers = {
        "embed_dim": 768,
        "vision_cfg": {"image_size": 28, "patch_size": 14, "width": 1024, "layers": 4},
        "text_cfg": {"vocab_size": 50000, "width": 768, "heads": 1, "layers": 12},
    }
    method = create("vcp_clip", random_backbone(towers, "wide"))
    assert method.parameter_counts() == (7_687_946, 7_687_946)


def test_the_visual_forward_is_that_of_april_gan(tiny):
    ours, theirs = create("vcp_clip", tiny), create("april_gan", tiny)
    assert ours.forward_key() == theirs.forward_key()
    assert ours.token_specs == theirs.token_specs


def test_a_released_checkpoint_loads(tiny, tmp_path):
    source = create("vcp_clip", tiny, seed=4)
    held = {"prompt_text_projection": torch.zeros(64, 64)}
    for name, tensor in source.learned_state().items():
        place = place_of(name)
        if place == name:
            held[name] = nn.Parameter(tensor)
        else:
            held.setdefault(place.split(".")[0], {})[name] = tensor
    torch.save(held, tmp_path / "train_visa.pth")
    method = create("vcp_clip", tiny, checkpoint=tmp_path / "train_visa.pth")
    for name, tensor in source.learned_state().items():
        assert torch.equal(method.learned_state()[name], tensor), name


def test_the_mixture_is_what_the_paper_and_the_code_differ_in(tiny, random_case):
    case = random_case(create("vcp_clip", tiny))
    maps = {
        share: create("vcp_clip", tiny, post_weight=share, smoothing_sigma=0.0)
        .predict(case.query)
        .maps
        for share in (0.0, 1.0, 0.75)
    }
    mixed = 0.25 * maps[0.0] + 0.75 * maps[1.0]
    torch.testing.assert_close(maps[0.75], mixed)
    paper = create("vcp_clip", tiny, "paper", smoothing_sigma=0.0)
    assert torch.equal(paper.predict(case.query).maps, maps[0.75])


def test_dropout_is_of_learning_alone_and_differs_between_prompts(tiny, random_case):
    method = create("vcp_clip", tiny)
    tokens = method._deep_tokens(2)
    assert torch.equal(tokens[:, 0, 0], tokens[:, 1, 1])
    method.train()
    dropped = method._deep_tokens(2)
    assert not torch.equal(dropped[:, 0, 0], dropped[:, 0, 1])
    share = float((dropped == 0).double().mean())
    assert 0.05 < share < 0.15


def test_class_names_play_no_part(tiny, random_case):
    method = create("vcp_clip", tiny)
    first = method.predict(random_case(method, ("bottle", "tile")).query)
    second = method.predict(random_case(method, ("liver", "screw")).query)
    assert torch.equal(first.scores, second.scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"post_weight": 1.5}, "less than or equal to 1, not 1.5"),
        ({"dropout": -0.5}, "greater than or equal to 0, not -0.5"),
        ({"n_context": 0}, "equal to 1, not 0"),
    ],
)
def test_options_that_cannot_be_are_refused(tiny, options, message):
    with pytest.raises(UsageError, match=message):
        create("vcp_clip", tiny, **options)


def test_a_text_tower_of_another_width_is_refused():
    towers = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2},
        "text_cfg": {"vocab_size": 50, "width": 16, "heads": 1, "layers": 2},
    }
    with pytest.raises(UsageError, match="16 wide"):
        create("vcp_clip", random_backbone(towers, "uneven"))


def test_images_change_while_learning_but_for_cached_features(tiny):
    official = create("vcp_clip", tiny).schedule
    assert official.augments_images and not official.augments
    on_mvtec = create("vcp_clip", tiny, auxiliary="mvtec_ad")
    assert on_mvtec.schedule.augments and on_mvtec.schedule.augments_images
    assert (on_mvtec.options.lr, on_mvtec.options.mosaic_rate) == (2e-5, 0.2)
    cached = create("vcp_clip", tiny, "cached", auxiliary="mvtec_ad").schedule
    assert not cached.augments and not cached.augments_images
