"""Tests of paired differences: agreement with scipy, level under the null, correction and effect size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import permutation_test, wilcoxon

from medtrans.evaluation.statistics import holm, mean_interval, sign_flip_p, standardised_effect, wilcoxon_p


@pytest.mark.parametrize("n", [6, 20])
def test_both_tests_agree_with_scipy(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.4, 1, n)
    assert float(wilcoxon_p(differences)) == wilcoxon(differences).pvalue
    theirs = permutation_test((differences,), lambda x, axis: x.mean(axis=axis), permutation_type="samples", rng=0)
    assert float(sign_flip_p(differences)) == pytest.approx(theirs.pvalue, abs=1e-12 if n == 6 else 0.01)


def test_few_differences_are_permuted_exactly() -> None:
    assert float(sign_flip_p(np.ones(5))) == 2 / 32
    assert float(sign_flip_p(np.array([3.0, 2.0, -1.0]))) == 4 / 8


@pytest.mark.parametrize("test", [wilcoxon_p, sign_flip_p])
def test_no_difference_at_all_gives_one(test) -> None:  # type: ignore[no-untyped-def]  # either function
    lines = np.stack([np.zeros(20), np.full(20, 0.5)])
    p = test(lines)
    assert p[0] == 1
    assert p[1] < 1e-3


@pytest.mark.parametrize("seed", [0, 1])
def test_both_tests_hold_their_level_where_nothing_differs(seed: int) -> None:
    differences = np.random.default_rng(seed).normal(size=(5_000, 20))
    for p in (wilcoxon_p(differences), sign_flip_p(differences, seed=seed)):
        assert 0.041 <= (p <= 0.05).mean() <= 0.059


def test_both_tests_find_a_difference_that_is_there() -> None:
    differences = np.random.default_rng(0).normal(1, 1, size=(200, 20))
    assert (wilcoxon_p(differences) <= 0.05).mean() > 0.95
    assert (sign_flip_p(differences) <= 0.05).mean() > 0.95


def test_holm_multiplies_step_by_step_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_the_effect_is_the_mean_over_the_spread_with_an_interval() -> None:
    differences = np.random.default_rng(0).normal(0.8, 1, 40)
    effect = standardised_effect(differences)
    assert effect["d"] == pytest.approx(differences.mean() / differences.std(ddof=1))
    low, high = effect["ci95"]
    assert low < effect["d"] < high
    assert 0.4 < high - low < 1.2
    assert standardised_effect(np.full(5, 0.3)) == {"d": None, "ci95": None}
    assert standardised_effect(np.zeros(5)) == {"d": None, "ci95": None}
    assert standardised_effect(np.array([1.0, 2.0])) == {"d": None, "ci95": None}


@pytest.mark.parametrize("differences", [[1.0, math.nan, 2.0], [1.0, math.inf, 2.0], [math.inf, -math.inf, 0.0]])
def test_a_line_that_is_not_finite_has_no_p(differences: list[float]) -> None:
    p = sign_flip_p(np.array([differences, [1.0, 2.0, 3.0]]))
    assert math.isnan(p[0])
    assert p[1] == 0.25
    corrected = holm([0.01, math.nan, 0.04])
    assert corrected[::2] == pytest.approx([0.02, 0.04])
    assert math.isnan(corrected[1])


@pytest.mark.parametrize("n", [4, 6, 12, 50])
def test_intervals_hold_the_true_mean_as_often_as_they_say(n: int) -> None:
    names = [f"{number:02d}" for number in range(n)]
    draws = [np.random.default_rng(seed).normal(30, 2, n) for seed in range(300)]
    intervals = [mean_interval(draw, names, seed=seed) or (0, 0) for seed, draw in enumerate(draws)]
    assert 0.92 <= np.mean([low <= 30 <= high for low, high in intervals]) <= 0.98


def test_the_interval_of_few_is_students_whatever_number_of_visits_each_has() -> None:
    values = np.random.default_rng(1).normal(30, 2, 8)
    taught = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values, list("abcdefgh")) == pytest.approx([taught.low, taught.high])
    assert mean_interval(np.repeat(values, 3), [name for name in "abcdefgh" for _ in range(3)]) == pytest.approx(
        [taught.low, taught.high]
    )


@pytest.mark.parametrize("n", [4, 10])
def test_the_effect_of_few_has_an_interval_that_holds_it(n: int) -> None:
    draws = np.random.default_rng(0).normal(0.8, 1, (400, n))
    intervals = [standardised_effect(draw)["ci95"] for draw in draws]
    assert 0.92 <= np.mean([low <= 0.8 <= high for low, high in intervals]) <= 0.98
    assert standardised_effect(draws[0][:3])["ci95"] is None
