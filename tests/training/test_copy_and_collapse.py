"""Translators that copy their source, or give everybody the same, are told from those that translate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from medtrans.data.fingerprint import block_means, correlation
from medtrans.training.copy_and_collapse import (
    Collapse,
    ComparedCase,
    CopyThrough,
    collapse,
    compare_case,
    copy_through,
)


def volumes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A source, and a target that is another function of the same anatomy."""
    rng = np.random.default_rng(seed)
    source = ndimage.gaussian_filter(rng.random((16, 18, 20)), 1.5)
    source = (source - source.min()) / np.ptp(source)
    target = np.sin(3 * source) * 0.8 + 0.05 * rng.random(source.shape)
    return source, target


def compared(source: np.ndarray, prediction: np.ndarray, target: np.ndarray) -> ComparedCase:
    inside = np.ones(source.shape, dtype=bool)
    return compare_case(
        source[None], prediction[None], target[None], inside, lambda one: block_means(one[0])[None, None]
    )


def cohort(translate: Callable[[np.ndarray, np.ndarray], np.ndarray], seeds: range) -> list[ComparedCase]:
    pairs = [volumes(seed) for seed in seeds]
    return [compared(source, translate(source, target), target) for source, target in pairs]


@pytest.mark.parametrize("first", range(5))
def test_the_identity_is_flagged_as_a_copy_and_a_translation_neither_as_one_nor_as_collapsed(first: int) -> None:
    found = copy_through(cohort(lambda source, target: source, range(first, first + 3)))
    assert found.flagged
    assert found.source_prediction == pytest.approx(1)
    cases = cohort(lambda source, target: target, range(first, first + 4))
    assert not copy_through(cases).flagged
    assert not collapse(cases).flagged


def test_a_copy_of_a_source_that_the_target_equals_is_no_fault() -> None:
    source, _ = volumes(0)
    assert not copy_through([compared(source, source, source)]).flagged


def test_the_same_for_everybody_is_collapse() -> None:
    rng = np.random.default_rng(0)
    same = volumes(99)[1]
    found = collapse(cohort(lambda source, target: same + 1e-3 * rng.random(same.shape), range(4)))
    assert found.flagged
    assert found.variation is not None
    assert found.variation < 0.1
    assert found.nearest is not None
    assert found.nearest > 0.99


def test_too_few_cases_are_not_judged() -> None:
    assert collapse(cohort(lambda source, target: target * 0, range(2))) == Collapse(None, None, None)
    assert copy_through([]) == CopyThrough(None, None)


@pytest.mark.parametrize("shape", [(8, 8, 8), (17, 9, 31), (1, 1, 1)])
def test_block_means_keep_the_mean_of_equal_blocks_and_any_shape(shape: tuple[int, int, int]) -> None:
    volume = np.random.default_rng(0).random(shape)
    means = block_means(volume)
    assert means.shape == (8, 8, 8)
    assert volume.min() - 1e-12 <= means.min() <= means.max() <= volume.max() + 1e-12
    if shape == (8, 8, 8):
        np.testing.assert_allclose(means, volume)


def test_correlation_of_constants_is_defined() -> None:
    flat, ramp = np.ones(9), np.arange(9.0)
    assert [correlation(flat, flat), correlation(flat, ramp)] == [1, 0]
    assert correlation(ramp, 3 - 2 * ramp) == pytest.approx(-1)
