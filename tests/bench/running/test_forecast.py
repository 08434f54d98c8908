"""How long a run will take: the sum of its parts, and their measurement in a process of its own."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner
from zsad.bench.cli.app import app
from zsad.bench.registry import load_dataset
from zsad.bench.running.calibration import forecast, measure
from zsad.bench.running.dry_run import dry_run
from zsad.bench.running.forecast import Forecast, Part
from zsad.bench.running.plan import make_plan
from zsad.bench.running.prepare import checkpoint_path
from zsad.bench.training.trainer import auxiliary_samples


@pytest.fixture
def plan(tmp_path):
    return make_plan(["clip", "coop"], ["synthetic"], limit=2, out=tmp_path / "run")


def measured_parts(plan, tmp_path):
    told = []
    measure(plan, plan.jobs(), Path(plan.out), told.append)
    return told


def test_parts_that_processes_share_take_that_much_less_time():
    parts = [Part("start", 1, "start", each=2.0), Part("scoring", 100, "image", 2, each=0.1)]
    assert Forecast(parts).seconds == pytest.approx(7.0)
    assert Forecast(parts).words() == "about 0:00:07"


def test_a_part_that_was_not_measured_makes_the_sum_a_lower_bound():
    found = Forecast([Part("start", 1, "start", each=2.0), Part("scoring", 100, "image")])
    assert not found.whole
    assert found.words() == "more than 0:00:02"
    assert found.parts[1].words() == "scoring: not measured"


def test_every_part_of_a_run_is_measured_with_its_count(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("ZSAD_FEATURES", str(tmp_path / "features"))
    told = measured_parts(plan, tmp_path)
    first, last = told[0], told[-1]
    assert [part.name for part in first] == [part.name for part in last]
    assert all(part.each is None for part in first[1:])
    assert all(part.each is not None for part in last)
    images = {part.name: part.count for part in last}
    assert images["scoring of synthetic"] == 24  # 6 categories of 2 normal and 2 anomalous images
    assert images["training of CoOp on Synthetic-aux"] == 50 * 41  # epochs of 324 images by 8
    assert images["features for CoOp on Synthetic-aux"] == 324


def test_what_the_run_has_learned_already_is_not_counted(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("ZSAD_FEATURES", str(tmp_path / "features"))
    (job,) = (job for job in plan.jobs() if job.trained)
    path = checkpoint_path(plan, job)
    path.parent.mkdir(parents=True)
    path.touch()
    names = [part.name for part in measured_parts(plan, tmp_path)[-1]]
    assert not any("CoOp" in name for name in names)


def test_the_limit_of_images_to_learn_from_holds_in_a_forecast(tmp_path, monkeypatch):
    monkeypatch.setenv("ZSAD_FEATURES", str(tmp_path / "features"))
    limited = make_plan(["coop"], ["synthetic-parts"], limit=2, auxiliary_limit=2)
    images = {part.name: part.count for part in measured_parts(limited, tmp_path)[-1]}
    learned_from = len(auxiliary_samples(load_dataset("synthetic-aux"), "test", 2))
    assert learned_from < 324
    assert images["features for CoOp on Synthetic-aux"] == learned_from
    assert images["training of CoOp on Synthetic-aux"] == 50 * -(-learned_from // 8)


def test_images_that_are_scored_for_thresholds_are_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("ZSAD_FEATURES", str(tmp_path / "features"))
    metrics = ["image-f1-learned", "pixel-segf1"]
    two = make_plan(["clip"], ["synthetic", "synthetic-parts"], metrics=metrics, limit=2)
    last = measured_parts(two, tmp_path)[-1]
    further = {part.name: part.count for part in last if part.name.startswith("thresholds")}
    assert further == {
        "thresholds of synthetic on synthetic-aux": 324,  # not again for the other dataset
        "thresholds of synthetic on synthetic": 12,  # 6 categories of 2 normal images
        "thresholds of synthetic-parts on synthetic-parts": 4,
    }
    assert all(part.each for part in last if part.name in further)


def test_measuring_stops_in_time_and_writes_nothing_into_the_run(plan):
    found = forecast(plan, plan.jobs(), seconds=0)
    assert found is not None
    assert not found.whole
    assert found.parts[0].each is not None  # the start itself
    assert not Path(plan.out).exists()


def test_zsad_plan_shows_the_forecast_unless_it_is_told_not_to(tmp_path):
    arguments = ["plan", "--methods", "clip", "--limit", "2", "--out", str(tmp_path / "run")]
    with_it = CliRunner().invoke(app, arguments).stdout
    assert re.search(r"1 of 1 cells to do, (about|more than) 0:0", with_it)
    assert re.search(r"time of scoring of synthetic: (0:0|not measured)", with_it)
    without = CliRunner().invoke(app, [*arguments, "--no-calibrate"]).stdout
    assert "time of" not in without


def test_a_dry_run_of_a_finished_plan_has_nothing_to_measure(plan):
    assert forecast(plan, []) == Forecast(())
    assert dry_run(plan).forecast is None
