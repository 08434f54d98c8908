"""Checkpoints that a user gives: which one a target takes, and which ones are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from zsad.bench import create, load_backbone, load_dataset, run
from zsad.bench.checkpoint import file_sha256, read_header, write_tensors
from zsad.bench.errors import UsageError, WeightsError
from zsad.bench.files import write_json
from zsad.bench.progress import Progress
from zsad.bench.records.record import Record, read_records, write_record
from zsad.bench.registry import dataset_class
from zsad.bench.running.cells import start_run
from zsad.bench.running.dry_run import dry_run
from zsad.bench.running.open_datasets import OpenDatasets
from zsad.bench.running.plan import Plan, make_plan, read_plan
from zsad.bench.running.prepare import checkpoint_of, prepare
from zsad.bench.training.leakage import content_marks
from zsad.bench.training.optimisation import TrainingConfig
from zsad.bench.training.trainer import train
from zsad.bench.training.user_checkpoint import choose, open_checkpoint, refuse_leak

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


def start(plan: Plan) -> None:
    start_run(plan, plan.jobs(), OpenDatasets(plan.limit), Progress())


def plan_with(out: Path, **method: Any) -> Plan:
    plan = make_plan([{"name": "coop", **method}], ["synthetic"], out=out, limit=1)
    start(plan)
    return plan


def evaluated_method_of(plan: Plan):
    (evaluated,) = prepare(
        plan, load_dataset("synthetic"), plan.jobs(), OpenDatasets(plan.limit), Progress()
    )
    return evaluated


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
    with pytest.raises(UsageError, match=r"learned on 'mvtec-ad'.*--checkpoint coop\.AUXILIARY="):
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
    protocol = evaluated_method_of(plan_with(tmp_path, checkpoint=str(path))).protocol
    assert protocol["auxiliary"] == "visa"
    assert protocol["auxiliary_source"] == "header"
    assert protocol["checkpoint_sha256"] == file_sha256(path)
    assert (protocol["auxiliary_split"], protocol["epochs"]) == ("test", 4)
    assert protocol["training_precision"] == "fp64"


@pytest.mark.parametrize("said", [{"learned_from": "visa"}, {}])
def test_a_record_says_who_said_what_a_released_file_was_learned_on(coop_file, tmp_path, said):
    plan = plan_with(tmp_path, checkpoint=str(coop_file()), **said)
    protocol = evaluated_method_of(plan).protocol
    expected = ("visa", "declared") if said else ("undeclared", "undeclared")
    assert (protocol["auxiliary"], protocol["auxiliary_source"]) == expected


def test_a_header_that_contradicts_the_user_is_refused(coop_file):
    path = coop_file(auxiliary={"dataset": "visa"})
    with pytest.raises(UsageError, match=r"learned on 'visa'.*not on 'mvtec-ad'.*METHOD\.visa="):
        open_checkpoint([path], "mvtec_ad")
    other = coop_file("other.safetensors", auxiliary={"dataset": "mvtec_ad"})
    with pytest.raises(UsageError, match=r"different datasets.*METHOD\.AUXILIARY=FILE"):
        open_checkpoint([path, other])


@pytest.mark.parametrize("said", ["header", "declared"])
def test_a_checkpoint_learned_on_its_target_is_refused(coop_file, tmp_path, said):
    header = {"auxiliary": {"dataset": "synthetic"}} if said == "header" else {}
    declared = {} if said == "header" else {"learned_from": "synthetic"}
    plan = plan_with(tmp_path, checkpoint=str(coop_file(**header)), **declared)
    error = evaluated_method_of(plan).error
    assert isinstance(error, UsageError)
    assert "learned on 'synthetic'" in str(error)
    assert "--checkpoint coop.AUXILIARY=FILE" in str(error)


def test_a_plan_without_a_checkpoint_gives_none(tmp_path):
    plan = plan_with(tmp_path)
    assert checkpoint_of(plan.jobs()[0], load_dataset("synthetic")) is None


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


# -- what it was learned as ------------------------------------------------------------------------


@pytest.fixture
def trained_file(tiny, tmp_path):
    """A function that writes what `zsad train` would: learned tensors and how they came about."""

    def make(name: str, variant: str | None = None, **header: Any) -> Path:
        method = create(name, tiny, variant)
        options = {k: str(v) for k, v in dataclasses.asdict(method.options).items()}
        said = {
            "method": method.name,
            "variant": method.variant,
            "options": options,
            "protocol": {k: str(v) for k, v in method.protocol().items()},
            "backbone": tiny.name,
            "weights_sha256": tiny.weights_sha256,
        }
        path = tmp_path / f"{name}.safetensors"
        write_tensors(path, method.learned_state(), {**said, **header})
        return path

    return make


def test_a_checkpoint_of_another_variant_is_refused_with_its_variant(tiny, trained_file):
    path = trained_file("faprompt", "official")
    create("faprompt", tiny, "official", path)
    with pytest.raises(
        WeightsError,
        match=r"variant 'official', not 'paper' \(.*half-deep-tokens True, not False.*"
        r"ask for faprompt@official",
    ):
        create("faprompt", tiny, checkpoint=path)
    path = trained_file("april_gan", "official")
    with pytest.raises(WeightsError, match=r"shared False, not True.*april-gan@official"):
        create("april_gan", tiny, "shared", path)


def test_another_use_of_the_same_weights_is_no_misfit(tiny, trained_file):
    path = trained_file("faprompt")
    create("faprompt", tiny, "best_prompt", path)
    create("faprompt", tiny, checkpoint=path, smoothing_sigma=1.0)


def test_an_option_that_differs_is_named_with_the_file_s_value(tiny, trained_file):
    path = trained_file("coop")
    with pytest.raises(WeightsError, match=r"epochs 50, not 3: add --option coop\.epochs=50"):
        create("coop", tiny, checkpoint=path, epochs=3)
    brief = trained_file("coop", options={"epochs": "2", "lr": "0.5", "n_context": "12"})
    options = create("coop", tiny, checkpoint=brief).options
    assert (options.epochs, options.lr) == (2, 0.5)
    path = trained_file("anomalyclip")
    with pytest.raises(WeightsError, match=r"add --option anomalyclip\.layers=\[24\]"):
        create("anomalyclip", tiny, checkpoint=path, layers=(12,))


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"method": "tcp"}, "by method 'tcp', not 'coop': ask for tcp"),
        (
            {"weights_sha256": "ab" * 32, "backbone": "ViT-B-16:openai"},
            r"sha256 abababababababab .*--backbone ViT-B-16:openai",
        ),
        ({"protocol": {"activation": "silu"}}, "activation silu, not .*zsad train"),
        ({"protocol": {"pos_embed": "nearest"}}, "pos_embed nearest, not native"),
    ],
)
def test_a_checkpoint_learned_otherwise_is_refused_by_the_field(tiny, trained_file, header, says):
    with pytest.raises(WeightsError, match=says):
        create("coop", tiny, checkpoint=trained_file("coop", **header))


def test_options_of_the_auxiliary_dataset_of_a_header_are_the_asked_ones(tiny, tmp_path):
    learned = create("april_gan", tiny, auxiliary="mvtec_ad")
    options = {k: str(v) for k, v in dataclasses.asdict(learned.options).items()}
    header = {
        "method": "april_gan",
        "variant": "official",
        "options": options,
        "auxiliary": {"dataset": "mvtec_ad"},
        "weights_sha256": tiny.weights_sha256,
    }
    path = tmp_path / "april.safetensors"
    write_tensors(path, learned.learned_state(), header)
    assert create("april_gan", tiny, checkpoint=path).options == learned.options


def test_a_released_file_is_refused_by_a_variant_that_runs_another_backbone(tiny, tmp_path):
    path = tmp_path / "released.pth"
    state = create("april_gan", tiny).learned_state()
    torch.save({"trainable_linearlayer": state}, path)
    size = 2 * tiny.patch_size
    create("april_gan", tiny, checkpoint=path, image_size=size)
    with pytest.raises(
        WeightsError,
        match=r"released\.pth has no header.*gelu and bicubic, not .*april-gan@official",
    ):
        create("april_gan", tiny, "shared", path, image_size=size)


# -- images that it has seen -----------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    """A folder of the user's own: good and bad pictures, with masks."""
    generator = np.random.default_rng(0)
    for place in ("good/0", "good/1", "bad/2", "bad/3"):
        path = tmp_path / "own" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "own"


