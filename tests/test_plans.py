"""docs/plans: every table and figure of the paper has a plan that runs and commands that work."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import pytest
from zsad.bench import run
from zsad.bench.analysis import published
from zsad.bench.analysis.tables import LAYOUTS
from zsad.bench.cli import app as cli
from zsad.bench.names import registry_name
from zsad.bench.records.record import read_records
from zsad.bench.registry import method_class
from zsad.bench.running.plan import DatasetPlan, MethodPlan, Plan, read_plan

ROOT = Path(__file__).parents[1]
PLANS = {path.stem: path for path in sorted((ROOT / "docs" / "plans").glob("*.toml"))}
QUICK = ("averaging", "prompt-scores", "tcp")  # the others train more than three methods
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (\d+) \| [^|]+ \| `([a-z-]+)` \| ([^|]+) \| ([^|]*)\|$", re.MULTILINE)
_tables, _, _figures = PAGE.partition("\n## Figures")
TABLES = {int(number): rest for number, *rest in ROW.findall(_tables)}
FIGURES = {int(number): rest for number, *rest in ROW.findall(_figures)}


def small(plan: Plan, out: Path, small_options) -> Plan:
    """The plan on two small built-in sets of one domain, one image and one epoch each."""
    return dataclasses.replace(
        plan,
        methods=tuple(_small_method(entry, small_options) for entry in plan.methods),
        datasets=(DatasetPlan("synthetic_goods"), DatasetPlan("synthetic_parts")),
        backbone="tiny",
        out=str(out),
        limit=2,
        auxiliary_limit=1,
        gallery=0,
    )


def _small_method(entry: MethodPlan, small_options) -> MethodPlan:
    options = {**entry.options, **small_options(entry.name)}
    if hasattr(method_class(entry.name).variants[entry.variant], "epochs"):
        options["epochs"] = 1
    return dataclasses.replace(entry, options=options)


def commands_of(path: Path) -> list[list[str]]:
    """The words of the zsad commands in a plan's first lines."""
    return [line.split()[2:] for line in path.read_text().splitlines() if line.startswith("#   ")]


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PLANS],
)
def test_a_plan_runs_and_its_commands_show_every_method(
    name, tmp_path, monkeypatch, capsys, small_options
):
    plan = small(read_plan(PLANS[name]), tmp_path / "run", small_options)
    records = read_records(run(plan))
    assert {record.status for record in records} == {"ok"}
    assert {record.cell for record in records} == set(plan.cells())
    runs, *others = commands_of(PLANS[name])
    assert runs[:2] == ["run", f"docs/plans/{name}.toml"]
    stated = read_plan(PLANS[name]).out
    assert others
    for words in others:
        assert words[1] == stated
        monkeypatch.setattr(sys, "argv", ["zsad", words[0], str(plan.out), *words[2:]])
        with pytest.raises(SystemExit) as stop:
            cli.main()
            raise SystemExit(0)
        said = capsys.readouterr()
        assert not stop.value.code, said.err
        assert "failed" not in said.out


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_of_the_papers_datasets_and_backbones(name):
    plan = read_plan(PLANS[name])
    assert plan.backbone == "published"
    assert plan.limit is None
    assert {entry.name for entry in plan.datasets} <= {
        registry_name(name) if name != "MVTecAD" else "mvtec_ad" for name in published.datasets()
    }
    assert plan.out == f"results/runs/{name}"


def test_every_table_of_the_paper_has_a_row_with_a_plan_and_a_command():
    assert list(TABLES) == list(range(1, 22))
    assert list(FIGURES) == list(range(3, 8))
    for plan, command, _ in (*TABLES.values(), *FIGURES.values()):
        assert plan in PLANS
        shown = re.findall(r"`(zsad (?:table|figure) RUN [^`]+)`", command)
        assert shown
        for text in shown:
            layout = re.search(r"--layout (\S+)", text)
            assert layout is None or registry_name(layout[1]) in LAYOUTS
            words = [words for words in commands_of(PLANS[plan]) if words[0] != "run"]
            kind = text.split()[3:5]
            assert any(kind == own[2:4] for own in words), f"{plan}: {text}"
    assert {plan for plan, *_ in (*TABLES.values(), *FIGURES.values())} == set(PLANS)


def test_every_table_with_printed_numbers_is_shown_by_the_layout_that_has_them():
    layouts = {number: TABLES[number][1] for number in TABLES}
    of_numbers = {number.table for number in published.everything()}
    assert of_numbers == set(TABLES) - {4, 5, 6}
    expected = {1: "image", 2: "pixel", 7: "full-shot", 8: "tcp", 9: "averaging"}
    expected |= {11: "hyperparameters", 4: "datasets", 5: "datasets", 6: "complexity"}
    expected |= dict.fromkeys((3, 10, 20, 21), "ablation")
    expected |= dict.fromkeys(range(12, 20), "breakdown")
    for number, layout in expected.items():
        assert f"--layout {layout} --published`" in layouts[number]
    lacking = [row for row in published.rows("averaging.csv") if not row["auroc"]]
    for model in {row["variant"] for row in lacking}:
        assert model in TABLES[9][2]
