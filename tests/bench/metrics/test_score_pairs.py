"""Pairs of a score and a number sort as the scores do, and both come back."""

import numpy as np
from zsad.bench.metrics.score_pairs import numbers_of, packed, scores_of


def test_scores_rise_with_their_numbers_whatever_their_sign():
    rng = np.random.default_rng(0)
    most = np.finfo(np.float32).max
    special = np.array([0.0, -0.0, 1e-45, -1e-45, most, -most], np.float32)
    scores = np.concatenate([special, rng.normal(size=40_000).astype(np.float32), special])
    numbers = rng.integers(0, np.iinfo(np.int32).max, scores.size, dtype=np.int32, endpoint=True)
    pairs = packed(scores, numbers)
    assert np.array_equal(scores_of(pairs), scores) and np.array_equal(numbers_of(pairs), numbers)
    pairs.sort()
    order = np.lexsort((numbers, ~np.signbit(scores), scores))  # -0.0 comes before 0.0
    assert np.array_equal(scores_of(pairs), scores[order])
    assert np.array_equal(numbers_of(pairs), numbers[order])
