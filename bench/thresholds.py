"""From which anomaly score on an image counts as anomalous, and how rare a score is among normal.

A score counts as anomalous if it is above the threshold, never at it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import UsageError

Scores = NDArray[np.float64]


def quantile_threshold(normal: ArrayLike, quantile: float) -> float:
    """The quantile of normal scores, interpolated between two of them.

    Args:
        normal: scores [N] of normal images.
        quantile: in [0, 1].

    Raises:
        UsageError: there are no scores, or the quantile is not in [0, 1].
    """
    if not 0 <= quantile <= 1:
        raise UsageError(f"a quantile lies in [0, 1], not at {quantile}")
    return float(np.quantile(_some(normal), quantile))


def conformal_threshold(normal: ArrayLike, alpha: float) -> float:
    """The threshold that a new normal image exceeds with a probability of at most alpha.

    It is the k-th smallest of the N normal scores, k = N + 1 - floor((N + 1) alpha). If the new
    image is exchangeable with the N, its false-alarm rate is floor((N + 1) alpha) / (N + 1) without
    ties, and at most that with ties. A score is above it if and only if its `p_values` is at most
    alpha.
    Source: Papadopoulos et al., "Inductive Confidence Machines for Regression", ECML 2002;
    Laxhammar and Falkman, "Conformal Prediction for Distribution-Independent Anomaly Detection in
    Streaming Vessel Data", 2010.

    Args:
        normal: scores [N] of normal images on which the method was not trained.
        alpha: false-alarm rate in (0, 1).

    Raises:
        UsageError: alpha is not in (0, 1), or the images are too few for it.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"a false-alarm rate lies between 0 and 1, not at {alpha}")
    scores = np.sort(_some(normal))
    allowed = _alarms(scores.size, alpha)
    if allowed == 0:
        needed = _images_for(alpha)
        raise UsageError(
            f"a false-alarm rate of {alpha} needs at least {needed} normal images, here are "
            f"{scores.size}: give more images, or a greater rate (from {1 / (scores.size + 1):.2g})"
        )
    return float(scores[scores.size - allowed])


def _alarms(count: int, alpha: float) -> int:
    """floor((count + 1) alpha), where a product just below a whole number counts as that."""
    return math.floor((count + 1) * alpha + 1e-9)


def _images_for(alpha: float) -> int:
    """The fewest normal images that can show a false-alarm rate."""
    count = max(1, math.floor(1 / alpha) - 1)
    return count if _alarms(count, alpha) else count + 1


def p_values(normal: ArrayLike, scores: ArrayLike) -> Scores:
    """How surprising scores are among normal ones: (1 + how many are at least as high) / (N + 1).

    For a normal image exchangeable with the N the probability of a value of at most p is at most p.
    Source: Bates et al., "Testing for Outliers with Conformal p-values", Annals of Statistics 2023.

    Args:
        normal: scores [N] of normal images.
        scores: [B], greater is more anomalous.

    Returns:
        [B] in [1 / (N + 1), 1].

    Raises:
        UsageError: there are no normal scores.
    """
    ordered = np.sort(_some(normal))
    below = np.searchsorted(ordered, np.asarray(scores, np.float64), side="left")
    return (1.0 + ordered.size - below) / (ordered.size + 1)


def f1_threshold(labels: ArrayLike, scores: ArrayLike) -> float:
    """The threshold with the greatest F1 score, midway between two scores.

    Of several the highest is taken, which raises the fewest alarms.

    Args:
        labels: [N], 0 normal, 1 anomalous.
        scores: [N], greater is more anomalous.

    Raises:
        UsageError: there is no normal or no anomalous one.
    """
    truth = np.asarray(labels).astype(bool).ravel()
    values = _some(scores).ravel()
    if truth.all() or not truth.any():
        raise UsageError(
            "F1-max needs normal and anomalous images, and only one kind is there: give both"
        )
    order = np.argsort(-values, kind="stable")
    values, truth = values[order], truth[order]
    last = np.append(values[1:] != values[:-1], True)  # of equal scores
    found = np.cumsum(truth)[last]
    reported = np.flatnonzero(last) + 1
    best = int(np.argmax(2 * found / (reported + truth.sum())))
    end = int(reported[best])
    if end == values.size:
        return float(np.nextafter(values[-1], -np.inf))
    return float(_between(values[end], values[end - 1]))


def _between(low: float, high: float) -> float:
    """A number from `low` (included) to `high` (excluded), midway where there is one."""
    middle = low + (high - low) / 2
    return middle if middle < high else low


def _some(values: ArrayLike) -> Scores:
    array = np.asarray(values, np.float64)
    if not array.size:
        raise UsageError("there are no normal images to compare with: give some")
    return array
