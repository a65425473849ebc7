"""Owns the peak signal-to-noise ratio."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medtrans import Metric
from medtrans.builtin.metrics import compared_voxels, width_of

__all__ = ["PSNR"]


class PSNR(Metric):
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

    def __call__(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        mask: np.ndarray | None,
        spacing_mm: Sequence[float],
    ) -> float:
        """Score `prediction` against `target`, both `(i, j, k)` in the unit of `data_range`, inside `mask`.

        Raises:
            DataError: the shapes differ, or the mask holds no voxel.
        """
        predicted, true = compared_voxels(prediction, target, mask)
        if self.limits is not None:
            predicted, true = np.clip(predicted, *self.limits), np.clip(true, *self.limits)
        mean_squared_error = float(np.mean((predicted - true) ** 2))
        if mean_squared_error == 0:
            return math.inf
        return 10 * math.log10(self.data_range**2 / mean_squared_error)
