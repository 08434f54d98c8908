"""The built-in backbone: what is shipped, and the script that trained it."""

from __future__ import annotations

import hashlib

import numpy as np
import open_clip
import pytest
import torch
from zsad.bench import load_backbone
from zsad.bench.backbone_spec import BUILT_IN_WEIGHTS, TINY
from zsad.bench.checkpoint import read_tensors
from zsad.bench.tiny import captions, train

LARGEST = 12 * 2**20  # bytes


def test_the_shipped_weights_are_small_and_described():
    assert BUILT_IN_WEIGHTS.stat().st_size <= LARGEST
    card = BUILT_IN_WEIGHTS.with_name("MODEL_CARD.md").read_text()
    for word in ("held-out", "captions", "loss", "says nothing about real data"):
        assert word in card


def test_open_clip_loads_the_shipped_weights_and_computes_the_same(tmp_path):
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "zsad-tiny.json").write_text((TINY / "config.json").read_text())
    open_clip.add_model_config(folder)
    model = open_clip.create_model("zsad-tiny", pretrained=None, precision="fp32").eval()
    missing, unexpected = model.load_state_dict(read_tensors(BUILT_IN_WEIGHTS), strict=False)
    assert not unexpected
    assert all(name.endswith("attn_mask") for name in missing)
    backbone = load_backbone("tiny")
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.encode_image(images)
    torch.testing.assert_close(
        backbone.encode_image(images).class_token, expected, atol=1e-5, rtol=0
    )


def test_the_layers_of_vit_l_have_counterparts():
    backbone = load_backbone("tiny")
    assert [backbone.layer(n) for n in (6, 12, 18, 24)] == [2, 4, 6, 8]
    assert backbone.text_depth >= 3


@pytest.mark.slow
def test_a_short_training_is_the_same_twice_and_after_a_restart(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "TEXT_STEPS", 3)
    monkeypatch.setattr(train, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(train, "validation", lambda backbone: {})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = [train.train(3, tmp_path / name, steps=4, pairs=8) for name in ("a", "b")]
        real = train.Trainer.one_step

        def killed(self):
            if self.step == 3:
                raise KeyboardInterrupt
            return real(self)

        monkeypatch.setattr(train.Trainer, "one_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train.train(3, tmp_path / "c", steps=4, pairs=8)
        monkeypatch.setattr(train.Trainer, "one_step", real)
        resumed = train.train(3, tmp_path / "c", steps=4, pairs=8)
    finally:
        torch.set_num_threads(threads)
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (*whole, resumed)}
    assert len(hashes) == 1


def test_half_precision_changes_the_losses_of_a_step_little():
    losses = [train.Trainer(3, 4, 8, "cpu", half).one_step() for half in (False, True)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


# -- captions -----------------------------------------------------------------------------------


def written(states, count=400):
    random = np.random.default_rng(0)
    classes = random.integers(2, size=count)
    chosen = np.full(count, captions.STATES.index(states))
    return classes, chosen, captions.write(random, ["nut", "leather"], classes, chosen, ["foo"])


@pytest.mark.parametrize("state", ["normal", "stain", "crack"])
def test_captions_are_nearly_always_true_of_what_they_were_written_for(state):
    classes, states, texts = written(state)
    true = np.diag(texts.true_of(classes, states))
    assert 0.94 < true.mean() <= 1.0


def test_half_of_the_captions_say_nothing_of_the_state():
    _, _, texts = written("crack")
    silent = texts.holds.all(axis=1)
    assert 0.4 < silent.mean() < 0.6


def test_words_for_states_mean_different_things():
    by_phrase = {w.phrase: w.holds for w in captions.WORDINGS}
    stain, crack = captions.STATES.index("stain"), captions.STATES.index("crack")
    assert by_phrase["broken {}"][crack]
    assert not by_phrase["broken {}"][stain]
    assert by_phrase["intact {}"][stain]
    assert not by_phrase["perfect {}"][stain]
    assert len(set(by_phrase.values())) >= 8
