"""benchmarks/performance_page.py writes what was measured, and finds where the page is stale."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "performance_page.py"
MACHINE = {"device": "a chip", "threads": 2, "python": "3.11", "torch": "2.9", "numpy": "2.3"}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("zsad_test_performance_page", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(folder: Path, name: str, seconds: float, ratios: dict[str, float]) -> None:
    """Write what a script found on a machine."""
    rows = {"title": f"Of {name}", "headers": ["part", "s"], "rows": [["it", seconds]]}
    content = {
        "script": name,
        "tables": [{**rows, "floats": ".1f"}],
        "ratios": ratios,
        "machine": MACHINE,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content))


def test_the_page_of_performance_is_not_stale(script):
    text = script.PAGE.read_text(encoding="utf-8")
    assert script.page(text, script.RESULTS) == text, "run benchmarks/performance_page.py"


def test_what_a_machine_measured_stands_on_the_page_with_the_cost_model_first(script, tmp_path):
    measured(tmp_path / "cpu", "builtin", 1.0, {"fast against slow": 0.5})
    measured(tmp_path / "cpu", "cost_model", 2.0, {})
    page = script.page(f"before {script.BEGIN} old {script.END} after", tmp_path)
    assert page.startswith("before ") and page.endswith(" after") and " old " not in page
    assert page.index("Of cost_model") < page.index("Of builtin")
    assert "a chip, 2 threads" in page and "fast against slow: 0.50x" in page


def test_a_number_that_moved_makes_the_page_stale(script, tmp_path, monkeypatch):
    measured(tmp_path / "cpu", "builtin", 1.0, {})
    stale = tmp_path / "performance.md"
    stale.write_text(script.page(f"{script.BEGIN}{script.END}", tmp_path))
    monkeypatch.setattr(script, "PAGE", stale)
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    monkeypatch.setattr("sys.argv", ["performance_page.py", "--check"])
    script.main()
    measured(tmp_path / "cpu", "builtin", 3.0, {})
    with pytest.raises(SystemExit, match=r"is stale: python benchmarks/performance_page\.py"):
        script.main()
