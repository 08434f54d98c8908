"""How many processes a run takes by itself, and what its bar counts."""

from __future__ import annotations

import os
import subprocess
import sys

import joblib
import pytest
from zsad.bench.errors import Stopped
from zsad.bench.running.open_datasets import OpenDatasets
from zsad.bench.running.overall import steps_of
from zsad.bench.running.parallel import WorkerProgress, default_jobs
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import run, units, work_of


@pytest.mark.parametrize(("cores", "jobs"), [(1, 1), (2, 2), (64, 4)])
def test_the_built_in_backbone_takes_a_process_a_core_up_to_four(monkeypatch, cores, jobs):
    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    assert default_jobs(make_plan(), OpenDatasets()) == jobs


@pytest.mark.parametrize(
    "settings",
    [
        {"device": "cuda"},
        {"backbone": "ViT-B-16-plus-240:laion400m_e32"},
        {"backbone_config": "large.json"},
        {"workers": 2},
        {"limit": 3},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_gpus_large_backbones_readers_and_small_sets_are_served_by_one_process(
    monkeypatch, settings
):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    plan = make_plan(**settings)
    assert default_jobs(plan, OpenDatasets(plan.limit)) == 1


def test_a_worker_stops_for_the_file_and_for_the_death_of_its_parent(tmp_path):
    WorkerProgress(stop_file=tmp_path / "stop").check()
    with pytest.raises(Stopped):
        WorkerProgress(stop_file=tmp_path / "stop", parent=os.getppid() + 1).check()
    (tmp_path / "stop").touch()
    with pytest.raises(Stopped):
        WorkerProgress(stop_file=tmp_path / "stop").check()


def test_the_bar_counts_learned_methods_and_scored_categories(tmp_path):
    methods = ["clip", {"name": "anomalyclip", "options": {"epochs": 1}}]
    plan = make_plan(methods, out=tmp_path / "run", limit=2, gallery=0)
    datasets = OpenDatasets(plan.limit)
    steps = steps_of(plan, work_of(units(plan.jobs(), datasets)), datasets)
    assert len(steps) == 1 + 2 * 6
    assert not any(step.done for step in steps)
    run(plan)
    assert all(step.done for step in steps)


def test_what_finds_a_run_finished_imports_no_open_clip():
    code = "import sys, zsad.bench.running.parallel; sys.exit('open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
