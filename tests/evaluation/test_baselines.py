"""The trivial baselines recover what they can express, from foregrounds only, and never see a test target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medtrans.data.preprocessing import Prepared
from medtrans.errors import DataError
from medtrans.evaluation.baselines import fit_baselines, foreground_of
from medtrans.volume import Grid

SHAPE = (16, 18, 20)


def case(
    source: np.ndarray,
    target: np.ndarray | None,
    mask: np.ndarray | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Prepared:
    """A prepared case; source and target `(c, i, j, k)`, mask `(i, j, k)`."""
    grid = Grid(source.shape[1:], np.diag([*spacing_mm, 1.0]))
    return Prepared(
        source.astype(np.float32),
        None if target is None else target.astype(np.float32),
        None if mask is None else mask[None].astype(np.uint8),
        grid,
        grid,
        1,
        {},
        {},
    )


def sources(seed: int, channels: int = 1) -> np.ndarray:
    """Intensities from 0 to 1 whose lower tenth is background."""
    return np.random.default_rng(seed).random((channels, *SHAPE))


def blob(centre: tuple[float, float, float], shape: tuple[int, int, int] = SHAPE, width: float = 3.0) -> np.ndarray:
    """A smooth bump, `(1, i, j, k)`, with a peak of 1."""
    axes = np.meshgrid(*(np.arange(side) for side in shape), indexing="ij")
    distance = sum((axis - middle) ** 2 for axis, middle in zip(axes, centre, strict=True))
    return np.exp(-distance / (2 * width**2))[None]


def test_the_foreground_is_the_mask_or_where_any_source_is_bright() -> None:
    source = np.zeros((2, *SHAPE))
    source[0, 3], source[1, 5], source[0, 7] = 0.5, 0.5, 0.05
    bright = foreground_of(case(source, None))
    assert sorted(set(np.nonzero(bright)[0])) == [3, 5]
    mask = np.zeros(SHAPE)
    mask[9] = 1
    assert set(np.nonzero(foreground_of(case(source, None, mask)))[0]) == {9}


def test_a_linear_relation_is_recovered_exactly() -> None:
    weights, constant = np.array([[0.5, -0.3], [0.1, 0.2]]), np.array([0.4, 0.1])

    def related(seed: int) -> Prepared:
        source = sources(seed, channels=2)
        return case(source, np.einsum("ts,s...->t...", weights, source) + constant[:, None, None, None])

    linear = fit_baselines(related(seed) for seed in (1, 2))["source_linear"]
    new = related(3)
    predicted, foreground = linear.predict(replace(new, target=None)), foreground_of(new)
    assert new.target is not None
    np.testing.assert_allclose(predicted[:, foreground], new.target[:, foreground], atol=1e-6)


def test_a_source_that_never_varies_leaves_the_linear_fit_sound() -> None:
    source = sources(1, channels=2)
    source[1] = 0.5
    target = 0.3 * source[:1] + 0.2
    predicted = fit_baselines([case(source, target)])["source_linear"].predict(case(source, None))
    foreground = foreground_of(case(source, None))
    np.testing.assert_allclose(predicted[:, foreground], target[:, foreground], atol=1e-6)


def test_any_step_function_of_the_first_source_is_recovered_exactly() -> None:
    steps = np.random.default_rng(0).random((2, 64))
    pairs = [(source, steps[:, (source[0] * 64).astype(int)]) for source in (sources(seed, 2) for seed in (1, 2, 3))]
    lut = fit_baselines(case(*pair) for pair in pairs[:2])["source_lut"]
    source, target = pairs[2]
    foreground = source[0] > 7 / 64
    np.testing.assert_allclose(lut.predict(case(source, None))[:, foreground], target[:, foreground], atol=1e-6)


def test_bins_that_training_left_empty_are_interpolated_and_the_ends_go_on() -> None:
    source = np.full((1, *SHAPE), 20.5 / 64)
    source[0, 8:] = 30.5 / 64
    trained = fit_baselines([case(source, np.where(source < 0.4, 0.2, 0.8))])["source_lut"]
    new = np.zeros((1, *SHAPE))
    bins = np.array([10, 20, 25, 30, 63])
    new[0, :5] = ((bins + 0.5) / 64)[:, None, None]
    np.testing.assert_allclose(trained.predict(case(new, None))[0, :5, 0, 0], (0.2, 0.2, 0.5, 0.8, 0.8), atol=1e-6)


def test_the_mean_of_shifted_copies_is_the_copy_wherever_a_case_lies() -> None:
    def shifted(centre: tuple[int, int, int]) -> Prepared:
        bump = blob(centre, width=1.5)
        return case(bump, 0.8 * bump)

    baseline = fit_baselines(shifted(centre) for centre in ((8, 9, 10), (6, 9, 10), (8, 10, 11)))["training_mean"]
    new = shifted((7, 8, 12))
    assert new.target is not None
    np.testing.assert_allclose(baseline.predict(replace(new, target=None)), new.target, atol=1e-4)


def test_the_mean_is_aligned_in_mm_not_in_voxels() -> None:
    def seen(spacing_mm: float, side: int) -> Prepared:
        middle = (side - 1) / 2
        bump = blob((middle, middle, middle), (side, side, side), width=4 / spacing_mm)
        return case(bump, bump, spacing_mm=(spacing_mm,) * 3)

    coarse, fine = seen(2.0, 13), seen(1.0, 25)
    assert coarse.target is not None
    for training in ([fine], [fine, coarse], [coarse]):
        predicted = fit_baselines(training)["training_mean"].predict(coarse)
        np.testing.assert_allclose(predicted, coarse.target, atol=0.02)


def test_a_case_counts_towards_the_mean_only_where_it_reaches() -> None:
    large = case(np.ones((1, 12, 12, 12)), np.full((1, 12, 12, 12), 0.4))
    small = case(np.ones((1, 6, 6, 6)), np.full((1, 6, 6, 6), 0.8))
    expected = np.full((12, 12, 12), 0.4)
    expected[3:9, 3:9, 3:9] = 0.6  # the mean of both
    predicted = fit_baselines([large, small])["training_mean"].predict(large)
    np.testing.assert_allclose(predicted[0], expected, atol=1e-6)


def test_only_foregrounds_are_fitted_and_background_answers_with_its_mean() -> None:
    mask = np.zeros(SHAPE)
    mask[4:12] = 1
    source = sources(1)
    target = np.where(mask > 0, 0.5 * source + 0.2, 0.9)
    training = case(source, target, mask)
    for name in ("source_linear", "source_lut"):
        predicted = fit_baselines([training])[name].predict(training)
        np.testing.assert_allclose(
            predicted[:, mask > 0], target[:, mask > 0], atol=0.5 / 64 if "lut" in name else 1e-6
        )
        np.testing.assert_allclose(predicted[:, mask == 0], 0.9, atol=1e-6)


def test_predictions_stay_in_the_scaled_range_and_training_cases_are_taken_one_at_a_time() -> None:
    taken: list[int] = []

    def training() -> Iterator[Prepared]:
        for seed in range(3):
            taken.append(seed)
            yield case(0.2 + 0.1 * sources(seed), np.clip(4 * sources(seed) - 1.5, 0, 1))

    baselines = fit_baselines(training())
    assert list(baselines) == ["source_linear", "source_lut", "training_mean"]
    assert taken == [0, 1, 2]
    for baseline in baselines.values():
        predicted = baseline.predict(case(sources(4), None))
        assert (predicted.shape, predicted.dtype) == ((1, *SHAPE), np.float32)
        assert 0 <= predicted.min() <= predicted.max() <= 1


def test_cases_without_foreground_are_left_out_and_still_predicted() -> None:
    dark = case(np.zeros((1, *SHAPE)), np.ones((1, *SHAPE)))
    smooth = gaussian_filter(sources(1)[0], 1)[None] + 0.2
    baselines = fit_baselines([dark, case(smooth, 0.5 * smooth)])
    foreground = foreground_of(case(smooth, None))
    predicted = baselines["source_linear"].predict(case(smooth, None))
    np.testing.assert_allclose(predicted[:, foreground], 0.5 * smooth[:, foreground], atol=1e-6)
    for baseline in baselines.values():
        assert np.isfinite(baseline.predict(dark)).all()
    with pytest.raises(DataError, match="no training case has a voxel inside its mask"):
        fit_baselines([dark])
    with pytest.raises(DataError, match="no target"):
        fit_baselines([case(sources(1), None)])
