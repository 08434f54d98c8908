"""From names and plan files to cells."""

from __future__ import annotations

import dataclasses
import json

import pytest
from zsad.bench.errors import UsageError
from zsad.bench.files import write_json
from zsad.bench.metric_table import DEFAULT_METRICS
from zsad.bench.running.plan import make_plan, read_plan
from zsad.bench.running.prepare import checkpoint_path


def test_grid_is_methods_times_datasets_and_seeds_only_for_trained_methods():
    plan = make_plan(["clip", "anomalyclip"], ["synthetic", "elpv"], seeds=[1, 2])
    cells = plan.cells()
    assert [(c.method, c.dataset, c.seed) for c in cells] == [
        ("clip", "synthetic", 1),
        ("anomalyclip", "synthetic", 1),
        ("anomalyclip", "synthetic", 2),
        ("clip", "elpv", 1),
        ("anomalyclip", "elpv", 1),
        ("anomalyclip", "elpv", 2),
    ]
    assert len({c.key for c in cells}) == len(cells)


def test_variants_and_sweeps_give_cells_of_their_own():
    plan = make_plan(
        [
            "winclip@paper",
            "winclip@official",
            {"name": "clip", "sweep": {"temperature": [0.01, 1.0]}},
        ]
    )
    cells = plan.cells()
    assert [c.variant for c in cells[:2]] == ["paper", "official"]
    assert [dict(c.options) for c in cells[2:]] == [{"temperature": 0.01}, {"temperature": 1.0}]
    assert len({c.key for c in cells}) == 4


def test_plan_file_and_stored_plan_say_the_same(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(
        """
        out = "somewhere"
        seeds = [3, 4]
        datasets = ["synthetic"]
        [[method]]
        name = "faprompt"
        variant = "official"
        options = { n_prompts = 5 }
        [[method]]
        name = "clip"
        """
    )
    plan = read_plan(path)
    assert plan.seeds == (3, 4)
    assert plan.methods[0].options == {"n_prompts": 5}
    write_json(tmp_path / "plan.json", dataclasses.asdict(plan))
    assert read_plan(tmp_path / "plan.json") == plan


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("methods = ['klip']", "klip"),
        ("methods = ['clip@papre']", "papre"),
        ("datasets = ['vissa']", "vissa"),
        ("bath_size = 4", "batch-size"),
        ("batch_size = 0", "batch-size"),
        ("seeds = ['a']", "seeds"),
        ("methods = []", "at least one"),
        ("methods = 'clip'", "list"),
        ("[[method]]\nname = 'clip'\noptions = { sigma = 1 }", "sigma"),
        ("[[method]]\nnme = 'clip'", "name"),
        ("precision = 'fp8'", "fp8"),
        ("auxiliary_split = 'train'", "'auxiliary-split' should be 'test' or 'all', not 'train'"),
        ("workers = true", "'workers' should be a valid integer, not True"),
        ("map_size = 4", "'map-size' should be greater than or equal to 8, not 4"),
        ("save_maps = 1", "'save-maps' should be a valid boolean, not 1"),
        ("backbone = 1", "'backbone' should be a valid string, not 1"),
        ("out = 3", "out"),
        ("out = ", "not a readable plan file"),
    ],
)
def test_a_wrong_plan_is_refused_by_the_name_of_what_is_wrong(tmp_path, content, named):
    path = tmp_path / "plan.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=named):
        read_plan(path)


def test_a_missing_plan_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere.toml"):
        read_plan(tmp_path / "nowhere.toml")


def test_plan_is_plain_json():
    json.dumps(dataclasses.asdict(make_plan(["clip"])))


@pytest.mark.parametrize(
    ("methods", "datasets", "says"),
    [
        (["clip"], [{"name": "elpv", "root": "a"}, {"name": "elpv", "root": "b"}], "'elpv'"),
        (
            [{"name": "coop", "checkpoint": "a.pth"}, {"name": "coop", "checkpoint": "b.pth"}],
            ["synthetic"],
            "different checkpoints",
        ),
    ],
)
def test_two_entries_that_would_share_records_are_refused(methods, datasets, says):
    with pytest.raises(UsageError, match=f"{says}.*label"):
        make_plan(methods, datasets)


