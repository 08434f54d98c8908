"""Thresholds hold what they promise: quantiles, false-alarm rates, the greatest F1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from zsad.bench import create, load_backbone, predict_images
from zsad.bench.errors import UsageError
from zsad.bench.metrics import f1_max
from zsad.bench.thresholds import (
    conformal_threshold,
    f1_threshold,
    p_values,
    quantile_threshold,
)

SCORES = st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=1, max_size=30)
FEW = st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(FEW, st.sampled_from((0.1, 0.125, 0.2, 0.29, 0.5, 0.9)))
def test_of_all_images_alike_at_most_alpha_are_above_a_conformal_threshold(others, alpha):
    """Each of N + 1 exchangeable images is the new one equally often: this is the guarantee."""
    everything = np.array([*others, 0.5])
    if np.floor(len(everything) * alpha + 1e-9) < 1:
        return
    alarms = [
        new > conformal_threshold(np.delete(everything, place), alpha)
        for place, new in enumerate(everything)
    ]
    assert np.mean(alarms) <= alpha + 1e-9
    if len(set(everything)) == len(everything):
        assert sum(alarms) == np.floor(len(everything) * alpha + 1e-9)


@settings(max_examples=60, deadline=None)
@given(SCORES, SCORES, st.sampled_from((0.1, 0.29, 0.5)))
def test_a_score_is_above_the_threshold_if_its_p_value_is_at_most_alpha(normal, scores, alpha):
    if np.floor((len(normal) + 1) * alpha + 1e-9) < 1:
        return
    above = np.array(scores) > conformal_threshold(normal, alpha)
    assert (above == (p_values(normal, scores) <= alpha + 1e-9)).all()


def test_p_values_count_the_normal_images_that_score_as_high():
    assert p_values([1, 2, 3, 4], [0, 2, 4, 9]).tolist() == [1, 0.8, 0.4, 0.2]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=25))
def test_the_threshold_of_the_greatest_f1_reaches_it(pairs):
    labels, scores = np.array(pairs).T
    if len(set(labels)) == 1:
        with pytest.raises(UsageError, match="normal and anomalous"):
            f1_threshold(labels, scores)
        return
    threshold = f1_threshold(labels, scores)
    assert f1_score(labels, scores > threshold) == pytest.approx(f1_max(labels, scores))


def test_a_threshold_lies_midway_between_the_scores_that_it_parts():
    assert f1_threshold([0, 0, 1, 1], [0.0, 0.25, 0.75, 1.0]) == 0.5
    neighbours = np.nextafter(1.0, 2.0)
    assert f1_threshold([0, 1], [1.0, neighbours]) == 1.0


def test_a_quantile_is_interpolated():
    assert quantile_threshold([0, 1, 2, 3], 0.5) == 1.5


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: conformal_threshold(np.zeros(18), 0.05), "at least 19 normal images, here are 18"),
        (lambda: conformal_threshold([1.0], 1.0), "between 0 and 1"),
        (lambda: conformal_threshold([], 0.5), "no normal images"),
        (lambda: quantile_threshold([1.0], 1.5), "lies in"),
        (lambda: p_values([], [1.0]), "no normal images"),
    ],
)
def test_what_cannot_be_promised_is_refused(call, says):
    with pytest.raises(UsageError, match=says):
        call()
    assert conformal_threshold(np.arange(19), 0.05) == 18


@pytest.mark.slow
def test_the_false_alarm_rate_on_new_drawings_is_alpha():
    """50 draws of 19 normal images to calibrate with and 10 new ones; (19 + 1) alpha is whole."""
    from zsad.datasets._kinds import TEST_KINDS
    from zsad.datasets._synthetic import draw

    alpha, draws, calibrated, fresh = 0.1, 50, 19, 10
    method = create("clip", load_backbone("tiny"))
    rates = []
    with torch.inference_mode():
        for seed in range(draws):
            random = np.random.default_rng([8191, seed])
            kinds = random.integers(len(TEST_KINDS), size=calibrated + fresh)
            pictures = [draw(TEST_KINDS[kind], None, random).normal for kind in kinds]
            scores = predict_images(method, pictures, "object", batch_size=29).scores.numpy()
            threshold = conformal_threshold(scores[:calibrated], alpha)
            rates.append((scores[calibrated:] > threshold).mean())
    error = np.std(rates, ddof=1) / draws**0.5
    assert error < alpha / 5  # else the test could not tell 0.1 from 0.05 or 0.15
    assert abs(np.mean(rates) - alpha) <= 2 * error