def test_a_checkpoint_that_has_seen_one_image_of_its_target_is_refused(coop_file, tmp_path, tree):
    target = load_dataset("folder", tree)
    seen = target.samples("test")[:1]
    marks = content_marks(seen)
    path = coop_file(auxiliary={"dataset": "visa"}, images=marks)
    checkpoint = open_checkpoint([path])
    with pytest.raises(UsageError, match=r"from 1 images of 'folder' \(.*png is one\).*AUXILIARY="):
        refuse_leak(checkpoint, "coop", target)
    seen[0].image_path.unlink()
    refuse_leak(checkpoint, "coop", load_dataset("folder", tree))


def seen_of(dataset):
    """Leaves a dataset two test images, which it returns."""
    seen = [dataset.samples("test")[0], dataset.samples("test")[-1]]
    dataset.samples = lambda split="test": seen if split == "test" else []
    return seen


def test_training_writes_what_it_has_seen(tiny, tmp_path):
    dataset = load_dataset("synthetic_aux")
    seen = seen_of(dataset)
    path = tmp_path / "learned.safetensors"
    train("coop", dataset, tiny, path, TrainingConfig(epochs=1))
    assert read_header(path)["images"] == content_marks(seen)
    with pytest.raises(UsageError, match="learned on 'synthetic-aux'"):
        refuse_leak(open_checkpoint([path]), "coop", dataset)
    assert create("coop", tiny, checkpoint=path).name == "coop"


