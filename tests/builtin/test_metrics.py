"""Metrics without a file of their own: what all share, closed forms, agreement with scikit-image, regions and seams."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medtrans.builtin.metrics.consistency import Seam, SliceConsistency
from medtrans.builtin.metrics.dose import DoseDVH, DoseMAE
from medtrans.builtin.metrics.perceptual import PerceptualDistance
from medtrans.builtin.metrics.regions import MAEByHU, MAEByLabel
from medtrans.builtin.metrics.segmentation import HD95, Dice
from medtrans.builtin.metrics.ssim import MSSSIM, SSIM, SynthRADSSIM
from medtrans.builtin.metrics.voxelwise import MAE, MSE, NCC, NMSE, PSNR, RMSE
from medtrans.errors import ConfigError, DataError
from medtrans.plugins.interfaces import Surroundings

SPACING_MM = (1.0, 1.0, 2.0)
OF_IMAGES = [
    PSNR(1.0), PSNR(9.0, range=(0.0, 1.0)), SSIM(1.0), SSIM(1.0, window="gaussian", covariance="population"),
    MSSSIM(1.0, levels=1), SynthRADSSIM(range=(0.0, 1.0)), NMSE(), NMSE(norm="energy"), MAE(), MSE(), RMSE(), NCC(),
    SliceConsistency(), MAEByHU(), DoseMAE(prescribed_gy=0.5),
    PerceptualDistance(1.0, weights="random", taps=("relu1_1",)),
]  # fmt: skip
OTHERS = [
    Seam(), MAEByLabel(labels={"all": 0}), DoseDVH(prescribed_gy=1.0, ptv=1), Dice(label=1), HD95(label=1),
    MSSSIM(1.0, variant="synthrad2025"),
]  # fmt: skip


def called(metric: Any) -> str:
    return str(metric.definition[:60])


def images(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.random((16, 17, 18), dtype=np.float32)
    return np.clip(target + 0.1 * rng.standard_normal(target.shape, dtype=np.float32), 0, 1), target


@pytest.mark.parametrize("metric", [*OF_IMAGES, *OTHERS], ids=called)
def test_other_shapes_and_empty_masks_are_refused(metric: Any) -> None:
    prediction, target = images()
    for predicted, mask, what in (
        (prediction[1:], None, r"prediction has shape \(15, 17, 18\) but the target \(16, 17, 18\)"),
        (prediction, np.ones((2, 2, 2), bool), "mask has shape"),
        (prediction, np.zeros(target.shape, bool), "mask is empty"),
    ):
        with pytest.raises(DataError, match=what):
            metric(predicted, target, mask, SPACING_MM)


@pytest.mark.parametrize("metric", OF_IMAGES, ids=called)
def test_what_lies_far_outside_the_mask_does_not_count_nor_the_float_type(metric: Any) -> None:
    prediction, target = images()
    mask = np.zeros(target.shape, dtype=np.uint8)
    mask[:8] = 1
    before = metric(prediction, target, mask, SPACING_MM)
    other = metric(np.asfortranarray(prediction.astype(np.float64)), target, mask, SPACING_MM)
    assert other == pytest.approx(before, rel=1e-12)
    # A window of 11 voxels reaches five voxels beyond the mask.
    prediction[13:], target[13:] = 0, 1
    assert metric(prediction, target, mask, SPACING_MM) == pytest.approx(before, rel=1e-9)
    assert metric(prediction, target, None, SPACING_MM) != pytest.approx(before, rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(OF_IMAGES[:-1]), st.integers(0, 2**16), st.permutations(range(3)))
def test_a_score_does_not_depend_on_the_order_of_the_axes(metric: Any, seed: int, order: list[int]) -> None:
    prediction, target = images(seed)
    turned = metric(prediction.transpose(order), target.transpose(order), None, [SPACING_MM[axis] for axis in order])
    assert turned == pytest.approx(metric(prediction, target, None, SPACING_MM), rel=1e-5)


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


SHAPE = (8, 8, 8)


def test_errors_are_told_by_label_and_absent_labels_are_undefined() -> None:
    target = np.zeros(SHAPE, np.float32)
    labels = np.zeros(SHAPE, np.uint8)
    labels[:4], labels[4:6] = 4, 5
    prediction = np.where(labels == 4, 10.0, np.where(labels == 5, 30.0, 0.0)).astype(np.float32)
    metric = MAEByLabel(labels={"bone": (4, 5), "marrow": 5, "lesion": 17})
    around = Surroundings({"labels": labels})
    found = metric.scores(prediction, target, None, SPACING_MM, around)
    assert found["bone"] == pytest.approx((4 * 10 + 2 * 30) / 6)
    assert found["marrow"] == 30
    assert math.isnan(found["lesion"])
    assert found[""] == pytest.approx((found["bone"] + found["marrow"]) / 2)
    mask = labels == 4
    assert metric.scores(prediction, target, mask, SPACING_MM, around)["bone"] == 10
    assert set(found) == {"", *metric.parts}
    assert math.isnan(metric(prediction, target, None, SPACING_MM))


def test_errors_are_told_by_hu_of_the_target_or_of_a_ct() -> None:
    target = np.zeros(SHAPE, np.float32)
    target[:2], target[6:] = -1000, 1000
    prediction = target + np.where(target < -200, 5, np.where(target > 250, 50, 20)).astype(np.float32)
    found = MAEByHU().scores(prediction, target, None, SPACING_MM, Surroundings())
    assert found == {"": 25.0, "air": 5.0, "soft_tissue": 20.0, "bone": 50.0}
    assert MAEByHU()(prediction, target, None, SPACING_MM) == 25
    everything = MAEByHU(air_below=-2000, bone_above=2000).scores(prediction, target, None, SPACING_MM, Surroundings())
    assert math.isnan(everything["air"])
    of_ct = MAEByHU(ct="ct")
    around = Surroundings({"ct": np.full(SHAPE, 700.0)})
    assert of_ct.images == ("ct",)
    assert of_ct.scores(prediction, target, None, SPACING_MM, around)["bone"] == pytest.approx(23.75)
    assert all(map(math.isnan, of_ct.scores(prediction, target, None, SPACING_MM, Surroundings()).values()))


def test_classes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="name at least one class"):
        MAEByLabel(labels={})
    with pytest.raises(ConfigError, match="air_below 300 is above bone_above 250"):
        MAEByHU(air_below=300)


def test_the_dose_error_counts_where_the_dose_is_high() -> None:
    target = np.full(SHAPE, 0.5)
    target[:4] = 2.0
    prediction = target.copy()
    prediction[:4] += 0.1
    prediction[4:] = 9.0
    assert DoseMAE(prescribed_gy=2.0)(prediction, target, None, SPACING_MM) == pytest.approx(0.05)
    assert math.isnan(DoseMAE(prescribed_gy=20.0)(prediction, target, None, SPACING_MM))
    assert DoseMAE(prescribed_gy=2.0)(target, target, None, SPACING_MM) == 0


def dose_case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    structures = np.zeros((12, 12, 12), np.uint8)
    structures[:4] = 1
    for organ, first in enumerate((4, 6, 8, 10), start=2):
        structures[first : first + 2] = organ
    target = 2.0 - 0.15 * structures + 0.1 * rng.random(structures.shape)
    return target * 1.02 + 0.02 * rng.random(structures.shape), target, structures


def test_the_dvh_sum_is_that_of_its_terms_evaluated_one_by_one() -> None:
    prediction, target, structures = dose_case()
    metric = DoseDVH(prescribed_gy=1.9, ptv=1, organs={"a": 2, "b": 3, "c": 4, "d": 5})
    found = metric.scores(prediction, target, None, SPACING_MM, Surroundings({"structures": structures}))

    def least(dose: np.ndarray, percent: float) -> float:
        ordered = np.sort(dose)
        return float(np.interp(1 - percent / 100, np.linspace(0, 1, len(ordered)), ordered))

    def conformation(dose: np.ndarray) -> float:
        covered = dose >= 0.95 * 1.9
        both = (covered & (structures == 1)).sum()
        return float(both / (structures == 1).sum() * (both / covered.sum()))

    def relative(of: str) -> float:
        values = {
            "d98": [least(dose[structures == 1], 98) for dose in (prediction, target)],
            "conformity": [conformation(dose) for dose in (prediction, target)],
        }[of]
        return abs(values[0] - values[1]) / values[1]

    # The dose falls with the number, so the fourth organ is left out.
    organs = [structures == value for value in (2, 3, 4)]
    d2 = [abs(least(prediction[one], 2) / least(target[one], 2) - 1) for one in organs]
    mean = [abs(prediction[one].mean() / target[one].mean() - 1) for one in organs]
    expected = {"d98": relative("d98"), "conformity": relative("conformity"), "d2": np.mean(d2), "mean": np.mean(mean)}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert found[""] == pytest.approx(sum(expected.values()))
    assert expected["conformity"] > 0


def test_equal_doses_differ_by_nothing_and_a_missing_ptv_is_undefined() -> None:
    _, target, structures = dose_case()
    around = Surroundings({"structures": structures})
    metric = DoseDVH(prescribed_gy=1.9, ptv=1)
    assert metric.scores(target, target, None, SPACING_MM, around)[""] == 0
    absent = DoseDVH(prescribed_gy=1.9, ptv=9, organs={"a": 2})
    assert all(map(math.isnan, absent.scores(target, target, None, SPACING_MM, around).values()))
    assert all(map(math.isnan, metric.scores(target, target, None, SPACING_MM, Surroundings()).values()))


METRIC = SliceConsistency()


def ratios(error: np.ndarray, mask: np.ndarray | None = None) -> dict[str, float]:
    target = np.random.default_rng(9).random(error.shape)
    return dict(METRIC.scores(target + error, target, mask, SPACING_MM, Surroundings()))


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
