"""Imports between the modules of the project run one way, and what needs no torch imports none."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest


def _script() -> ModuleType:
    path = Path(__file__).parents[1] / "docs" / "import_graph.py"
    spec = importlib.util.spec_from_file_location("import_graph", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


IMPORTS = _script()
MODULES, GRAPH, ABOVE = IMPORTS.modules(), IMPORTS.graph(), IMPORTS.ABOVE
# What a method or a dataset may import of bench.
CONTRACT = {
    "anomaly_maps",
    "backbone",
    "category",
    "content",
    "dataset",
    "errors",
    "folders",
    "images",
    "method",
    "metrics",
    "names",
    "options",
    "packages",
    "preprocess",
    "prompt_learner",
    "prompts",
    "query",
    "randomness",
    "rows",
    "scratch",
}
# What a room may import of the others; every room may import what lies in bench itself.
MAY_IMPORT = {
    "metrics": set(),
    "data": {"metrics"},
    "records": {"data"},
    "training": {"data", "records"},
    "running": {"metrics", "data", "records", "training"},
    "analysis": {"metrics", "data", "records"},
    "report": {"data", "records", "analysis"},
    "export": {"data", "records", "analysis"},
    "site": {"data", "records", "analysis", "report"},
    "cli": {"data", "records", "training", "running", "analysis", "report", "export", "site"},
}
PUBLIC = {
    "zsad.bench": tuple(importlib.import_module("zsad.bench").__all__),
    "zsad.bench.backbone": ("Backbone", "BackboneSpec", "TokenSpec", "VisualFeatures"),
    "zsad.bench.cli": ("main",),
    "zsad.bench.conformance": ("check_dataset", "check_method"),
    "zsad.bench.dataset": ("Dataset", "Sample"),
    "zsad.bench.errors": ("DataError", "UsageError", "WeightsError", "ZsadError"),
    "zsad.bench.method": (
        "Method",
        "Options",
        "Prediction",
        "Query",
        "Schedule",
        "TrainableMethod",
    ),
    "zsad.bench.metrics": ("PixelAccumulator", "auroc", "image_metrics"),
    "zsad.bench.registry": ("create", "dataset_class", "load_dataset", "method_class", "names"),
    "zsad.bench.sample": ("CategoryInfo", "Counts", "Dataset", "Sample", "Source", "locate"),
    "zsad.bench.training": ("fit", "train"),
    "zsad.bench.weights": ("load_backbone", "random_backbone"),
}


def test_the_graph_sees_imports():
    assert "zsad.bench.backbone" in GRAPH["zsad.methods.clip"]
    assert "zsad.bench.cli.app" in GRAPH["zsad.bench.cli"]


def test_no_modules_import_each_other_in_a_circle():
    try:
        list(TopologicalSorter(GRAPH).static_order())
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize("folder", ["methods", "datasets"])
def test_methods_and_datasets_import_the_contract_alone(folder):
    allowed = {f"zsad.bench.{name}" for name in CONTRACT}
    own = [module for module in MODULES if module.startswith(f"zsad.{folder}")]
    foreign = {
        f"{module} -> {target}"
        for module in own
        for target in GRAPH[module]
        if target not in allowed and not target.startswith(f"zsad.{folder}")
    }
    assert not foreign


def test_bench_names_no_method_and_no_dataset():
    named = {
        f"{module} -> {target}"
        for module, targets in GRAPH.items()
        for target in targets
        if module.startswith("zsad.bench") and not target.startswith("zsad.bench")
    }
    assert not named


def test_the_picture_of_the_rooms_shows_the_imports():
    assert IMPORTS.PICTURE.read_text("utf-8") == IMPORTS.picture(ABOVE)


def test_rooms_import_what_lies_below_them():
    upward = {
        f"{module} -> {target}"
        for module, targets in GRAPH.items()
        for target in targets
        if module.startswith("zsad.bench") and module not in ABOVE and IMPORTS.room(target)
        if IMPORTS.room(target) != IMPORTS.room(module)
        and IMPORTS.room(target) not in MAY_IMPORT.get(IMPORTS.room(module), set())
    }
    assert not upward


@pytest.mark.parametrize("room", ["records", "analysis", "report", "export", "site"])
def test_readers_of_records_import_no_torch(room):
    modules = [module for module in MODULES if IMPORTS.room(module) == room]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_stay_after_everything_has_been_imported(module):
    others = [name for name in MODULES if name.startswith("zsad.bench.") and "__main__" not in name]
    for name in others:
        importlib.import_module(name)
    missing = [name for name in PUBLIC[module] if not _is_usable(module, name)]
    assert not missing


def _is_usable(module: str, name: str) -> bool:
    found = getattr(importlib.import_module(module), name, None)
    return found is not None and callable(found)