@pytest.mark.parametrize("split", [None, "test"])
def test_a_trained_file_runs_without_being_told_the_split_it_was_trained_on(tiny, tmp_path, split):
    auxiliary = load_dataset("synthetic_aux")
    seen_of(auxiliary)
    path = tmp_path / "faprompt.safetensors"
    train("faprompt", auxiliary, tiny, path, TrainingConfig(epochs=1), split=split)
    entry = {"name": "faprompt", "checkpoint": str(path)}
    plan = make_plan([entry], ["synthetic"], out=tmp_path / "run", limit=1, map_size=32)
    run(plan)
    (record,) = read_records(tmp_path / "run")
    assert record.error is None
    assert record.protocol["auxiliary_split"] == record.auxiliary.split == (split or "all")
    assert record.protocol["options"]["split"] == (split or "all")


def test_a_split_that_differs_from_a_trained_file_s_is_refused_by_name(tiny, trained_file):
    path = trained_file("faprompt")
    with pytest.raises(
        WeightsError, match=r"split all, not test: add --option faprompt\.split=all"
    ):
        create("faprompt", tiny, checkpoint=path, split="test")


# -- in a plan and in a run folder -----------------------------------------------------------------


def test_plan_names_a_checkpoint_that_the_run_will_refuse(coop_file, tmp_path):
    plan = make_plan(
        [{"name": "coop", "checkpoint": str(coop_file()), "learned_from": "synthetic"}],
        out=tmp_path / "run",
    )
    view = dry_run(plan)
    assert not view.ready
    assert "checkpoint of coop for synthetic" in view.missing[0].line
    assert "--checkpoint coop.AUXILIARY=FILE" in view.missing[0].line


def test_plan_names_an_auxiliary_dataset_that_the_run_will_refuse(tmp_path):
    view = dry_run(make_plan(["coop"], auxiliary="synthetic", out=tmp_path / "run"))
    assert not view.ready
    assert "choose another auxiliary dataset with --auxiliary" in view.missing[0].line
    assert dry_run(make_plan(["coop"], out=tmp_path / "run")).ready


def test_plan_names_an_auxiliary_dataset_that_is_missing_beside_its_target(tmp_path):
    view = dry_run(make_plan(["coop"], ["visa"], data_root=tmp_path, out=tmp_path / "run"))
    assert [one.line.partition(":")[0] for one in view.missing] == [
        "data of visa",
        "auxiliary data mvtec-ad for coop",
    ]


def test_an_auxiliary_dataset_that_is_not_there_can_be_replaced_in_the_same_run(tmp_path, tree):
    settings = {"datasets": [{"name": "folder", "root": str(tree)}], "gallery": 0}
    out = tmp_path / "run"
    tuned = [{"name": "coop", "options": {"epochs": 1}}, "clip"]
    run(make_plan(tuned, data_root=tmp_path, out=out, **settings))
    failed = [r for r in read_records(out) if r.error]
    assert [r.cell.method for r in failed] == ["coop"]
    assert "--auxiliary NAME" in failed[0].error.message
    again = make_plan(tuned, data_root=tmp_path, out=out, auxiliary="synthetic_aux", **settings)
    start(again)


def test_an_auxiliary_dataset_that_finished_cells_depend_on_stays(tmp_path):
    plan = plan_with(tmp_path / "run")
    cell = plan.cells()[0]
    record = Record(cell=cell, status="ok", title="CoOp", protocol={"auxiliary": "synthetic_aux"})
    write_record(tmp_path / "run", record)
    other = dataclasses.replace(plan, auxiliary="visa")
    with pytest.raises(UsageError, match="was made with auxiliary None"):
        start(other)
    given = dataclasses.replace(record, protocol={**record.protocol, "auxiliary_source": "header"})
    write_record(tmp_path / "run", given)
    start(other)
