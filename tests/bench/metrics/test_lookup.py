import numpy as np
import pytest
from zsad.bench.metrics.lookup import count


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("levels", [3, 50, 10_000, 10**7])  # many to no equal numbers
def test_numbers_below_and_at_rising_values_are_counted(dtype, levels):
    rng = np.random.default_rng(levels)
    for n, m in [(0, 5), (1, 1), (31, 40), (32, 3), (33, 7), (5_000, 20), (40_000, 30_000)]:
        run = np.sort(rng.integers(0, levels, n).astype(dtype))
        values = np.unique(rng.integers(-2, levels + 2, m).astype(dtype))
        below, equal = np.ones(values.size, np.int64), np.ones(values.size, np.int64)
        count(run, values, below, equal)
        left, right = np.searchsorted(run, values), np.searchsorted(run, values, side="right")
        assert np.array_equal(below, 1 + left)  # added to what was there
        assert np.array_equal(equal, 1 + right - left)
