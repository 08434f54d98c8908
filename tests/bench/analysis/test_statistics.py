"""Bootstrap, tests over datasets and ranks against direct computation and known values."""

import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from sklearn.metrics import average_precision_score, roc_auc_score
from zsad.bench.analysis import statistics as stats
from zsad.bench.analysis.statistics import (
    Sampled,
    StatsError,
    draw_critical_difference,
    holm,
    interval,
    paired,
    rank_methods,
    signed_rank,
)
from zsad.bench.errors import UsageError
from zsad.bench.metrics import auroc, average_precision


def bootstrap(categories, metric="image_auroc", *rest, **settings):
    """Values and replicates of one metric."""
    return stats.bootstrap(categories, [metric], *rest, **settings)[metric]


def images(seed=0, size=30, separation=1.0, rows=1):
    generator = np.random.default_rng(seed)
    labels = np.tile([0, 1], size // 2)
    scores = generator.normal(size=(rows, size)) + separation * labels
    return Sampled.of(labels, scores.round(1))  # rounded: many ties


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=20))
def test_values_on_all_images_are_the_exact_metrics(pairs):
    labels, scores = map(list, zip(*pairs, strict=True))
    if len(set(labels)) < 2:
        return
    sampled = Sampled.of(labels, [scores])
    for metric, exact in (("image_auroc", auroc), ("image_ap", average_precision)):
        (value,), _ = bootstrap([sampled], metric, replicates=1)
        assert value == pytest.approx(exact(labels, scores), abs=1e-12)


@pytest.mark.parametrize("resampling", ["stratified", "plain"])
def test_each_replicate_is_the_metric_of_a_drawn_set_of_images(resampling):
    sampled = images()
    ((_, weights),) = stats._resamples(sampled.labels, 50, np.random.default_rng(7), resampling)
    assert (weights[:, 0] == 1).all()
    _, auroc_replicates = bootstrap([sampled], "image_auroc", 50, 7, resampling)
    _, ap_replicates = bootstrap([sampled], "image_ap", 50, 7, resampling)
    for i, drawn in enumerate(weights[:, 1:].astype(int).T):
        labels = np.repeat(sampled.labels, drawn)
        scores = np.repeat(sampled.scores[0], drawn)
        assert auroc_replicates[0, i] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        found = average_precision_score(labels, scores)
        assert ap_replicates[0, i] == pytest.approx(found, abs=1e-12)


def test_stratified_keeps_the_numbers_of_both_labels_and_plain_does_not():
    labels = images().labels
    generator = np.random.default_rng(0)
    ((_, stratified),) = stats._resamples(labels, 100, generator, "stratified")
    ((_, plain),) = stats._resamples(labels, 100, generator, "plain")
    assert (stratified[labels].sum(axis=0) == labels.sum()).all()
    assert (stratified[~labels].sum(axis=0) == (~labels).sum()).all()
    assert (plain.sum(axis=0) == len(labels)).all()
    assert len(set(plain[labels].sum(axis=0))) > 1


def test_a_plain_replicate_without_both_labels_is_left_out():
    sampled = Sampled.of([0, 1], [[0.1, 0.9]])
    _, replicates = bootstrap([sampled], "image_auroc", 400, 0, "plain")
    assert 0 < replicates.shape[1] < 400
    assert np.isfinite(replicates).all()


def test_replicates_depend_on_the_seed_alone(monkeypatch):
    first = bootstrap([images()], "image_auroc", 64, seed=3)[1]
    assert np.array_equal(first, bootstrap([images()], "image_auroc", 64, seed=3)[1])
    assert not np.array_equal(first, bootstrap([images()], "image_auroc", 64, seed=4)[1])
    monkeypatch.setattr(stats, "CHUNK", 90)  # three replicates of 30 images at a time
    assert np.array_equal(first, bootstrap([images()], "image_auroc", 64, seed=3)[1])


