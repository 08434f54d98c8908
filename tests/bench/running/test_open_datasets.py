"""Methods that need normal training images are left out where there are none."""

from __future__ import annotations

import pytest
from zsad.bench import registry
from zsad.bench.errors import DataError
from zsad.bench.running.dry_run import dry_run
from zsad.bench.running.open_datasets import OpenDatasets, served_jobs
from zsad.bench.running.plan import make_plan

SHOWN = """
from dataclasses import dataclass
from zsad.bench.method import Method, Options, Prediction, Track


@dataclass(frozen=True)
class ShownOptions(Options):
    shots: int = 1


class Shown(Method):
    title = "Shown"
    track = Track.FEW_SHOT
    variants = {"official": ShownOptions()}
    options: ShownOptions

    def observe(self, images):
        self.seen = images

    def predict(self, query):
        return Prediction(query.features.class_token.norm(dim=-1), None)
"""


@pytest.fixture
def few_shot(tmp_path, monkeypatch):
    """A few-shot plug-in named `shown`."""
    (tmp_path / "zsad_test_shown.py").write_text(SHOWN)
    info = tmp_path / "zsad_test_shown-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zsad-test-shown\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[zsad.methods]\nshown = zsad_test_shown:Shown\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.entries.cache_clear()
    yield "shown"
    registry.entries.cache_clear()


def test_a_few_shot_method_is_left_out_where_there_are_no_normal_training_images(few_shot, caplog):
    plan = make_plan([few_shot, "clip"], ["synthetic", "synthetic-aux"])
    jobs = served_jobs(plan, OpenDatasets())
    named = {(job.cell.method, job.cell.dataset) for job in jobs}
    assert named == {("shown", "synthetic"), ("clip", "synthetic"), ("clip", "synthetic_aux")}
    assert "shown needs normal training images and synthetic-aux has none" in caplog.text
    states = {(cell.cell.method, cell.cell.dataset) for cell in dry_run(plan).cells}
    assert states == named


def test_a_plan_of_such_methods_alone_is_refused(few_shot):
    with pytest.raises(DataError, match="synthetic-aux has none: get its train split"):
        served_jobs(make_plan([few_shot], ["synthetic-aux"]), OpenDatasets())


def test_a_dataset_that_cannot_be_opened_is_left_to_the_run(few_shot, tmp_path):
    plan = make_plan([few_shot], ["mpdd"], data_root=tmp_path)
    assert len(served_jobs(plan, OpenDatasets())) == 1
