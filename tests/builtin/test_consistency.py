"""Slice consistency and seams: what streaks, what does not, and what cannot be measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medtrans.builtin.metrics.consistency import Seam, SliceConsistency
from medtrans.plugins.interfaces import Surroundings

SPACING_MM = (1.0, 1.0, 1.0)
METRIC = SliceConsistency()


def ratios(error: np.ndarray, mask: np.ndarray | None = None) -> dict[str, float]:
    target = np.random.default_rng(9).random(error.shape)
    return dict(METRIC.scores(target + error, target, mask, SPACING_MM, Surroundings()))


def test_noise_is_as_rough_in_every_direction_and_an_error_of_each_slice_is_not() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((24, 24, 24))
    assert list(ratios(noise).values()) == pytest.approx([1, 1, 1, 1], abs=0.05)
    streaks = ratios(noise + 5 * rng.standard_normal((1, 1, 24)))
    assert streaks["k"] > 3
    assert streaks["i"] < 1
    assert streaks[""] == streaks["k"]


def test_the_ratio_is_that_of_the_second_differences() -> None:
    error = np.zeros((9, 9, 9))
    error += np.arange(9.0)[:, None, None] ** 2 + 0.5 * np.arange(9.0)[:, None] ** 2 + 0.25 * np.arange(9.0) ** 2
    found = ratios(error)
    expected = {"": 2 / 0.75, "i": 2 / 0.75, "j": 1 / 1.25, "k": 0.5 / 1.5}
    assert found == pytest.approx(expected, rel=1e-9)


def test_only_neighbours_inside_the_mask_count() -> None:
    error = np.random.default_rng(1).standard_normal((12, 12, 12))
    mask = np.zeros(error.shape, bool)
    mask[2:9, 3:10, 1:8] = True
    before = ratios(error, mask)
    error[~mask] = 99
    assert ratios(error, mask) == pytest.approx(before)
    assert before["i"] == pytest.approx(ratios(error[2:9, 3:10, 1:8])["i"], rel=0.2)


def test_no_error_has_no_streaks_and_a_thin_mask_measures_nothing() -> None:
    assert ratios(np.zeros((8, 8, 8))) == {"": 0, "i": 0, "j": 0, "k": 0}
    only = np.zeros((8, 8, 8)) + np.arange(8) % 2
    alone = METRIC.scores(only, np.zeros((8, 8, 8)), None, SPACING_MM, Surroundings())
    assert alone == {"": math.inf, "i": 0, "j": 0, "k": math.inf}
    mask = np.zeros((8, 8, 8), bool)
    mask[3, 3, 3] = True
    assert all(map(math.isnan, ratios(only, mask).values()))


def test_a_seam_is_what_moving_the_windows_changes_inside_the_mask() -> None:
    target = np.zeros((8, 8, 8), np.float32)
    prediction = np.full_like(target, 3)
    mask = np.zeros(target.shape, bool)
    mask[:4] = True
    asked = []

    def again(shift: float) -> np.ndarray:
        asked.append(shift)
        return np.where(mask, prediction + 2, prediction + 50)

    around = Surroundings(retranslated=again)
    assert Seam(shift=0.3).scores(prediction, target, mask, SPACING_MM, around) == {"": 2.0}
    assert asked == [0.3]
    assert Seam().scores(prediction, target, None, SPACING_MM, around) == {"": 26.0}
    assert math.isnan(Seam()(prediction, target, None, SPACING_MM))