def test_metrics_are_resampled_together_as_they_are_alone():
    categories = [images(1, rows=2), images(2, size=50, rows=2)]
    together = stats.bootstrap(categories, ["image_auroc", "image_ap"], 50)
    for metric, found in together.items():
        alone = bootstrap(categories, metric, 50)
        assert all(np.array_equal(a, b) for a, b in zip(found, alone, strict=True))


def test_a_seed_draws_what_it_drew_in_earlier_versions():
    _, auroc_replicates = bootstrap([images(1), images(2, size=50)], "image_auroc", 3)
    _, ap_replicates = bootstrap([images(1), images(2, size=50)], "image_ap", 3)
    assert auroc_replicates[0].tolist() == pytest.approx(
        [0.8096, 0.8214666666666667, 0.7604], abs=1e-12
    )
    assert ap_replicates[0].tolist() == pytest.approx(
        [0.8606453637316884, 0.8538925748164878, 0.7991946125025673], abs=1e-12
    )


def test_many_categories_do_not_hold_all_their_replicates():
    categories = [images(i, size=4) for i in range(500)]
    bootstrap(categories[:1], replicates=500)
    tracemalloc.start()
    try:
        bootstrap(categories, replicates=500)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500 * 500 * 8 / 4


def test_the_mean_over_categories_is_resampled_by_category():
    one, two = images(1), images(2, size=50)
    values, replicates = bootstrap([one, two], "image_auroc", 200)
    singly = [bootstrap([part], "image_auroc", 200)[0][0] for part in (one, two)]
    assert values[0] == pytest.approx(np.mean(singly))
    assert replicates.shape == (1, 200)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """AUROC of N(1, 1) against N(0, 1) is Phi(1 / sqrt(2)) = 0.7602."""
    hits = 0
    for seed in range(120):
        values, replicates = bootstrap([images(seed, size=120)], "image_auroc", 300, seed)
        found = interval(values[0], replicates[0], 0.9)
        hits += found.low <= 0.7602 <= found.high
    assert 0.82 <= hits / 120 <= 0.97


def test_pairing_makes_a_small_difference_visible():
    generator = np.random.default_rng(0)
    labels = np.tile([0, 1], 100)
    base = generator.normal(size=200) + labels
    better = base + 0.25 * labels
    values, replicates = bootstrap([Sampled.of(labels, [better, base])], "image_auroc", 1000)
    test = paired(values[0] - values[1], replicates[0] - replicates[1])
    alone = interval(values[1], replicates[1])
    assert test.difference.low > 0
    assert test.p < 0.01
    assert alone.high - alone.low > 3 * (test.difference.high - test.difference.low)


def test_equal_sides_have_p_one_and_p_is_never_zero():
    assert paired(0.0, np.zeros(99)).p == 1.0
    assert paired(1.0, np.ones(99)).p == pytest.approx(0.02)


def test_holm_is_the_known_step_down_correction():
    # Example from R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_never_lowers_a_p_value(ps):
    corrected = holm(ps)
    assert all(c >= p for c, p in zip(corrected, ps, strict=True))
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    assert [corrected[i] for i in order] == sorted(corrected)


