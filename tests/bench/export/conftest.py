"""A run whose records are exported; nothing here imports torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from zsad.bench.records.record import Record, read_records

MADE_RUN = Path(__file__).parents[1] / "made_run.py"


@pytest.fixture(scope="session")
def exported_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on two datasets; one of them with two seeds of each, and a cell that failed."""
    spec = importlib.util.spec_from_file_location("zsad_test_exported_run", MADE_RUN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run: Path = tmp_path_factory.mktemp("exported")
    small = {"images": 10, "keep": 0}
    module.make_run(run, ("CLIP",), ("visa", "elpv"), **small, failing=("CLIP", "elpv"))
    module.make_run(run, ("FAPrompt",), ("visa", "elpv"), **small, seeds=(1, 2))
    return run


@pytest.fixture(scope="session")
def exported(exported_run) -> list[Record]:
    return read_records(exported_run)
