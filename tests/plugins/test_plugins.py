"""Plug-ins outside of the project keep the contract and run end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
from zsad.bench import registry, run
from zsad.bench.conformance import check_method
from zsad.bench.records.record import read_records

HERE = Path(__file__).parent
PLUGINS = {
    "hybrid_tokens": "zsad_hybrid_tokens:HybridTokens",
    "category_contrast": "zsad_category_contrast:CategoryContrast",
}
MOST_LINES = 80


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The plug-ins as packages that lie on the path."""
    info = tmp_path / "zsad_test_plugins-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zsad-test-plugins\nVersion: 0.1\n")
    points = "".join(f"{name} = {place}\n" for name, place in PLUGINS.items())
    (info / "entry_points.txt").write_text(f"[zsad.methods]\n{points}")
    for folder in (tmp_path, HERE):
        monkeypatch.syspath_prepend(str(folder))
    registry.entries.cache_clear()
    yield
    registry.entries.cache_clear()


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plug_in_keeps_the_contract_and_runs_end_to_end(name, installed, tmp_path):
    check_method(registry.method_class(name))
    plan = {"methods": [name], "datasets": ["synthetic"], "limit": 1, "out": tmp_path / "run"}
    (record,) = read_records(run(plan))
    assert record.status == "ok"
    assert record.track == registry.method_class(name).track
    assert {"image_auroc", "pixel_auroc"} <= set(record.categories[0].metrics)


@pytest.mark.parametrize("place", PLUGINS.values())
def test_a_plug_in_is_short_and_imports_what_is_public(place):
    source = (HERE / f"{place.partition(':')[0]}.py").read_text()
    assert len(source.splitlines()) < MOST_LINES
    public = ("anomaly_maps", "backbone", "category", "method", "prompt_learner", "prompts")
    for line in source.splitlines():
        if line.startswith("from zsad"):
            assert line.split()[1] in {f"zsad.bench.{module}" for module in public}
