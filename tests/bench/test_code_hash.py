"""The modules whose source stands in the identity of a result are modules of the project."""

from __future__ import annotations

import importlib.util

import pytest
from zsad.bench.code_hash import LEARNING, SCORING, bench_code


@pytest.mark.parametrize("module", sorted({*LEARNING, *SCORING}))
def test_a_module_that_decides_numbers_is_there(module):
    assert importlib.util.find_spec(f"zsad.bench.{module}") is not None


def test_every_listed_module_counts():
    assert len({bench_code(SCORING[:n]) for n in range(len(SCORING) + 1)}) == len(SCORING) + 1
