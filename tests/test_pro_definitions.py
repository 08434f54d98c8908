"""docs/pro_definitions.py measures PRO in several ways, and the page has what it found."""

import importlib.util
import json
import sys
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from zsad.bench import metrics
from zsad.bench.records.cell import Cell
from zsad.bench.records.maps import write_maps
from zsad.bench.records.record import CategoryResult, Record, write_record

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "docs" / "pro_definitions.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pro_definitions", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(text):
    """The rows of a table as words -> printed numbers."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows if len(row) > 1}


def test_the_page_shows_the_numbers_of_the_baseline(script):
    page = script.PAGE.read_text()
    rows = shown(page[page.index(script.BEGIN) : page.index(script.END)])
    assert [*rows][2:] == [*script.DEFINITIONS, script.POOLED]
    cells = json.loads((ROOT / "results" / "baselines" / "builtin.json").read_text())["cells"]
    for i, method in enumerate(("clip", "winclip")):
        categories = cells[f"{method}--official--synthetic--seed111"]["categories"].values()
        for metric in ("pixel_pro", "pixel_pro_official200"):
            (words,) = (words for words in rows if f"`{metric.replace('_', '-')}`" in words)
            mean = 100 * fmean(measured[metric] for measured in categories)
            assert float(rows[words][i]) == pytest.approx(mean, abs=0.051)


@pytest.fixture
def run(tmp_path):
    """A run of one method with maps, and these."""
    generator = np.random.default_rng(5)
    masks = np.zeros((6, 64, 64), bool)
    masks[::2, 8:30, 12:40] = True
    odds = generator.normal(size=masks.shape) + 2 * masks - 1
    maps = (1 / (1 + np.exp(-odds))).astype(np.float32)
    results = [CategoryResult("a", "a", 3, 3, {}, {})]
    record = Record(Cell("clip", "official", "visa", 111), "ok", "CLIP", results)
    write_record(tmp_path / "run", record)
    write_maps(tmp_path / "run", record.cell, "a", maps, masks)
    return tmp_path / "run", maps, masks


def test_every_definition_is_measured_on_the_kept_maps(script, run):
    folder, maps, masks = run
    rows = shown(script.table(folder))
    numbers = {words: float(row[0]) for words, row in [*rows.items()][2:]}
    exact = 100 * metrics.pro(masks, maps)
    (first, *_), every = numbers, [*numbers.values()]
    assert numbers[first] == pytest.approx(exact, abs=0.051)
    assert numbers["maps in 256 equal bins (pictures of 8 bits)"] == pytest.approx(exact, abs=0.3)
    assert numbers["a tenth of the temperature, every distinct value"] == pytest.approx(
        exact, abs=0.3
    )
    saturated = numbers["a fiftieth of the temperature, 200 equal steps"]
    assert abs(saturated - numbers[first]) > 3
    limits = [float(f"{100 * metrics.pro(masks, maps, fpr_limit=x):.1f}") for x in (0.05, 1.0)]
    assert set(limits) <= set(every)


def test_the_table_replaces_the_one_of_the_page(script, run, tmp_path, monkeypatch):
    page = tmp_path / "metrics.md"
    page.write_text(f"before\n{script.BEGIN}stale\n{script.END}after\n")
    monkeypatch.setattr(script, "PAGE", page)
    monkeypatch.setattr(sys, "argv", ["pro_definitions.py", str(run[0]), "--write"])
    script.main()
    text = page.read_text()
    assert text.startswith(f"before\n{script.BEGIN}| PRO of the same maps | CLIP |\n")
    assert text.endswith(f"|\n{script.END}after\n") and "stale" not in text
