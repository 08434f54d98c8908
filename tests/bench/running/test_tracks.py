"""Runs of methods that see more than the scored image: what their records state, and resumption."""

from __future__ import annotations

import dataclasses
import json

import pytest
from zsad.bench import load_dataset, run
from zsad.bench.errors import DataError
from zsad.bench.records.record import read_records
from zsad.bench.records.run_folder import record_path
from zsad.bench.running.identity import Identities
from zsad.bench.running.open_datasets import OpenDatasets
from zsad.bench.running.plan import make_plan
from zsad.bench.track import Track
from zsad.bench.training.references import references_of

FEW_SHOT = {"name": "winclip_few_shot", "variant": "one_shot"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of a method of each track, on two seeds, and its records by method and seed."""
    out = tmp_path_factory.mktemp("run")
    plan = make_plan(
        ["clip", "musc", FEW_SHOT], ["synthetic"], seeds=[111, 1], limit=2, out=out, gallery=0
    )
    return plan, {(r.cell.method, r.cell.seed): r for r in read_records(run(plan))}


def test_records_state_their_track_and_few_shot_cells_are_run_with_every_seed(finished):
    _, records = finished
    assert {key: record.track for key, record in records.items()} == {
        ("clip", 111): Track.ZERO_SHOT,
        ("musc", 111): Track.TRANSDUCTIVE,
        ("winclip_few_shot", 111): Track.FEW_SHOT,
        ("winclip_few_shot", 1): Track.FEW_SHOT,
    }
    assert {record.status for record in records.values()} == {"ok"}


def test_the_protocol_states_the_references(finished):
    _, records = finished
    dataset = load_dataset("synthetic")
    for seed in (111, 1):
        protocol = records["winclip_few_shot", seed].protocol
        shown = references_of(dataset, 1, seed)
        assert (protocol["shots"], protocol["references"]) == (1, len(dataset.categories))
        assert protocol["references_sha256"] == dataset.fingerprint_of(shown)
    assert "shots" not in records["clip", 111].protocol
    both = [records["winclip_few_shot", seed].by_category for seed in (111, 1)]
    assert any(both[0][c].images.scores != both[1][c].images.scores for c in both[0])


def test_only_the_identity_of_few_shot_cells_has_references_and_it_follows_the_seed(finished):
    plan, _ = finished
    identities = Identities(plan, OpenDatasets(plan.limit))
    found = {
        (job.cell.method, job.cell.seed): identities.of_job(job, load_dataset("synthetic"))
        for job in plan.jobs()
    }
    shown = [identity.get("references") for identity in found.values()]
    assert shown[:2] == [None, None]
    assert len(set(shown[2:])) == 2


def test_a_category_that_is_done_is_not_done_again(finished, tmp_path):
    plan, records = finished
    path = record_path(tmp_path, records["musc", 111].cell)
    again = dataclasses.replace(plan, out=str(tmp_path), methods=plan.methods[1:2])
    run(again)
    first = json.loads(path.read_text())
    run(again)
    assert json.loads(path.read_text()) == first
    own = {c: r.images.scores for c, r in records["musc", 111].by_category.items()}
    assert {c["category"]: c["images"]["scores"] for c in first["categories"]} == own


def test_a_plan_of_nothing_but_datasets_without_normal_training_images_is_refused(tmp_path):
    plan = make_plan([FEW_SHOT], ["synthetic_aux"], limit=1, out=tmp_path, auxiliary="synthetic")
    with pytest.raises(DataError, match="synthetic-aux has none: get its train split"):
        run(plan)