def test_labels_tell_entries_apart_that_would_share_records(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(
        """
        [[method]]
        name = "coop"
        checkpoint = "a.pth"
        [[method]]
        name = "coop"
        checkpoint = "b.pth"
        label = "mine"
        [[dataset]]
        name = "elpv"
        root = "a"
        [[dataset]]
        name = "elpv"
        root = "b"
        label = "copy 2"
        """
    )
    plan = read_plan(path)
    cells = plan.cells()
    assert len({c.key for c in cells}) == len(set(cells)) == 4
    given = [(job.dataset.root, *job.method.checkpoint[""]) for job in plan.jobs()]
    assert given == [("a", "a.pth"), ("a", "b.pth"), ("b", "a.pth"), ("b", "b.pth")]
    write_json(tmp_path / "plan.json", dataclasses.asdict(plan))
    assert read_plan(tmp_path / "plan.json") == plan


def test_cells_of_equal_training_share_learned_weights_whatever_their_labels():
    methods = ["coop", {"name": "coop", "label": "again"}]
    targets = [{"name": "elpv", "root": root, "label": root} for root in "ab"]
    plan = make_plan(methods, targets)
    assert len({checkpoint_path(plan, job) for job in plan.jobs()}) == 1


@pytest.mark.parametrize("label", ["a/b", "../x", "x" * 41, " x", "x ", "-", "a\n", 3, "é", "(x)"])
def test_a_label_that_cannot_stand_in_a_name_is_refused(label):
    with pytest.raises(UsageError, match="label of method 'clip'"):
        make_plan([{"name": "clip", "label": label}])


def test_labels_that_differ_in_spelling_only_are_refused():
    with pytest.raises(UsageError, match="twice"):
        make_plan(
            ["clip"],
            [
                {"name": "elpv", "label": "my copy"},
                {"name": "elpv", "root": "b", "label": "My-copy"},
            ],
        )


def test_a_method_named_with_and_without_its_default_variant_is_one():
    assert len(make_plan(["clip", "clip@official"]).cells()) == 1


@pytest.mark.parametrize("out", ["", " "])
def test_an_empty_run_directory_in_a_plan_file_is_refused(tmp_path, out):
    path = tmp_path / "plan.toml"
    path.write_text(f'methods = ["clip"]\ndatasets = ["synthetic"]\nout = "{out}"\n')
    with pytest.raises(UsageError, match="'out' is an empty path"):
        read_plan(path)


SKIP, NEAREST = {"missing": "skip"}, {"mask_resize": "nearest"}
TARGET = {"name": "mvtec-ad", "options": SKIP}


@pytest.mark.parametrize(
    ("datasets", "given", "options"),
    [
        (["visa"], None, {}),
        (["visa"], {"mvtec-ad": SKIP}, SKIP),
        (["visa", TARGET], None, SKIP),
        (["visa", TARGET], {"mvtec-ad": NEAREST}, NEAREST),
        (["visa", TARGET], {"mvtec-ad": {}}, {}),
        (["visa", {**TARGET, "label": "mine"}], None, {}),
        (["visa", {**TARGET, "root": "copy"}], None, {}),
        (["visa", {**TARGET, "label": "mine"}, {**TARGET, "options": NEAREST}], None, NEAREST),
    ],
)
def test_an_auxiliary_dataset_takes_its_own_options_or_those_of_the_same_target(
    datasets, given, options
):
    plan = make_plan(["coop"], datasets, auxiliary_options=given or {})
    assert plan.auxiliaries()["mvtec_ad"].options == options


@pytest.mark.parametrize(
    ("methods", "given", "says"),
    [
        (["coop"], {"elpv": SKIP}, "'elpv', which no method of the plan is trained on"),
        (["clip"], {"mvtec-ad": SKIP}, "'mvtec-ad', which no method of the plan is trained on"),
        (["coop"], {"mvtec-ad": {"mising": "skip"}}, "did you mean missing"),
        (["coop"], {"mvtec-ad": "skip"}, "'auxiliary-options' of 'mvtec-ad' is a table"),
        (["coop"], ["mvtec-ad"], "'auxiliary-options' is a table of datasets"),
    ],
)
def test_options_of_what_nothing_is_trained_on_are_refused(methods, given, says):
    with pytest.raises(UsageError, match=says):
        make_plan(methods, ["visa"], auxiliary_options=given)


def test_metrics_are_chosen_by_name_and_all_are_those_that_score_no_further_images(tmp_path):
    assert make_plan(["clip"]).measured == DEFAULT_METRICS
    plan = make_plan(["clip"], metrics=["pixel-ap", "image-auroc"])
    assert plan.metrics == plan.measured == ("image_auroc", "pixel_ap")
    more = make_plan(["clip"], metrics=["all", "pixel_segf1"])
    assert {*more.measured} - {*DEFAULT_METRICS} == {"pixel_segf1"}
    write_json(tmp_path / "plan.json", dataclasses.asdict(more))
    assert read_plan(tmp_path / "plan.json") == more
    with pytest.raises(UsageError, match="did you mean pixel-segf1"):
        make_plan(["clip"], metrics=["pixel_seg"])
    with pytest.raises(UsageError, match="'metrics' is a list of names, not 3"):
        make_plan(["clip"], metrics=3)
