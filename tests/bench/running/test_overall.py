"""The one progress bar of a run: which steps it counts, and the time that is left."""

import pytest
from zsad.bench.progress import Progress
from zsad.bench.running.open_datasets import OpenDatasets
from zsad.bench.running.overall import Pace, Step, shown, steps_of
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import start, work_of


@pytest.fixture
def steps(tmp_path):
    plan = make_plan(["clip", "coop"], ["synthetic", "builtin-all"], limit=1, out=tmp_path / "run")
    datasets = OpenDatasets(plan.limit)
    units = start(plan, datasets, Progress(), (0, 1), split=False)
    return steps_of(plan, work_of(units), datasets)


def step_at(tmp_path, name, kind="scoring", size=1):
    return Step(kind, size, (tmp_path / name,))


def test_a_training_that_datasets_share_is_one_step(steps):
    trainings = [step for step in steps if step.kind == "training"]
    assert len(trainings) == 1
    assert len({step.any_of for step in steps}) == len(steps)


def test_a_category_counts_by_its_images(steps):
    assert {step.size for step in steps if step.kind == "scoring"} <= {1, 2}


def test_a_training_of_a_method_that_failed_everywhere_is_no_longer_waited_for(steps):
    (training,) = (step for step in steps if step.kind == "training")
    assert not training.done
    for record in training.all_of:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.touch()
    assert training.done


def test_the_time_left_follows_from_the_pace_of_each_kind(tmp_path):
    waiting = [step_at(tmp_path, "learned", "training")]
    waiting += [step_at(tmp_path, str(number), size=10) for number in range(4)]
    pace = Pace(list(waiting))
    assert pace.seconds_left(0.0) is None
    (tmp_path / "learned").touch()
    pace.look(20.0)
    assert pace.seconds_left(20.0) is None, "no category was scored yet"
    (tmp_path / "0").touch()
    pace.look(25.0)
    assert pace.seconds_left(25.0) == pytest.approx(15.0)  # three categories of 5 seconds
    assert pace.seconds_left(27.0) == pytest.approx(13.0)


def test_the_bar_ends_with_all_steps_done(tmp_path, capsys):
    steps = [step_at(tmp_path, "0"), step_at(tmp_path, "1")]
    with shown(steps, Progress(bar=True)):
        for number in (0, 1):
            (tmp_path / str(number)).touch()
    assert "2/2 steps" in capsys.readouterr().err
