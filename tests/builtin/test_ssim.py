"""MS-SSIM and SynthRAD's SSIM against the formulas evaluated step by step, on odd sizes and inside masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import fftconvolve
from skimage.metrics import structural_similarity

from medtrans.builtin.metrics.ssim import MSSSIM, SSIM, SynthRADSSIM
from medtrans.errors import ConfigError, DataError

SPACING_MM = (1.0, 1.0, 3.0)
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ct_pair(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prediction, target and mask: smooth structure, noise, and values beyond the range at both ends."""
    rng = np.random.default_rng(seed)
    i, j, k = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    target = 1500 * np.sin(5 * i + 3 * j) * np.cos(4 * k) + 700 + 300 * rng.standard_normal(shape)
    target[rng.random(shape) < 0.02] = 3600
    prediction = 0.6 * target + 1100 * rng.standard_normal(shape) + 80 * i
    mask = i**2 + j**2 / 0.8 + k**2 / 1.5 + 0.1 * rng.standard_normal(shape) < 0.8
    return prediction, target, mask


def valid_mean(volume: np.ndarray) -> np.ndarray:
    """The mean of every window of 7^3 that lies in the volume, summed slice by slice."""
    for axis in range(3):
        length = volume.shape[axis] - 6
        volume = sum(volume.take(range(first, first + length), axis) for first in range(7)) / 7  # type: ignore[assignment]  # sum begins with 0
    return volume


