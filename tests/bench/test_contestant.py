"""Methods of a plan are made ready: each learns in the right precision, and while others learn."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch
from zsad.bench import load_dataset
from zsad.bench.checkpoint import read_header, read_payload
from zsad.bench.contestant import checkpoint_path, prepare
from zsad.bench.locks import held
from zsad.bench.plan import Plan, make_plan
from zsad.bench.runner import Progress, start_run


@pytest.fixture(autouse=True, scope="module")
def features(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZSAD_FEATURES", str(tmp_path_factory.mktemp("features")))
        yield


def plan_for(out: Path, *methods: str, **settings) -> Plan:
    chosen = [{"name": name, "options": {"epochs": 1}} for name in methods]
    plan = make_plan(chosen, out=out, **settings)
    start_run(plan)
    return plan


def prepared(plan: Plan):
    contestants = prepare(plan, load_dataset("synthetic"), plan.cells(), Progress())
    assert [c.error for c in contestants] == [None] * len(contestants)
    return contestants


def test_a_narrow_backbone_is_learned_from_in_double_and_scored_in_single_precision(tmp_path):
    plan = plan_for(tmp_path, "anomalyclip")
    (contestant,) = prepared(plan)
    path = checkpoint_path(plan, contestant.cell)
    assert read_header(path)["precision"] == contestant.protocol["learned_in"] == "fp64"
    assert contestant.ready.backbone.precision == contestant.protocol["precision"] == "fp32"
    learned = read_payload(path)
    for name, parameter in contestant.ready.named_parameters():
        assert learned[name].dtype == torch.float64
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, learned[name].float())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_wide_backbones_and_other_precisions_learn_as_asked(tmp_path, monkeypatch, precision):
    if precision == "fp32":
        monkeypatch.setattr("zsad.bench.backbone.NARROW", 1)
    (contestant,) = prepared(plan_for(tmp_path, "coop", precision=precision))
    assert contestant.protocol["learned_in"] == precision


def test_a_method_that_another_process_learns_does_not_hold_up_the_next(tmp_path):
    plan = plan_for(tmp_path, "anomalyclip", "coop")
    first, second = (checkpoint_path(plan, cell) for cell in plan.cells())
    with held(tmp_path, first.stem):
        worker = threading.Thread(target=prepared, args=(plan,))
        worker.start()
        deadline = time.monotonic() + 120
        while not second.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert second.exists()
        assert not first.exists()
    worker.join(timeout=120)
    assert first.exists()
