"""A stream of many maps is measured exactly in memory that does not grow with it."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.mark.slow
def test_a_long_stream_is_exact_within_a_tenth_of_the_memory_of_its_maps(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import metrics_stream

    maps, size = 500, 164
    whole = 4 * maps * size**2
    done = metrics_stream.measure(maps, size, whole // 10)
    assert done.found.keys() >= done.expected.keys()
    for name, value in done.expected.items():
        assert done.found[name] == pytest.approx(value, abs=1e-10), name
        assert 0.1 < value < 0.95
    assert done.spilled > whole * 0.8
