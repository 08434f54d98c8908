"""The hash of a method's prompts in its protocol tells learned prompts apart."""

from __future__ import annotations

import pytest
from zsad.bench import create, registry
from zsad.bench.method import TrainableMethod

NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # sha256 of ""
TRAINABLE = [
    name
    for name in registry.names("method")
    if issubclass(registry.method_class(name), TrainableMethod)
]


def fingerprint(tiny, name, **options):
    return create(name, tiny, **options).protocol()["prompts_sha256"]


@pytest.mark.parametrize("name", TRAINABLE)
def test_the_protocol_tells_learned_prompts_apart_by_their_tokens(tiny, name):
    found = fingerprint(tiny, name)
    assert found != NOTHING
    assert found == fingerprint(tiny, name, seed=5, epochs=2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("coop", {"n_context": 4}),
        ("anomalyclip", {"n_context": 4}),
        ("anomalyclip", {"deep_length": 2}),
        ("anomalyclip", {"deep_depth": 4}),
        ("anomalyclip_ensemble", {"n_context": 4}),
        ("faprompt", {"n_prompts": 3}),
        ("faprompt", {"n_abnormal": 3}),
        ("faprompt", {"damaged": True}),
        ("faprompt", {"deep_depth": 1}),
    ],
)
def test_the_protocol_sees_another_number_or_depth_of_tokens(tiny, name, options):
    assert fingerprint(tiny, name) != fingerprint(tiny, name, **options)


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [
        ("anomalyclip", "anomalyclip.ABNORMAL_ENDING", "broken object."),
        ("anomalyclip_ensemble", "anomalyclip.NORMAL_ENDING", "thing."),
        ("faprompt", "_faprompt_variants.NORMAL_ENDING", "thing."),
        ("coop", "coop.CoOp.endings", ("normal {}.", "odd {}.")),
        ("cocoop", "cocoop.CoCoOp.endings", ("a normal {}.", "anomalous {}.")),
        ("tcp", "tcp.Tcp.endings", ("{}.", "broken {}.")),
        ("tcp", "tcp.DEEP_BLOCK", 6),
    ],
)
def test_the_protocol_sees_other_words_or_another_block(tiny, monkeypatch, name, words, value):
    before = fingerprint(tiny, name)
    monkeypatch.setattr(f"zsad.methods.{words}", value)
    assert fingerprint(tiny, name) != before
