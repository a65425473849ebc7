"""Metrics voxel by voxel, and plain SSIM: closed forms, agreement with scikit-image, and their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medtrans.builtin.metrics.ssim import SSIM, SynthRADSSIM
from medtrans.builtin.metrics.voxelwise import MAE, MSE, NCC, NMSE, PSNR, RMSE
from medtrans.errors import ConfigError

SPACING_MM = (1.0, 1.0, 2.0)
METRICS = [
    PSNR(1.0), PSNR(9.0, range=(0.0, 1.0)), SSIM(1.0), SSIM(1.0, window="gaussian", covariance="population"),
    SynthRADSSIM(range=(0.0, 1.0)), NMSE(), NMSE(norm="energy"), MAE(), MSE(), RMSE(), NCC(),
]  # fmt: skip
by_name = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.definition)


def images(seed: int = 0, shape: tuple[int, int, int] = (16, 17, 18)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.random(shape, dtype=np.float32)
    return np.clip(target + 0.1 * rng.standard_normal(shape, dtype=np.float32), 0, 1), target


@given(st.floats(1, 500), st.booleans())
def test_a_constant_offset_has_a_closed_form(offset: float, masked: bool) -> None:
    _, target = images()
    target = target * 1000 - 500
    mask = target > 0 if masked else None
    window = 3000.0
    shifted = target + np.float64(offset)
    assert MAE()(shifted, target, mask, SPACING_MM) == pytest.approx(offset, rel=1e-5)
    assert MSE()(shifted, target, mask, SPACING_MM) == pytest.approx(offset**2, rel=1e-5)
    assert RMSE()(shifted, target, mask, SPACING_MM) == pytest.approx(offset, rel=1e-5)
    assert PSNR(window)(shifted, target, mask, SPACING_MM) == pytest.approx(20 * math.log10(window / offset), rel=1e-5)


def test_nmse_is_one_for_the_mean_and_its_norm_can_be_the_energy() -> None:
    _, target = images()
    mean = np.full_like(target, target.mean())
    assert NMSE()(mean, target, None, SPACING_MM) == pytest.approx(1.0, abs=1e-6)
    nothing = np.zeros_like(target)
    assert NMSE(norm="energy")(nothing, target, None, SPACING_MM) == pytest.approx(1.0, abs=1e-6)
    assert NMSE()(nothing, target, None, SPACING_MM) > 3


def test_nmse_of_a_constant_target_is_undefined() -> None:
    prediction, _ = images()
    assert math.isnan(NMSE()(prediction, np.full(prediction.shape, 0.1), None, SPACING_MM))
    assert math.isnan(NMSE(norm="energy")(prediction, np.zeros_like(prediction), None, SPACING_MM))


def test_psnr_and_ssim_agree_with_scikit_image() -> None:
    prediction, target = images()
    true, predicted = target.astype(np.float64), prediction.astype(np.float64)
    expected = peak_signal_noise_ratio(true, predicted, data_range=2.0)
    assert PSNR(2.0)(prediction, target, None, SPACING_MM) == pytest.approx(expected, abs=1e-6)
    for window in (3, 7):
        expected = structural_similarity(true, predicted, data_range=2.0, win_size=window)
        assert SSIM(2.0, window=window)(prediction, target, None, SPACING_MM) == pytest.approx(expected, abs=1e-6)
    expected = structural_similarity(
        true, predicted, data_range=2.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    gaussian = SSIM(2.0, window="gaussian", covariance="population")
    assert gaussian(prediction, target, None, SPACING_MM) == pytest.approx(expected, abs=1e-6)


def test_the_definition_names_what_was_chosen() -> None:
    assert "R = 3000" in PSNR(3000.0).definition
    assert "5^3 window" in SSIM(1.0, window=5).definition
    assert "var(target)" in NMSE().definition
    assert "mean(target^2)" in NMSE(norm="energy").definition
    assert "Gaussian window of sigma 1.5" in SSIM(1.0, window="gaussian").definition
    assert "population covariance" in SSIM(1.0, covariance="population").definition
    assert "R = 4024" in PSNR(1.0, range=(-1024, 3000)).definition


def test_psnr_clips_both_images_to_a_range_that_it_is_given() -> None:
    target = np.linspace(-2000, 4000, 8**3).reshape(8, 8, 8)
    prediction = target + 100
    clipped = np.clip(prediction, -1024, 3000) - np.clip(target, -1024, 3000)
    expected = 10 * math.log10(4024**2 / (clipped**2).mean())
    assert PSNR(1.0, range=(-1024, 3000))(prediction, target, None, SPACING_MM) == pytest.approx(expected, abs=1e-9)
    with pytest.raises(ConfigError, match=r"expected \[low, high\] with low < high, found \[3, -1\]"):
        PSNR(1.0, range=(3, -1))


def test_ncc_is_the_correlation_and_undefined_of_a_constant() -> None:
    prediction, target = images()
    mask = target > 0.3
    expected = np.corrcoef(prediction[mask], target[mask])[0, 1]
    assert NCC()(prediction, target, mask, SPACING_MM) == pytest.approx(expected, abs=1e-6)
    assert NCC()(3 - 2 * target, target, None, SPACING_MM) == pytest.approx(-1.0, abs=1e-6)
    assert math.isnan(NCC()(np.full_like(target, 0.1), target, None, SPACING_MM))
