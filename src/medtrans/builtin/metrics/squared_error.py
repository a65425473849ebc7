"""Owns the mean squared error and its root."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medtrans import Metric
from medtrans.builtin.metrics import compared_voxels

__all__ = ["MSE", "RMSE"]


class MSE(Metric):
    """Mean squared error, in the square of the target's unit."""

    unit = "native^2"
    higher_is_better = False
    definition = "mean((prediction - target)^2)"

    def __call__(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        mask: np.ndarray | None,
        spacing_mm: Sequence[float],
    ) -> float:
        """Score `prediction` against `target`, both `(i, j, k)`, inside `mask`.

        Raises:
            DataError: the shapes differ, or the mask holds no voxel.
        """
        predicted, true = compared_voxels(prediction, target, mask)
        return float(np.mean((predicted - true) ** 2))


class RMSE(MSE):
    """Root of the mean squared error of a volume, in the target's unit."""

    unit = "native"
    definition = "sqrt(mean((prediction - target)^2)), per volume"

    def __call__(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        mask: np.ndarray | None,
        spacing_mm: Sequence[float],
    ) -> float:
        """Score `prediction` against `target`, both `(i, j, k)`, inside `mask`.

        Raises:
            DataError: the shapes differ, or the mask holds no voxel.
        """
        return math.sqrt(super().__call__(prediction, target, mask, spacing_mm))
