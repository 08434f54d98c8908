"""What `zsad plan` says of the cost of methods before anything is loaded."""

import json

from zsad.bench.records.cell import Cell
from zsad.bench.running.declared_costs import declared_costs
from zsad.bench.running.dry_run import dry_run
from zsad.bench.running.plan import make_plan
from zsad.bench.track import Track


def cost_of(method, variant, **options):
    cells = [Cell(method, variant, dataset, 111, options) for dataset in ("visa", "btad")]
    (cost,) = declared_costs(cells)
    return cost


def test_a_variant_declares_the_forwards_that_it_runs_itself():
    assert cost_of("clip", "official").work.forwards == 0
    assert cost_of("anovl", "paper").work.forwards == 21
    assert cost_of("anovl", "paper", script="visa").work.forwards == 0, "options count, too"
    assert cost_of("adaclip", "official").work.forwards == 1


def test_a_method_that_keeps_a_category_says_so():
    cost = cost_of("musc", "fixed")
    assert cost.track is Track.TRANSDUCTIVE
    assert cost.words() == (
        "musc@fixed: no parameters, the shared visual forward, transductive track, keeps the patch "
        "tokens of all images of a category, on disk beyond a budget, and their similarities in "
        "tiles of 64 MiB"
    )


def test_a_plan_states_what_is_still_to_be_paid(tmp_path):
    plan = make_plan(["adaclip", "clip"], limit=1, out=str(tmp_path / "run"))
    view = dry_run(plan)
    text = view.to_text()
    assert "cost of clip@official: no parameters, the shared visual forward\n" in text
    assert "10,665,472 parameters, the shared visual forward and 1 of its own per image\n" in text
    found = json.loads(view.to_json())["costs"]
    assert {one["method"]: one["work"]["forwards"] for one in found} == {"adaclip": 1, "clip": 0}
