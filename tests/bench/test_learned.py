"""Checkpoints that a user gives: which one a target takes, and which ones are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from zsad.bench import create, load_backbone, load_dataset
from zsad.bench.checkpoint import file_sha256, write_tensors
from zsad.bench.contestant import checkpoint_of, prepare
from zsad.bench.errors import UsageError, WeightsError
from zsad.bench.learned import choose, open_checkpoint
from zsad.bench.plan import Plan, make_plan, read_plan
from zsad.bench.records import write_json
from zsad.bench.registry import dataset_class
from zsad.bench.runner import Progress, start_run

FILES = {"mvtec_ad": ["m.pth"], "visa": ["v.pth"]}


@pytest.fixture(scope="module")
def tiny():
    return load_backbone("tiny")


@pytest.fixture
def coop_file(tiny, tmp_path):
    """A function that writes a CoOp checkpoint with some header."""

    def make(name: str = "coop.safetensors", **header: Any) -> Path:
        tensors = create("coop", tiny, seed=3).learned_state()
        write_tensors(tmp_path / name, tensors, header)
        return tmp_path / name

    return make


def plan_with(out: Path, **method: Any) -> Plan:
    plan = make_plan([{"name": "coop", **method}], ["synthetic"], out=out, limit=1)
    start_run(plan)
    return plan


def contestant_of(plan: Plan):
    (contestant,) = prepare(plan, load_dataset("synthetic"), plan.cells(), Progress())
    return contestant


# -- which one a target takes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "target", "taken"),
    [
        (FILES, "mvtec_ad", "visa"),
        (FILES, "visa", "mvtec_ad"),
        (FILES, "btad", "mvtec_ad"),
        ({"visa": ["v.pth"]}, "btad", "visa"),
        ({"": ["x.pth"], "visa": ["v.pth"]}, "btad", "visa"),
        ({"": ["x.pth"], "visa": ["v.pth"]}, "visa", ""),
        ({"folder": ["f.pth"]}, "folder", "folder"),
    ],
)
def test_each_target_takes_the_checkpoint_that_it_may(given, target, taken):
    cls = dataset_class(target)
    assert choose(given, "coop", cls, cls.auxiliary) == taken


def test_a_target_without_a_checkpoint_that_it_may_take_is_refused():
    cls = dataset_class("mvtec_ad")
    with pytest.raises(UsageError, match=r"learned on 'mvtec_ad'.*--checkpoint coop\.AUXILIARY="):
        choose({"mvtec_ad": ["m.pth"]}, "coop", cls, "visa")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({"checkpoint": "a.pth"}, {"": ("a.pth",)}),
        ({"checkpoint": ["a.pth", "b.pth"]}, {"": ("a.pth", "b.pth")}),
        ({"checkpoint": "a.pth", "learned_from": "mvtec-ad"}, {"mvtec_ad": ("a.pth",)}),
        (
            {"checkpoint": {"visa": "a.pth", "MVTecAD": ["b.pth"]}},
            {"visa": ("a.pth",), "mvtec_ad": ("b.pth",)},
        ),
        ({}, {}),
    ],
)
def test_a_plan_keeps_checkpoints_by_auxiliary_dataset(tmp_path, said, kept):
    plan = make_plan([{"name": "coop", **said}])
    assert plan.methods[0].checkpoint == kept
    write_json(tmp_path / "plan.json", dataclasses.asdict(plan))
    assert read_plan(tmp_path / "plan.json") == plan


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"checkpoint": {"vissa": "a.pth"}}, "vissa"),
        ({"checkpoint": "a.pth", "learned_from": "mvtec"}, "mvtec"),
        ({"learned_from": "visa"}, "add checkpoint"),
        ({"checkpoint": []}, "file or files"),
        ({"checkpoint": {"visa": 3}}, "file or files"),
    ],
)
def test_wrong_checkpoints_of_a_plan_are_refused(said, named):
    with pytest.raises(UsageError, match=named):
        make_plan([{"name": "coop", **said}])


# -- what it was learned on ------------------------------------------------------------------------


def test_a_header_says_what_a_checkpoint_was_learned_on(coop_file, tmp_path):
    path = coop_file(auxiliary={"dataset": "visa", "split": "test"}, epochs=4, precision="fp64")
    protocol = contestant_of(plan_with(tmp_path, checkpoint=str(path))).protocol
    assert protocol["auxiliary"] == "visa"
    assert protocol["auxiliary_source"] == "header"
    assert protocol["checkpoint_sha256"] == file_sha256(path)
    assert (protocol["auxiliary_split"], protocol["epochs"]) == ("test", 4)
    assert protocol["learned_in"] == "fp64"


@pytest.mark.parametrize("said", [{"learned_from": "visa"}, {}])
def test_a_record_says_who_said_what_a_released_file_was_learned_on(coop_file, tmp_path, said):
    plan = plan_with(tmp_path, checkpoint=str(coop_file()), **said)
    protocol = contestant_of(plan).protocol
    expected = ("visa", "declared") if said else ("undeclared", "undeclared")
    assert (protocol["auxiliary"], protocol["auxiliary_source"]) == expected


def test_a_header_that_contradicts_the_user_is_refused(coop_file):
    path = coop_file(auxiliary={"dataset": "visa"})
    with pytest.raises(UsageError, match=r"learned on 'visa'.*not on 'mvtec_ad'.*METHOD\.visa="):
        open_checkpoint([path], "mvtec_ad")
    other = coop_file("other.safetensors", auxiliary={"dataset": "mvtec_ad"})
    with pytest.raises(UsageError, match=r"different datasets.*METHOD\.AUXILIARY=FILE"):
        open_checkpoint([path, other])


@pytest.mark.parametrize("said", ["header", "declared"])
def test_a_checkpoint_learned_on_its_target_is_refused(coop_file, tmp_path, said):
    header = {"auxiliary": {"dataset": "synthetic"}} if said == "header" else {}
    declared = {} if said == "header" else {"learned_from": "synthetic"}
    plan = plan_with(tmp_path, checkpoint=str(coop_file(**header)), **declared)
    error = contestant_of(plan).error
    assert isinstance(error, UsageError)
    assert "learned on 'synthetic'" in str(error)
    assert "--checkpoint coop.AUXILIARY=FILE" in str(error)


def test_a_plan_without_a_checkpoint_gives_none(tmp_path):
    plan = plan_with(tmp_path)
    assert checkpoint_of(plan, plan.cells()[0], load_dataset("synthetic")) is None


# -- several files ---------------------------------------------------------------------------------


@pytest.fixture
def parts(tiny, tmp_path):
    """The tensors of CoCoOp in two files, as of a prompt learner and a network."""
    tensors = create("cocoop", tiny, seed=3).learned_state()
    context = {name: t for name, t in tensors.items() if name == "ctx"}
    network = {name: t for name, t in tensors.items() if name != "ctx"}
    torch.save({"state_dict": context, "epoch": 1}, tmp_path / "context.pth")
    torch.save({"state_dict": network, "epoch": 2}, tmp_path / "network.pth")
    return tensors, [tmp_path / "context.pth", tmp_path / "network.pth"]


def test_the_files_of_a_checkpoint_are_loaded_together(tiny, parts):
    tensors, files = parts
    learned = create("cocoop", tiny, checkpoint=files).learned_state()
    assert all(torch.equal(learned[name], tensors[name]) for name in tensors)
    with pytest.raises(WeightsError, match="lacks the tensor"):
        create("cocoop", tiny, checkpoint=files[0])


def test_a_tensor_that_two_files_hold_is_refused(tiny, parts):
    _, files = parts
    with pytest.raises(WeightsError, match=r"context\.pth holds the tensor 'ctx'.*another file"):
        create("cocoop", tiny, checkpoint=[*files, files[0]])


def test_the_hash_of_several_files_follows_each(parts, tmp_path):
    _, files = parts
    both, one = open_checkpoint(files).sha256, open_checkpoint(files[:1]).sha256
    assert one == file_sha256(files[0])
    torch.save({"state_dict": {}}, files[1])
    assert len({both, one, open_checkpoint(files).sha256}) == 3
