"""Features kept in half precision: what moves on the built-in set, by how much, and who says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from zsad.bench import load_dataset
from zsad.bench.errors import UsageError
from zsad.bench.metric_table import HEADLINES
from zsad.bench.progress import Progress
from zsad.bench.records.record import read_records
from zsad.bench.records.run_folder import plan_path
from zsad.bench.running.cells import start_run
from zsad.bench.running.identity import Identities
from zsad.bench.running.open_datasets import OpenDatasets
from zsad.bench.running.plan import make_plan
from zsad.bench.running.runner import run

BOUNDS = {"anomalyclip": 0.0005, "april_gan": 0.02}  # of a headline metric in any category
FEW = {"limit": 5, "gallery": 0}
METHODS = ("clip", "anomalyclip", {"name": "april_gan", "options": {"epochs": 1}})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run from full features and from halved ones."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZSAD_FEATURES", str(folder / "features"))
        found = {}
        for precision in ("full", "fp16"):
            plan = make_plan(METHODS, out=folder / precision, feature_precision=precision, **FEW)
            found[precision] = plan, {r.cell.method: r for r in read_records(run(plan))}
        yield found


def movement(one, other):
    """The largest difference of a headline metric in a category."""
    return max(
        abs(a.metrics[name] - b.metrics[name])
        for a, b in zip(one.categories, other.categories, strict=True)
        for name in HEADLINES
    )


def test_only_what_is_learned_moves_and_by_less_than_its_bound(runs):
    (_, full), (_, half) = runs["full"], runs["fp16"]
    assert movement(full["clip"], half["clip"]) == 0
    for name, bound in BOUNDS.items():
        assert movement(full[name], half[name]) < bound
        weights = [r[name].protocol["checkpoint_sha256"] for r in (full, half)]
        assert weights[0] != weights[1]


def test_records_state_half_precision_where_it_was_learned_from_and_only_there(runs):
    for precision, stated in (("full", None), ("fp16", "fp16")):
        plan, records = runs[precision]
        identities = Identities(plan, OpenDatasets())
        for job in plan.jobs():
            learned = job.cell.method in BOUNDS
            identity = identities.of_job(job, load_dataset("synthetic"))
            found = records[job.cell.method].protocol.get("feature_precision")
            assert found == identity.get("feature precision") == (stated if learned else None)


def test_a_run_of_one_precision_is_not_continued_in_the_other(runs):
    plan, _ = runs["full"]
    other = make_plan(METHODS, out=plan.out, feature_precision="fp16", **FEW)
    with pytest.raises(UsageError, match=r"feature-precision full, not fp16"):
        start_run(other, other.jobs(), OpenDatasets(), Progress())


def test_a_run_of_a_version_without_the_setting_is_continued(runs):
    plan, _ = runs["full"]
    path = plan_path(Path(plan.out))
    stored = json.loads(path.read_text())
    del stored["feature_precision"]
    path.write_text(json.dumps(stored))
    start_run(plan, plan.jobs(), OpenDatasets(plan.limit), Progress())
    assert len(read_records(plan.out)) == len(METHODS)
