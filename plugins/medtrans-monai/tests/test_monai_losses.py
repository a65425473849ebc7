"""MONAI's losses and metrics: the right images reach them, and their numbers are those of scikit-image."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from monai import losses as monai_losses
from skimage.metrics import structural_similarity

import medtrans
import medtrans_monai
from medtrans import DataError
from medtrans.testing import build, options_of
from medtrans.types import LossInputs, pyramid

SPACING = (1.0, 1.0, 1.0)


def made(kind: str, name: str, facts: dict[str, Any] | None = None, **options: Any) -> Any:
    return build(medtrans.component(kind, f"monai:{name}"), kind, options, facts or {})


def inputs(prediction: torch.Tensor, target: torch.Tensor) -> LossInputs:
    return LossInputs((), pyramid(target, 2), pyramid(prediction, 2), None, None, None, step=0, phase="generator")


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("ssim", monai_losses.SSIMLoss(spatial_dims=3)),
        ("lncc", monai_losses.LocalNormalizedCrossCorrelationLoss(spatial_dims=3)),
        ("mutual_information", monai_losses.GlobalMutualInformationLoss()),
    ],
)
def test_a_loss_is_monais_on_the_finest_level(name: str, theirs: Any) -> None:
    prediction, target = noise(0, 2, 1, 14, 15, 16), noise(1, 2, 1, 14, 15, 16)
    assert torch.equal(made("loss", name)(inputs(prediction, target)), theirs(prediction, target))


def test_the_ssim_loss_is_one_minus_the_ssim_of_scikit_image() -> None:
    prediction, target = noise(0, 1, 1, 20, 21, 22), noise(1, 1, 1, 20, 21, 22)
    expected = 1 - gaussian_ssim(prediction[0, 0].numpy(), target[0, 0].numpy(), 1.0)
    assert made("loss", "ssim")(inputs(prediction, target)).item() == pytest.approx(expected, abs=1e-4)


def gaussian_ssim(prediction: np.ndarray, target: np.ndarray, data_range: float) -> float:
    given: float = structural_similarity(
        prediction,
        target,
        data_range=data_range,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return given


def test_the_ssim_metric_is_that_of_scikit_image_in_the_targets_range() -> None:
    target = 4000 * noise(0, 20, 21, 22).numpy() - 1000
    prediction = target + 300 * noise(1, 20, 21, 22).numpy()
    metric = made("metric", "ssim", {"data_range": 4000.0})
    found = metric(prediction, target, None, SPACING)
    assert found == pytest.approx(gaussian_ssim(prediction, target, 4000.0), abs=1e-4)
    assert "R = 4000" in metric.definition
    assert "gaussian window of 11x11x11" in metric.definition


def test_a_metric_keeps_nothing_of_an_earlier_volume() -> None:
    metric, target = made("metric", "rmse"), np.zeros((4, 4, 4), dtype=np.float32)
    for value in (1.0, 3.0):
        assert metric(target + value, target, None, SPACING) == pytest.approx(value)
    assert metric.get_buffer() is None


def test_metrics_have_a_unit_a_direction_and_a_definition_that_owns_up_to_ignoring_masks() -> None:
    for name in ("ssim", "ms_ssim", "rmse"):
        metric = made("metric", name)
        assert metric.unit == ("native" if name == "rmse" else "")
        assert metric.higher_is_better == (name != "rmse")
        assert "without regard to masks" in metric.definition


def test_a_volume_too_small_for_the_scales_is_an_error_that_says_what_is_needed() -> None:
    volume = np.zeros((20, 20, 20), dtype=np.float32)
    with pytest.raises(DataError, match=r"\(20, 20, 20\) voxels: .*must be larger than 160"):
        made("metric", "ms_ssim")(volume, volume, None, SPACING)


def test_fewer_scales_score_smaller_volumes() -> None:
    volume = noise(0, 24, 24, 24).numpy()
    metric = made("metric", "ms_ssim", weights=(0.5, 0.5), kernel_size=7)
    assert metric(volume, volume, None, SPACING) == pytest.approx(1.0)
    assert metric(volume, 1 - volume, None, SPACING) < 1


@pytest.mark.parametrize("kind", ["loss", "metric"])
def test_reductions_are_settled_here_and_all_else_is_monais_option(kind: str) -> None:
    components = medtrans_monai.medtrans_losses() if kind == "loss" else medtrans_monai.medtrans_metrics()
    for name in (one.name for one in components):
        options = {option.name for option in options_of(medtrans.component(kind, f"monai:{name}"), kind)}
        assert not options & {"reduction", "get_not_nans", "spatial_dims"}
    assert {"win_size", "kernel_type", "k1"} <= {
        option.name for option in options_of(medtrans.component(kind, "monai:ssim"), kind)
    }


def test_nothing_of_monai_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, medtrans_monai as one; one.medtrans_generators(); one.medtrans_losses(); one.medtrans_metrics(); "
        "sys.exit('monai' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert medtrans.component("loss", "monai:ssim").factory is not None
