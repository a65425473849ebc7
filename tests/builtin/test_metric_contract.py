"""What all built-in metrics share: the checks of shapes and masks, and that only what a mask holds is looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtrans.builtin.metrics.consistency import Seam, SliceConsistency
from medtrans.builtin.metrics.dose import DoseDVH, DoseMAE
from medtrans.builtin.metrics.perceptual import PerceptualDistance
from medtrans.builtin.metrics.regions import MAEByHU, MAEByLabel
from medtrans.builtin.metrics.segmentation import HD95, Dice
from medtrans.builtin.metrics.ssim import MSSSIM, SSIM, SynthRADSSIM
from medtrans.builtin.metrics.voxelwise import MAE, MSE, NCC, NMSE, PSNR, RMSE
from medtrans.errors import DataError

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
