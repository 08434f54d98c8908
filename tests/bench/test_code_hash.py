"""What stands in the hash of code: modules of the project, and the texts beside a module."""

from __future__ import annotations

import importlib.util

import pytest
from zsad.bench.code_hash import LEARNING, SCORING, bench_code, class_code


@pytest.mark.parametrize("module", sorted({*LEARNING, *SCORING}))
def test_a_module_that_decides_numbers_is_there(module):
    assert importlib.util.find_spec(f"zsad.bench.{module}") is not None


def test_every_listed_module_counts():
    assert len({bench_code(SCORING[:n]) for n in range(len(SCORING) + 1)}) == len(SCORING) + 1


def test_the_texts_of_a_module_count(tmp_path, monkeypatch):
    """The words of prompts lie in a TOML file with the name of the module that reads them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "zsad_worded.py").write_text("class Worded: ...\n")
    texts = tmp_path / "zsad_worded.toml"
    cls = type("Worded", (), {"__module__": "zsad_worded"})
    hashes = set()
    for written in (None, 'NORMAL = ["a flawless {}"]', 'NORMAL = ["a perfect {}"]'):
        if written is not None:
            texts.write_text(written)
        hashes.add(class_code(cls))
    assert len(hashes) == 3