def test_signed_rank_of_six_gains_is_the_smallest_exact_p():
    found = signed_rank([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert found is not None
    assert found.p == pytest.approx(2 / 2**6)
    assert signed_rank([0.0, 0.0]) is None
    left_out = signed_rank([0.0, 0.1, 0.2])
    assert left_out is not None
    assert left_out.n == 2


def demsar():
    """C4.5 with tuned parameters on 14 datasets: Table 6 of Demsar (2006), AUC."""
    return {
        "C4.5": [
            0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.000, 0.940, 0.619,
            0.972, 0.957,
        ],
        "C4.5+m": [
            0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.000, 0.962, 0.666,
            0.981, 0.978,
        ],
        "C4.5+cf": [
            0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.000, 0.965, 0.614,
            0.9751, 0.946,
        ],
        "C4.5+m+cf": [
            0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.000, 0.962, 0.669,
            0.975, 0.970,
        ],
    }  # fmt: skip


def test_ranks_are_those_of_the_published_example():
    pytest.importorskip("scikit_posthocs")
    ranking = rank_methods(demsar())
    ranks = dict(zip(ranking.names, ranking.ranks, strict=True))
    assert ranks["C4.5"] == pytest.approx(3.143, abs=0.001)
    assert ranks["C4.5+m"] == pytest.approx(2.000, abs=0.001)
    assert ranks["C4.5+cf"] == pytest.approx(2.893, abs=0.001)
    assert ranks["C4.5+m+cf"] == pytest.approx(1.964, abs=0.001)
    assert ranking.names[0] == "C4.5+m+cf"
    assert ranking.n_datasets == 14
    # Demsar: CD = 2.569 sqrt(20 / 84) = 1.25, chi2 = 9.28 with 3 degrees of freedom. He does not
    # correct chi2 for ties; the correction divides it by 1 - sum(t^3 - t) / (n (k^3 - k)).
    assert ranking.critical_difference == pytest.approx(1.25, abs=0.005)
    squares = sum(rank**2 for rank in ranks.values())
    uncorrected = 12 * 14 / (4 * 5) * (squares - 4 * 25 / 4)
    assert uncorrected == pytest.approx(9.28, abs=0.01)
    rows = np.transpose(list(demsar().values()))
    ties = sum(n**3 - n for row in rows for n in np.unique(row, return_counts=True)[1])
    corrected = uncorrected / (1 - ties / (14 * (4**3 - 4)))
    assert ranking.friedman_p == pytest.approx(chi2.sf(corrected, 3), rel=1e-6)
    place = ranking.names.index("C4.5")
    assert ranking.nemenyi[0][place] > 0.05
    assert ranking.nemenyi[place][place] == 1.0


def test_ranks_of_equal_methods_tie():
    pytest.importorskip("scikit_posthocs")
    ranking = rank_methods({name: [0.5, 0.6, 0.7] for name in "abc"})
    assert ranking.ranks == (2.0, 2.0, 2.0)
    assert ranking.friedman_p == 1.0


def test_too_little_to_rank_is_told():
    pytest.importorskip("scikit_posthocs")
    with pytest.raises(StatsError, match="three methods"):
        rank_methods({"a": [1, 2], "b": [1, 2]})
    with pytest.raises(StatsError, match="two datasets"):
        rank_methods({"a": [1], "b": [1], "c": [2]})


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scikit_posthocs", None)
    with pytest.raises(StatsError, match=r"zsad\[stats\]"):
        rank_methods(demsar())


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_diagram_is_written(tmp_path, suffix):
    pytest.importorskip("scikit_posthocs")
    path = tmp_path / "new" / f"cd{suffix}"
    draw_critical_difference(rank_methods(demsar()), path, "image_auroc")
    assert path.stat().st_size > 2000
    with pytest.raises(StatsError, match="cannot write"):
        draw_critical_difference(rank_methods(demsar()), tmp_path / "cd.unknown")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"replicates": 0}, "at least one"),
        ({"resampling": "weird"}, "stratified or plain"),
    ],
)
def test_wrong_settings_are_refused(change, words):
    with pytest.raises(UsageError, match=words):
        bootstrap([images()], "image_auroc", **{"replicates": 10, **change})
    with pytest.raises(UsageError, match="between 0 and 1"):
        interval(0.5, np.ones(3), level=95)


def test_scores_that_no_metric_takes_are_refused():
    with pytest.raises(StatsError, match="NaN"):
        Sampled.of([0, 1], [[0.1, float("nan")]])
    with pytest.raises(StatsError, match="length"):
        Sampled.of([0, 1, 1], [[0.1, 0.2]])
    with pytest.raises(StatsError, match="every category"):
        bootstrap([Sampled.of([1, 1], [[0.1, 0.2]])], "image_auroc")
