import importlib.util
import os
import sys
from pathlib import Path

import pytest


def _load_trees():
    name = "zsad_test_trees"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("trees.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def pytest_generate_tests(metafunc):
    if "tree_case" in metafunc.fixturenames:
        cases = _load_trees().CASES
        metafunc.parametrize("tree_case", cases, ids=[case.id for case in cases])


@pytest.fixture
def build(tmp_path):
    """Build a case below a data root; returns (data root, the dataset's own folder)."""

    def make(case):
        folder = tmp_path / case.folder
        folder.mkdir(parents=True)
        case.build(folder)
        return tmp_path, folder

    return make


@pytest.fixture
def real_data():
    """The folder of real samples; tests that ask for it skip where it is not set."""
    folder = os.environ.get("ZSAD_DATA")
    if not folder:
        pytest.skip("ZSAD_DATA is not set")
    return Path(folder)