def parts(x: np.ndarray, y: np.ndarray, data_range: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Luminance, contrast and structure of the windows that lie in the volume."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    c3 = c2 / 2
    n = 7**3
    mx, my = valid_mean(x), valid_mean(y)
    sx = np.sqrt(np.clip((valid_mean(x**2) - mx**2) * n / (n - 1), 0, None))
    sy = np.sqrt(np.clip((valid_mean(y**2) - my**2) * n / (n - 1), 0, None))
    sxy = (valid_mean(x * y) - mx * my) * n / (n - 1)
    return (
        (2 * mx * my + c1) / (mx**2 + my**2 + c1),
        (2 * sx * sy + c2) / (sx**2 + sy**2 + c2),
        (sxy + c3) / (sx * sy + c3),
    )


def synthrad_ready(volume: np.ndarray, mask: np.ndarray, low: float, high: float) -> np.ndarray:
    ready = np.clip(volume, low, high)
    ready[~mask] = low
    return ready - low


@pytest.mark.parametrize("shape", [(23, 31, 19), (101, 35, 27)])
def test_ms_ssim_of_synthrad2025_is_what_its_formula_gives(shape: tuple[int, int, int]) -> None:
    prediction, target, mask = ct_pair(shape, seed=1)
    low, high = -1024.0, 3071.0
    indices = []
    for side in shape:
        lack = max(0, 97 - side)
        indices.append(np.clip(np.arange(-(lack // 2), side + lack - lack // 2), 0, side - 1))
    place = np.ix_(*indices)
    x, y = (synthrad_ready(one, mask, low, high)[place] for one in (target, prediction))
    inside = mask[place]
    box = np.full((2, 2, 2), 1 / 8)
    expected = 1.0
    for level, weight in enumerate(WEIGHTS):
        if level:
            x, y = (fftconvolve(one, box, "same")[::2, ::2, ::2] for one in (x, y))
            inside = inside[::2, ::2, ::2]
        luminance, contrast, structure = (np.clip(part, 0, None) ** weight for part in parts(x, y, high - low))
        values = (luminance * contrast * structure)[inside[3:-3, 3:-3, 3:-3]]
        expected *= np.clip(values.mean(), 0, 1)
    found = MSSSIM(1.0, variant="synthrad2025")(prediction, target, mask, SPACING_MM)
    assert 0.05 < expected < 0.95
    assert found == pytest.approx(expected, abs=1e-5)
    published = MSSSIM(1.0, variant="synthrad2025", range=(-1024, 3000))(prediction, target, mask, SPACING_MM)
    assert published != pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_ms_ssim_of_wang_averages_before_it_raises_and_has_luminance_at_the_coarsest_scale(masked: bool) -> None:
    prediction, target, mask = ct_pair((45, 39, 51), seed=2)
    if not masked:
        mask[:] = True
    weights = np.array(WEIGHTS[:3]) / sum(WEIGHTS[:3])
    x, y, inside = target, prediction, mask
    expected = 1.0
    for level, weight in enumerate(weights):
        if level:
            i, j, k = (side // 2 for side in x.shape)
            x, y = (
                sum(one[a : 2 * i : 2, b : 2 * j : 2, c : 2 * k : 2] for a in (0, 1) for b in (0, 1) for c in (0, 1))
                / 8
                for one in (x, y)
            )
            inside = inside[::2, ::2, ::2][:i, :j, :k]
        luminance, contrast, structure = parts(x, y, 4024.0)
        values = contrast * structure * (luminance if level == 2 else 1)
        expected *= values[inside[3:-3, 3:-3, 3:-3]].mean() ** weight
    metric = MSSSIM(4024.0, levels=3)
    found = metric(prediction, target, mask if masked else None, SPACING_MM)
    assert 0.05 < expected < 0.95
    assert found == pytest.approx(expected, abs=1e-5)


def test_ms_ssim_says_what_does_not_fit() -> None:
    _, target, _ = ct_pair((29, 33, 31), seed=3)
    with pytest.raises(DataError, match=r"5 levels needs at least 112 voxels a side but the volume has \(29, 33, 31\)"):
        MSSSIM(1.0)(target, target, None, SPACING_MM)
    with pytest.raises(ConfigError, match="synthrad2025 has 5 levels, found 3"):
        MSSSIM(1.0, variant="synthrad2025", levels=3)
    assert "wang2003, 3 levels" in MSSSIM(1.0, levels=3).definition
    assert "[-1024, 3071], luminance at every level" in MSSSIM(1.0, variant="synthrad2025").definition


def test_ms_ssim_is_undefined_where_no_voxel_of_the_mask_is_left_at_a_scale() -> None:
    prediction, target, mask = ct_pair((29, 33, 31), seed=3)
    mask[:] = False
    mask[1, 1, 1] = True
    assert math.isnan(MSSSIM(4024.0, levels=3)(prediction, target, mask, SPACING_MM))


@pytest.mark.parametrize("shape", [(23, 31, 19), (9, 41, 33)])
def test_ssim_of_synthrad2023_is_what_its_formula_gives(shape: tuple[int, int, int]) -> None:
    prediction, target, mask = ct_pair(shape, seed=4)
    low, high = -1024.0, 3000.0
    x, y = (synthrad_ready(one, mask, low, high) for one in (target, prediction))
    c1, c2 = (0.01 * 4024) ** 2, (0.03 * 4024) ** 2
    n = 7**3
    mx, my = valid_mean(x), valid_mean(y)
    vx, vy, vxy = (
        (valid_mean(one * other) - m * o) * n / (n - 1)
        for one, other, m, o in ((x, x, mx, mx), (y, y, my, my), (x, y, mx, my))
    )
    similarity = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    expected = similarity[mask[3:-3, 3:-3, 3:-3]].mean()
    assert 0.05 < expected < 0.95
    assert SynthRADSSIM()(prediction, target, mask, SPACING_MM) == pytest.approx(expected, abs=1e-5)


def test_masked_ssim_is_the_mean_of_the_map_inside_the_mask() -> None:
    prediction, target = ct_pair((16, 17, 18), seed=5)[:2]
    mask = np.zeros(target.shape, dtype=bool)
    mask[:9, 2:8, 5:] = True
    _, similarity = structural_similarity(
        target.astype(np.float64), prediction.astype(np.float64), data_range=4024.0, full=True
    )
    assert SSIM(4024.0)(prediction, target, mask, SPACING_MM) == pytest.approx(similarity[mask].mean(), abs=1e-6)


def test_ssim_refuses_volumes_thinner_than_its_window() -> None:
    prediction, target = ct_pair((16, 16, 5), seed=5)[:2]
    with pytest.raises(DataError, match=r"at least 7 voxels a side but the volume has \(16, 16, 5\).*window: 3"):
        SSIM(4024.0)(prediction, target, None, SPACING_MM)
    assert SSIM(4024.0, window=5)(prediction, target, None, SPACING_MM) < 1
