"""Metrics of differences voxel by voxel (MAE, MSE, RMSE, NMSE, PSNR), and their correlation (NCC)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from medtrans.builtin.metrics import VoxelMetric, width_of

__all__ = ["MAE", "MSE", "NCC", "NMSE", "PSNR", "RMSE"]


class MAE(VoxelMetric):
    """Mean absolute error in the target's own unit: HU where the target's scaling is fixed, else none.

    `unit` is "native": the evaluation writes the target's unit in its place.
    """

    unit = "native"
    higher_is_better = False
    definition = "mean(|prediction - target|)"

    def score(self, prediction: np.ndarray, target: np.ndarray) -> float:
        return float(np.mean(np.abs(prediction - target)))


class MSE(VoxelMetric):
    """Mean squared error, in the square of the target's unit."""

    unit = "native^2"
    higher_is_better = False
    definition = "mean((prediction - target)^2)"

    def score(self, prediction: np.ndarray, target: np.ndarray) -> float:
        return float(np.mean((prediction - target) ** 2))


class RMSE(MSE):
    """Root of the mean squared error of a volume, in the target's unit."""

    unit = "native"
    definition = "sqrt(mean((prediction - target)^2)), per volume"

    def score(self, prediction: np.ndarray, target: np.ndarray) -> float:
        return math.sqrt(super().score(prediction, target))


class NMSE(VoxelMetric):
    """Mean squared error relative to the target's variance: 0 is perfect, 1 is as good as the target's mean everywhere.

    NaN where the target is constant, since the ratio is then undefined.

    Source: the evaluation of Ha et al. (arXiv 2412.00575) divides by the variance; much other work divides by the
    energy, which depends on where the intensity scale has its zero. The two must not be mixed in one table.

    Args:
        norm: divide by the target's "variance", or by its "energy" (its mean square).
    """

    unit = ""
    higher_is_better = False

    def __init__(self, *, norm: Literal["variance", "energy"] = "variance") -> None:
        self.norm = norm
        divisor = "var(target)" if norm == "variance" else "mean(target^2)"
        self.definition = f"mean((prediction - target)^2) / {divisor}"

    def score(self, prediction: np.ndarray, target: np.ndarray) -> float:
        if self.norm == "variance":
            # A constant's variance may come out as rounding dust, hence the range.
            divisor = float(np.var(target)) if np.ptp(target) > 0 else 0.0
        else:
            divisor = float(np.mean(target**2))
        return float(np.mean((prediction - target) ** 2)) / divisor if divisor > 0 else math.nan


class PSNR(VoxelMetric):
    """Peak signal-to-noise ratio in dB, over all voxels of a volume at once.

    Infinite for identical volumes.

    Args:
        data_range: width of the range the target's intensities can take, not the range one image happens to have.
        range: intensities both volumes are clipped to, and whose width counts in place of `data_range`; null clips
            nothing.
    """

    unit = "dB"
    higher_is_better = True

    def __init__(
        self,
        data_range: float,
        *,
        range: tuple[float, float] | None = None,  # noqa: A002 -- the option's natural name
    ) -> None:
        self.limits = range
        self.data_range = data_range if range is None else width_of(range)
        clipped = "" if range is None else f", both clipped to [{range[0]:g}, {range[1]:g}]"
        self.definition = f"10 log10(R^2 / mean((prediction - target)^2)), R = {self.data_range:g}, per volume{clipped}"

    def score(self, prediction: np.ndarray, target: np.ndarray) -> float:
        if self.limits is not None:
            prediction, target = np.clip(prediction, *self.limits), np.clip(target, *self.limits)
        mean_squared_error = float(np.mean((prediction - target) ** 2))
        if mean_squared_error == 0:
            return math.inf
        return 10 * math.log10(self.data_range**2 / mean_squared_error)


class NCC(VoxelMetric):
    """Normalised cross-correlation of a whole volume, which is Pearson's correlation of its voxels; from -1 to 1.

    It forgives a wrong brightness and contrast. NaN where either volume is constant.
    """

    unit = ""
    higher_is_better = True
    definition = "cov(prediction, target) / (sd(prediction) sd(target)) over all voxels at once (Pearson)"

    def score(self, prediction: np.ndarray, target: np.ndarray) -> float:
        # A constant's variance may come out as rounding dust, hence the range.
        if np.ptp(prediction) == 0 or np.ptp(target) == 0:
            return math.nan
        prediction, target = prediction - prediction.mean(), target - target.mean()
        return float(prediction @ target / math.sqrt((prediction @ prediction) * (target @ target)))
