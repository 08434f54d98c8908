"""A run on all built-in sets: means over domains, and sets without metrics of a level."""

from __future__ import annotations

import pytest
from zsad.bench import run
from zsad.bench.analysis.tables import make_table
from zsad.bench.data.check import built_in_names
from zsad.bench.running.plan import make_plan


@pytest.fixture(scope="module")
def every_built_in_set(tmp_path_factory):
    """A run of one method on two images of each category and label of all built-in sets."""
    out = tmp_path_factory.mktemp("every") / "run"
    run(make_plan(["clip"], ["builtin-all"], limit=2, gallery=0, out=str(out)))
    return out


def _rows(table):
    """Domain -> labels of its rows."""
    found = {}
    for row in table.rows:
        found.setdefault(row.group, []).append(row.label)
    return found


def test_builtin_all_means_every_set_that_is_drawn_to_be_tested_on():
    names = [entry.name for entry in make_plan(["clip"], ["builtin-all"]).datasets]
    assert names == built_in_names()
    assert names[0] == "synthetic"
    assert "synthetic_aux" not in names
    assert [entry.name for entry in make_plan(["clip"]).datasets] == ["synthetic"]


@pytest.mark.parametrize(
    ("level", "shown", "left_out", "why"),
    [
        ("image", "Synthetic-scans", "Synthetic-polyps", "there is no normal image"),
        ("pixel", "Synthetic-polyps", "Synthetic-scans", "the dataset has no pixel-level masks"),
    ],
)
def test_each_domain_has_a_mean_over_the_sets_that_have_the_metric(
    every_built_in_set, level, shown, left_out, why
):
    table = make_table(every_built_in_set, level)
    assert _rows(table) == {
        "synthetic": ["Synthetic"],
        "surfaces": ["Synthetic-fabrics", "Synthetic-stones", "Mean"],
        "objects": ["Synthetic-goods", "Synthetic-parts", "Mean"],
        "lesions": ["Synthetic-moles", shown, "Mean"],
    }
    assert f"Not shown: {left_out} ({why})." in table.remarks
    *parts, mean = (row.cells[0].numbers[0].value for row in table.rows if row.group == "lesions")
    assert mean == pytest.approx(sum(parts) / len(parts))
